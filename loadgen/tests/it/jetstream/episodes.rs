//! What only time brings about. Each episode sets it up, lets the simulated broker run ahead, waits
//! until the real one has come as far, and leaves nothing behind that time could still change.

use std::time::Duration;

use async_nats::{HeaderMap, header, jetstream::AckKind};
use common::testing::{before_next_look, deadline};
use futures_util::future::join_all;
use loadgen::sim::jetstream::{Pull, Reader};
use tokio::time::Instant;

use super::{
    operation::{MORTAL, NAKS, PINS, REPEATED, WAITS},
    pair::{Compared, Difference, Pair, differ, published},
    real::Answer,
    settings::{ACK_WAIT, GROUP, PIN_TIMEOUT, SHORT_NAK, SHORT_PIN, SHORT_WAIT, WINDOW},
};

const SOON: Duration = Duration::from_millis(300);
const LIFE: Duration = Duration::from_secs(1);
/// Apart by more than a busy machine mixes up.
const NAK_DELAYS: [Duration; 2] = [Duration::from_millis(900), Duration::from_millis(300)];
const WAITS_LONG: Duration = deadline::FACT;

fn waiting(reader: u64, batch: u32) -> Pull {
    Pull {
        reader: Reader(reader),
        batch,
        expires: Some(WAITS_LONG),
        no_wait: false,
        group: None,
        pin: None,
    }
}

impl Pair {
    pub(super) async fn fire(&mut self, timers: usize, late: bool) -> Compared {
        let now = self.now();
        let at = if late { common::clock::Timestamp::from_micros(0) } else { now.plus(SOON) };
        let set = |timer: usize| {
            let mut headers = HeaderMap::new();
            headers.insert(header::NATS_SCHEDULE, format!("@at {at}"));
            headers.insert(header::NATS_SCHEDULE_TARGET, "e.due.a");
            headers.insert("own-header", "kept");
            headers.insert(header::NATS_EXPECTED_STREAM, "EVENTS");
            headers.insert(header::NATS_MESSAGE_ID, format!("timer-{}-{timer}", now.micros()));
            (format!("e.timer.soon.{timer}"), headers)
        };
        // All at once: one of them may not fire before the next is set.
        let set: Vec<(String, HeaderMap)> = (0..timers).map(set).collect();
        let real = set
            .iter()
            .map(|(subject, headers)| self.real.publish(subject, headers.clone(), "due".into()));
        let real = join_all(real).await;
        for ((subject, headers), real) in set.into_iter().zip(real) {
            let simulated = self.sim.publish(now, &subject, headers, "due".into());
            differ("timer set", &real, &published(simulated))?;
        }
        self.run_ahead(at.max(now).plus(2 * SOON));
        self.compare().await
    }

    pub(super) async fn expire(&mut self, messages: usize) -> Compared {
        for _ in 0..messages {
            let mut headers = HeaderMap::new();
            headers.insert(header::NATS_MESSAGE_TTL, "1s");
            self.send(MORTAL.1, headers, 8).await?;
        }
        let end = self.now().plus(LIFE);
        self.run_ahead(end);
        self.compare().await
    }

