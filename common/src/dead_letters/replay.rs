//! Sends letters back to the consumers that gave them up, carefully: one first, and only when that
//! was handled the others, at a rate; and no more when too many of them fail again. Sending one
//! twice changes nothing: it has the id that it had.

use std::{collections::BTreeMap, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{message::PublishMessage, stream::DirectGetErrorKind},
};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Filter, Letter, OperationError, State,
    discard::select,
    dlq,
    resolution::{Order, Outcome, Resolution},
    run::{Run, Status},
};
use crate::{
    nats::{self, Nats},
    stream::{self, TRIES_MAX, WORKER_IN_FLIGHT},
    subject,
    view::{self, CaughtUp, Start, ViewSpec},
};

/// Letters sent back each second, if nothing else is said.
pub const RATE_DEFAULT: u32 = 50;
/// Letters sent back each second at most: live messages come first.
pub const RATE_MAX: u32 = 500;
/// One order sends so many letters back at most.
const REPLAYED_MAX: usize = 100_000;
/// A run is given up when more than this share of the letters fails again, in percent …
const FAILED_PERCENT_MAX: u64 = 10;
/// … of at least so many.
const SETTLED_MIN: u64 = 10;
/// Outcomes that may wait to be counted.
const OUTCOMES_MAX: usize = 1_024;
/// How often the progress of a run is put on record.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// Which letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// Those that a filter takes.
    Filter(Filter),
    /// These.
    Sequences(Vec<u64>),
}

/// An order to send letters back.
#[derive(Debug, Clone)]
pub struct Replay {
    /// Who and why.
    pub order: Order,
    /// Which letters.
    pub selection: Selection,
    /// How many each second.
    pub rate_per_s: u32,
    /// Also those that were handled or discarded before.
    pub again: bool,
}

impl Replay {
    fn takes(&self, letter: &Letter) -> bool {
        letter.state.is_open() || (self.again && letter.state != State::Replaying)
    }
}

/// Carries an order out and says what came of it. Dropping it stops it; what was sent stays sent.
///
/// # Errors
/// When the broker cannot be asked at the beginning or told at the end. Ordering it again is safe.
pub async fn replay(
    nats: &Nats,
    replay: Replay,
    shutdown: CancellationToken,
) -> Result<Run, OperationError> {
    let mut run = Run::new(replay.order.clone(), nats.clock.now());
    let letters = Box::pin(select(nats, &replay.selection, REPLAYED_MAX)).await?;
    let letters: Vec<_> = letters.into_iter().filter(|letter| replay.takes(letter)).collect();
    run.selected = u64::try_from(letters.len()).unwrap_or(u64::MAX);
    let now = nats.clock.now();
    let mut by_consumer: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
    for letter in &letters {
        let is_expired = letter.expires_at.is_some_and(|at| at <= now);
        match letter.returns_to().filter(|_| !is_expired) {
            Some(consumer) => by_consumer.entry(consumer).or_default().push(letter.sequence),
            None => run.unsendable += 1,
        }
    }
    tracing::info!(by = run.order.by, run = %run.order.run, count = run.selected, "replay begins");
    run.keep(nats).await?;
    let (outcomes, known) = mpsc::channel(OUTCOMES_MAX);
    let end = dlq(nats).await?.get_info().await.map_err(anyhow::Error::from)?.state.last_sequence;
    let stop = shutdown.child_token();
    let listening = listen(nats, run.order.run, end, outcomes, stop.clone());
    let mut sender = Sender { nats, replay: &replay, run, known, kept_at: Instant::now() };
    let sending = async {
        let sending = Box::pin(sender.send_all(&by_consumer));
        let sent = shutdown.run_until_cancelled(sending).await;
        stop.cancel();
        sent.unwrap_or_else(|| Ok(Some("the service stopped".to_owned())))
    };
    let (sent, listened) = tokio::join!(sending, Box::pin(listening));
    listened?;
    let why = sent.unwrap_or_else(|err| Some(err.to_string()));
    let mut run = sender.run;
    run.status = if why.is_some() { Status::Stopped } else { Status::Done };
    run.why = why;
    run.keep(nats).await?;
    tracing::info!(
        by = run.order.by,
        run = %run.order.run,
        handled = run.handled,
        failed = run.failed,
        why = run.why.as_deref().unwrap_or_default(),
        "replay ends",
    );
    Ok(run)
}

/// Hears what becomes of the letters of a run.
async fn listen(
    nats: &Nats,
    run: uuid::Uuid,
    after: u64,
    outcomes: mpsc::Sender<Resolution>,
    stop: CancellationToken,
) -> Result<(), OperationError> {
    let spec = ViewSpec {
        stream: stream::DLQ,
        filter: subject::RESOLUTIONS.to_owned(),
        start: Start::After(after),
    };
    let caught_up = CaughtUp::default();
    let followed = view::follow(nats, spec, &caught_up, stop, |stored| {
        let resolution = Resolution::read(&stored.headers).ok();
        let outcomes = outcomes.clone();
        async move {
            match resolution.filter(|resolution| resolution.order.run == run) {
                Some(resolution) => Ok(outcomes.send(resolution).await?),
                None => Ok(()),
            }
        }
    });
    Ok(followed.await?)
}

struct Sender<'a> {
    nats: &'a Nats,
    replay: &'a Replay,
    run: Run,
    known: mpsc::Receiver<Resolution>,
    kept_at: Instant,
}

