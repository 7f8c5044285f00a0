//! Many walkers on a few lines: each line sends for its share of the drivers, in turn, at the
//! intended times.

use std::{sync::Arc, time::Duration};

use hyper::Method;
use rand::{SeedableRng, rngs::ChaCha8Rng};
use serde::Deserialize;
use tokio::{sync::Barrier, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    schedule::{Schedule, latency},
    walker::{Ping, Walker},
};
use crate::{
    city::motion::Car,
    client::{Answer, Ask, Line, NoAnswer, Role, Service, fetch_token},
    journal::Journal,
    pulse::Pulse,
    report::Latencies,
};

/// A gateway that is not up yet is asked for a token again after this.
const TOKEN_RETRY: Duration = Duration::from_millis(250);

/// How the walkers of a fleet send.
#[derive(Debug, Clone)]
pub struct Pace {
    /// The driver gateway.
    pub service: Service,
    /// Pings a second of all lines together.
    pub pings_per_s: f64,
    /// Points in a POST.
    pub batch: u32,
    /// Connections.
    pub lines: usize,
    /// What the lines' own dice start from.
    pub seed: u64,
    /// When the cars set off.
    pub epoch: Instant,
}

/// What a fleet needs of its surroundings.
#[derive(Debug, Clone)]
pub struct Ears {
    /// Where answers are counted.
    pub journal: Journal,
    /// Where refusals are counted.
    pub pulse: Arc<Pulse>,
    /// Stops the fleet.
    pub shutdown: CancellationToken,
}

/// What the gateway answers.
#[derive(Debug, Deserialize)]
pub struct PingReceipt {
    /// Points that were stored.
    pub accepted: u64,
    /// Points that were not.
    #[serde(default)]
    pub rejected: Vec<serde_json::Value>,
}

/// Sends until the shutdown; gives the latencies of the answers. Nothing is sent before every
/// driver has a token, so that the rate is right from the first ping; `started` hears of it.
///
/// # Errors
/// When a line cannot be set up.
pub async fn send(
    pace: Pace,
    walkers: Vec<(Walker, Car)>,
    ears: Ears,
    started: impl FnOnce(),
) -> anyhow::Result<Latencies> {
    let count = pace.lines.clamp(1, walkers.len().max(1));
    let mut shares: Vec<Vec<(Walker, Car)>> = (0..count).map(|_| Vec::new()).collect();
    for (number, walker) in walkers.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(number % count) {
            share.push(walker);
        }
    }
    let ready = Arc::new(Barrier::new(count + 1));
    let mut lines = tokio::task::JoinSet::new();
    for (number, share) in shares.into_iter().enumerate() {
        let sender = Sender {
            line: Line::new(&pace.service)?,
            rng: ChaCha8Rng::seed_from_u64(pace.seed.wrapping_add(number as u64)),
            pace: Pace { lines: count, ..pace.clone() },
            number,
            ears: ears.clone(),
            latencies: Latencies::new(),
        };
        lines.spawn(sender.run(share, Arc::clone(&ready)));
    }
    tokio::select! {
        _ = ready.wait() => started(),
        () = ears.shutdown.cancelled() => {}
    }
    let mut latencies = Latencies::new();
    while let Some(line) = lines.join_next().await {
        latencies.add(&line?);
    }
    Ok(latencies)
}

struct Sender {
    line: Line,
    pace: Pace,
    number: usize,
    ears: Ears,
    rng: ChaCha8Rng,
    latencies: Latencies,
}

impl Sender {
    async fn run(mut self, mut share: Vec<(Walker, Car)>, ready: Arc<Barrier>) -> Latencies {
        let shutdown = self.ears.shutdown.clone();
        tokio::select! {
            () = self.prepare(&mut share, &ready) => {}
            () = shutdown.cancelled() => return self.latencies,
        }
        let posts_per_s = self.pace.pings_per_s / f64::from(self.pace.batch.max(1));
        let mut schedule = Schedule::new(Instant::now(), posts_per_s, self.number, self.pace.lines);
        let mut turn = 0;
        while let Some(intended) = schedule.next_intended() {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep_until(intended) => {}
            }
            let Some((walker, car)) = share.get_mut(turn) else { break };
            self.post(walker, car, intended).await;
            turn = (turn + 1) % share.len();
        }
        self.latencies
    }

    async fn prepare(&mut self, share: &mut [(Walker, Car)], ready: &Barrier) {
        for (walker, _) in share {
            while walker.bearer.is_none() {
                self.fetch(walker).await;
            }
        }
        ready.wait().await;
    }

    async fn fetch(&mut self, walker: &mut Walker) {
        match fetch_token(&mut self.line, Role::Driver, walker.driver).await {
            Ok(bearer) => walker.bearer = Some(bearer),
            Err(err) => {
                tracing::debug!(%err, "no token yet");
                tokio::time::sleep(TOKEN_RETRY).await;
            }
        }
    }

    async fn post(&mut self, walker: &mut Walker, car: &Car, intended: Instant) {
        if walker.bearer.is_none() {
            self.fetch(walker).await;
        }
        let now = self.pace.epoch.elapsed();
        let apart = Duration::from_secs_f64(1.0 / self.pace.pings_per_s.max(1.0));
        let points: Vec<Ping> = (0..self.pace.batch)
            .rev()
            .map(|back| walker.ping(car, now, apart * back, &mut self.rng))
            .collect();
        let ask = ping_ask(walker.body(&points));
        let sent = Instant::now();
        let answer = self.line.send(&ask, walker.bearer.as_ref()).await;
        if answer.as_ref().is_ok_and(Answer::is_success) {
            self.latencies.record(latency(intended, sent, Instant::now()));
        }
        if answer.as_ref().is_ok_and(|answer| answer.status == 401) {
            walker.bearer = None;
        }
        count_answer(&answer, u64::from(self.pace.batch), &self.ears.journal, &self.ears.pulse);
    }
}

/// A POST of pings.
#[must_use]
pub fn ping_ask(body: bytes::Bytes) -> Ask {
    Ask { method: Method::POST, path: "/v1/driver/locations".to_owned(), key: None, body }
}

/// Counts what became of a POST of pings.
pub fn count_answer(
    answer: &Result<Answer, NoAnswer>,
    points: u64,
    journal: &Journal,
    pulse: &Pulse,
) {
    match answer {
        Ok(answer) if answer.is_success() => match answer.parse::<PingReceipt>() {
            Ok(receipt) => {
                journal.pings().answered(receipt.accepted, receipt.rejected.len() as u64);
            }
            Err(_) => journal.pings().unknown(points),
        },
        Ok(answer) => {
            journal.pings().refused(points);
            let request = "POST /v1/driver/locations".to_owned();
            pulse.refused(false, request, answer.status, &answer.code());
        }
        Err(NoAnswer::NotSent(_)) => journal.pings().unsent(points),
        Err(NoAnswer::Unknown(_)) => journal.pings().unknown(points),
    }
}