    pub(super) async fn window(&mut self) -> Compared {
        let now = self.now();
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_MESSAGE_ID, format!("again-{}", now.micros()));
        self.send(REPEATED.1, headers.clone(), 8).await?;
        let end = self.now().plus(WINDOW);
        self.run_ahead(end);
        let until = Instant::now() + self.patience;
        // Until the window is over the real server stores nothing, so asking changes nothing.
        let real = loop {
            let answer = self.real.publish(REPEATED.1, headers.clone(), "again".into()).await;
            let is_duplicate = matches!(answer, Answer::Stored { duplicate: true, .. });
            if !is_duplicate || Instant::now() >= until {
                break answer;
            }
            before_next_look().await;
        };
        let now = self.now();
        let simulated = self.sim.publish(now, REPEATED.1, headers, "again".into());
        differ("published after the window", &real, &published(simulated))
    }

    pub(super) async fn ack_wait(&mut self, messages: u32, answered: u32) -> Compared {
        for _ in 0..messages {
            self.send(WAITS.1, HeaderMap::new(), 8).await?;
        }
        self.compare().await?;
        self.fetch(SHORT_WAIT, messages).await?;
        self.compare_outputs().await?;
        for _ in 0..answered {
            self.settle_last(SHORT_WAIT, AckKind::Ack).await?;
        }
        let left = messages - answered;
        self.run_ahead_of_ack_wait();
        self.ask(SHORT_WAIT, &waiting(0, left), None).await?;
        self.compare_outputs().await?;
        for _ in 0..left {
            self.settle_last(SHORT_WAIT, AckKind::Ack).await?;
        }
        Ok(())
    }

    fn run_ahead_of_ack_wait(&mut self) {
        let end = self.now().plus(2 * ACK_WAIT);
        self.run_ahead(end);
    }

    /// Answers what was handed out last, on both sides, and forgets it.
    async fn settle_last(&mut self, consumer: usize, kind: AckKind) -> Compared {
        let reads = self.consumers[consumer].clone();
        let Some(given) = self.in_hand.get_mut(reads.name).and_then(Vec::pop) else {
            return Err(Difference(format!("nothing in hand of {}", reads.name)));
        };
        let now = self.now();
        let simulated = self.sim.answer(now, reads.stream, reads.name, given.receipt, kind);
        simulated.map_err(|err| Difference(err.to_string()))?;
        self.real.answer(&given.reply, kind).await;
        Ok(())
    }

    pub(super) async fn nak_delays(&mut self) -> Compared {
        for _ in 0..3 {
            self.send(NAKS.1, HeaderMap::new(), 8).await?;
        }
        self.compare().await?;
        self.fetch(SHORT_NAK, 3).await?;
        self.compare_outputs().await?;
        let reads = self.consumers[SHORT_NAK].clone();
        let given = self.in_hand.remove(reads.name).unwrap_or_default();
        let delays = [Some(NAK_DELAYS[0]), Some(NAK_DELAYS[1]), None];
        let now = self.now();
        let given = given.iter().rev().take(3).rev();
        let mut answers = Vec::new();
        for (given, delay) in given.zip(delays) {
            let kind = AckKind::Nak(delay);
            let simulated = self.sim.answer(now, reads.stream, reads.name, given.receipt, kind);
            simulated.map_err(|err| Difference(err.to_string()))?;
            answers.push((given.reply.clone(), kind));
        }
        self.real.answer_together(answers).await;
        self.run_ahead(now.plus(2 * NAK_DELAYS[0]));
        self.ask(SHORT_NAK, &waiting(0, 3), None).await?;
        self.compare_outputs().await?;
        for _ in 0..3 {
            self.settle_last(SHORT_NAK, AckKind::Ack).await?;
        }
        Ok(())
    }

    /// The first reader gets the pin and pulls no more; when it has lapsed, the second one gets what
    /// is published then.
    pub(super) async fn pin_lapse(&mut self) -> Compared {
        let group = || Some(GROUP.to_owned());
        self.ask(SHORT_PIN, &Pull { group: group(), ..waiting(1, 1) }, None).await?;
        self.send(PINS.1, HeaderMap::new(), 8).await?;
        self.compare_outputs().await?;
        self.settle_last(SHORT_PIN, AckKind::Ack).await?;
        self.ask(SHORT_PIN, &Pull { group: group(), ..waiting(2, 1) }, None).await?;
        self.send(PINS.1, HeaderMap::new(), 8).await?;
        let lapsed = self.now().plus(PIN_TIMEOUT);
        self.run_ahead(lapsed);
        self.compare_outputs().await?;
        self.settle_last(SHORT_PIN, AckKind::Ack).await?;
        // Nobody's pin is left for the next episode.
        let lapsed = self.now().plus(PIN_TIMEOUT);
        self.run_ahead(lapsed);
        let now = self.now();
        let reads = self.consumers[SHORT_PIN].clone();
        self.sim.unpin(now, reads.stream, reads.name).map_err(|err| Difference(err.to_string()))?;
        self.real.unpin(reads.stream, reads.name, GROUP).await;
        Ok(())
    }

    pub(super) async fn restart(&mut self) -> Compared {
        let now = self.now();
        self.sim.go_down(now, loadgen::sim::jetstream::Down::Stopped);
        self.real.restart().await;
        let now = self.now();
        self.sim.start(now);
        self.sim.take_outputs();
        Ok(())
    }
}