impl Sender<'_> {
    /// Sends letters of one consumer after the other. Says why it stopped early.
    async fn send_all(
        &mut self,
        by_consumer: &BTreeMap<&'static str, Vec<u64>>,
    ) -> Result<Option<String>, OperationError> {
        for (consumer, letters) in by_consumer {
            if let Some(why) = self.send_to(consumer, letters).await? {
                return Ok(Some(format!("{consumer}: {why}")));
            }
        }
        Ok(None)
    }

    async fn send_to(
        &mut self,
        consumer: &str,
        letters: &[u64],
    ) -> Result<Option<String>, OperationError> {
        let failed_before = self.run.failed;
        self.run.status = Status::Canary;
        let pause = Duration::from_secs(1) / self.replay.rate_per_s.clamp(1, RATE_MAX);
        let mut ticks = tokio::time::interval(pause);
        let window = u64::try_from(WORKER_IN_FLIGHT).unwrap_or(1);
        for letter in letters {
            ticks.tick().await;
            let is_sent = self.send(consumer, *letter).await?;
            let is_canary = is_sent && self.run.status == Status::Canary;
            let may_be_out = if is_canary { 0 } else { window };
            let why = self.wait_until(self.run.sent.saturating_sub(may_be_out)).await?;
            if let Some(why) = why.or_else(|| self.too_many_failed()) {
                return Ok(Some(why));
            }
            if is_canary {
                if self.run.failed > failed_before {
                    return Ok(Some(format!("letter {letter}, sent first, failed again")));
                }
                self.run.status = Status::Sending;
            }
        }
        let unanswered = self.wait_until(self.run.sent).await?;
        Ok(unanswered.or_else(|| self.too_many_failed()))
    }

    fn too_many_failed(&self) -> Option<String> {
        let (failed, settled) = (self.run.failed, self.run.settled());
        (settled >= SETTLED_MIN && failed * 100 > settled * FAILED_PERCENT_MAX)
            .then(|| format!("{failed} of {settled} failed again"))
    }

    /// Sends one letter back, unless it is on its way already. Says whether it did.
    async fn send(&mut self, consumer: &str, letter: u64) -> Result<bool, OperationError> {
        let found = match dlq(self.nats).await?.direct_get(letter).await {
            Ok(found) => found,
            // Too old, since a moment ago.
            Err(err) if err.kind() == DirectGetErrorKind::NotFound => return Ok(false),
            Err(err) => return Err(OperationError::Unavailable(err.into())),
        };
        let headers = self.headers(&found.subject, &found.headers)?;
        let message = PublishMessage::build()
            .payload(found.payload)
            .headers(headers)
            .expected_last_subject_sequence(0);
        let subject = subject::replay(consumer, letter);
        let published = match self.nats.jetstream.send_publish(subject, message).await {
            Ok(ack) => ack.await.map(|_| ()),
            Err(err) => Err(err),
        };
        match published {
            Ok(()) => self.run.sent += 1,
            Err(err) if nats::is_wrong_sequence(&err) => return Ok(false),
            Err(err) => return Err(OperationError::Unavailable(err.into())),
        }
        self.keep_now_and_then().await?;
        Ok(true)
    }

    fn headers(&self, subject: &str, letter: &HeaderMap) -> Result<HeaderMap, OperationError> {
        let origin = super::Origin::of_letter(subject)
            .ok_or_else(|| crate::contract::Malformed::new("letter", subject))?;
        let mut headers = HeaderMap::new();
        for (name, values) in letter.iter() {
            if !AsRef::<str>::as_ref(name).starts_with("Nats-") {
                for value in values {
                    headers.append(name.clone(), value.clone());
                }
            }
        }
        origin.write(&mut headers);
        self.replay.order.write(&mut headers);
        Ok(headers)
    }

    /// Waits until it is known what became of so many letters. Says why it gave up waiting.
    async fn wait_until(&mut self, settled: u64) -> Result<Option<String>, OperationError> {
        while let Ok(resolution) = self.known.try_recv() {
            self.count(&resolution);
        }
        while self.run.settled() < settled {
            let within = self.longest_answer();
            match tokio::time::timeout(within, self.known.recv()).await {
                Ok(Some(resolution)) => self.count(&resolution),
                Ok(None) => return Ok(Some("outcomes are not heard any more".to_owned())),
                Err(_) => return Ok(Some(format!("no answer within {within:?}"))),
            }
            self.keep_now_and_then().await?;
        }
        Ok(None)
    }

    fn count(&mut self, resolution: &Resolution) {
        match resolution.outcome {
            Outcome::Handled => self.run.handled += 1,
            Outcome::Failed => self.run.failed += 1,
            Outcome::Discarded => {}
        }
    }

    /// How long a letter can take that fails five times, slowly.
    fn longest_answer(&self) -> Duration {
        let consuming = self.nats.consuming;
        let tries = u32::try_from(TRIES_MAX).unwrap_or(u32::MAX);
        let handling = consuming.handling_max(stream::ConsumerKind::Worker) * tries;
        handling + consuming.retry_first() * (1 << tries) + stream::PIN_TIMEOUT * tries
    }

    async fn keep_now_and_then(&mut self) -> Result<(), OperationError> {
        if self.kept_at.elapsed() >= KEEP_EVERY {
            self.kept_at = Instant::now();
            self.run.keep(self.nats).await?;
        }
        Ok(())
    }
}
