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

/// What a gateway takes in one POST.
const POINTS_MAX: u32 = 100;

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
    /// What a line does that cannot keep up.
    pub when_late: WhenLate,
}

/// What becomes of pings that could not be sent at their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenLate {
    /// Each is sent by itself as soon as it can be: for measuring.
    Queue,
    /// A phone gathers them and sends them at its next turn, as phones do.
    Buffer,
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
    let drivers = u32::try_from(walkers.len()).unwrap_or(u32::MAX);
    let apart =
        Duration::try_from_secs_f64(f64::from(drivers) / pace.pings_per_s).unwrap_or_default();
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
            apart,
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
    /// Between two points of one driver.
    apart: Duration,
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
        let schedule = Schedule::new(Instant::now(), posts_per_s, self.number, self.pace.lines);
        let walkers = u32::try_from(share.len()).unwrap_or(u32::MAX).max(1);
        let mut turns = vec![0_u32; share.len()];
        let mut number = 0_u32;
        while let Some(intended) = schedule.at(number) {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep_until(intended) => {}
            }
            if self.pace.when_late == WhenLate::Buffer {
                // Whole rounds are left out; each phone makes up for its own.
                let rounds = schedule.missed(intended, Instant::now()) / walkers;
                number = number.saturating_add(rounds.saturating_mul(walkers));
            }
            let (round, at) = (number / walkers, (number % walkers) as usize);
            let (Some((walker, car)), Some(next)) = (share.get_mut(at), turns.get_mut(at)) else {
                break;
            };
            let missed = round.saturating_sub(*next);
            *next = round.saturating_add(1);
            let oldest = schedule.at(number.saturating_sub(missed.saturating_mul(walkers)));
            let points = self.pace.batch.saturating_mul(missed.saturating_add(1));
            self.post(walker, car, points.min(POINTS_MAX), oldest.unwrap_or(intended)).await;
            number = number.saturating_add(1);
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

    /// Posts the walker's next points. The latency counts from when the oldest was to be sent.
    async fn post(&mut self, walker: &mut Walker, car: &Car, points: u32, intended: Instant) {
        if walker.bearer.is_none() {
            self.fetch(walker).await;
        }
        let now = self.pace.epoch.elapsed();
        let count = u64::from(points);
        let points: Vec<Ping> = (0..points)
            .rev()
            .map(|back| walker.ping(car, now, self.apart * back, &mut self.rng))
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
        count_answer(&answer, count, &self.ears.journal, &self.ears.pulse);
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
