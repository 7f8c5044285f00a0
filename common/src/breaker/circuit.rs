//! The rule of a breaker: what calls do to it and whether the next one may be made. It is told the
//! time and waits for nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::BreakerConfig;

/// The window moves on in so many steps.
const BUCKETS: u32 = 10;

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls are made.
    Closed,
    /// One call at a time finds out whether it may close.
    HalfOpen,
    /// Calls wait.
    Open,
}

impl State {
    /// As the metric shows it.
    #[must_use]
    pub const fn level(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted,
    /// Ask again then.
    NotBefore(Instant),
    /// Another call finds out. Ask again when it has.
    Probing,
}

#[derive(Debug)]
pub(super) struct Circuit {
    era: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Closed { window: Window, failures_in_row: u32 },
    Open { until: Instant },
    HalfOpen { is_probing: bool, successes: u32 },
}

impl Default for Circuit {
    fn default() -> Self {
        Self { era: 0, phase: closed() }
    }
}

fn closed() -> Phase {
    Phase::Closed { window: Window::default(), failures_in_row: 0 }
}

impl Circuit {
    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    pub(super) fn era(&self) -> u64 {
        self.era
    }

    fn turn(&mut self, phase: Phase) {
        self.era += 1;
        self.phase = phase;
    }

    /// What [`Self::admit`] would say.
    pub(super) fn looks(&self, now: Instant) -> Admission {
        match self.phase {
            Phase::Open { until } if now < until => Admission::NotBefore(until),
            Phase::HalfOpen { is_probing: true, .. } => Admission::Probing,
            Phase::Closed { .. } | Phase::Open { .. } | Phase::HalfOpen { .. } => {
                Admission::Admitted
            }
        }
    }

    /// Asks to make a call.
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        let admission = self.looks(now);
        if admission == Admission::Admitted {
            match &mut self.phase {
                Phase::Closed { .. } => {}
                Phase::Open { .. } => {
                    self.turn(Phase::HalfOpen { is_probing: true, successes: 0 });
                }
                Phase::HalfOpen { is_probing, .. } => *is_probing = true,
            }
        }
        admission
    }

    /// A call that was admitted in this era was not made.
    pub(super) fn give_back(&mut self, era: u64) {
        if let Phase::HalfOpen { is_probing, .. } = &mut self.phase
            && era == self.era
        {
            *is_probing = false;
        }
    }

    /// A call that was admitted in this era went well, or did not.
    pub(super) fn note(&mut self, config: &BreakerConfig, era: u64, is_good: bool, now: Instant) {
        if era != self.era {
            return;
        }
        let open = Phase::Open { until: now + Duration::from_millis(config.breaker_open_ms) };
        match &mut self.phase {
            Phase::Closed { window, failures_in_row } => {
                window.add(config, is_good, now);
                *failures_in_row = if is_good { 0 } else { *failures_in_row + 1 };
                let opens = *failures_in_row >= config.breaker_failures_in_row
                    || window.is_bad(config, now);
                if opens {
                    self.turn(open);
                }
            }
            Phase::HalfOpen { is_probing, successes } => {
                *is_probing = false;
                *successes += 1;
                let is_enough = *successes >= config.breaker_probes;
                match (is_good, is_enough) {
                    (false, _) => self.turn(open),
                    (true, true) => self.turn(closed()),
                    (true, false) => {}
                }
            }
            // Nothing is admitted in it.
            Phase::Open { .. } => {}
        }
    }
}

/// Calls of the last while, counted in buckets.
#[derive(Debug, Default)]
struct Window {
    buckets: [Bucket; BUCKETS as usize],
    newest: usize,
    began: Option<Instant>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Bucket {
    calls: u32,
    failed: u32,
}

impl Window {
    fn add(&mut self, config: &BreakerConfig, is_good: bool, now: Instant) {
        self.advance(config, now);
        if let Some(bucket) = self.buckets.get_mut(self.newest) {
            bucket.calls += 1;
            bucket.failed += u32::from(!is_good);
        }
    }

    /// Forgets the buckets that are as old as the window.
    fn advance(&mut self, config: &BreakerConfig, now: Instant) {
        let step = Duration::from_millis(config.breaker_window_ms.max(1)) / BUCKETS;
        let began = *self.began.get_or_insert(now);
        let passed = now.saturating_duration_since(began).as_nanos() / step.as_nanos().max(1);
        let steps = u32::try_from(passed).unwrap_or(u32::MAX);
        for _ in 0..steps.min(BUCKETS) {
            self.newest = (self.newest + 1) % self.buckets.len();
            if let Some(bucket) = self.buckets.get_mut(self.newest) {
                *bucket = Bucket::default();
            }
        }
        self.began = Some(if steps > BUCKETS { now } else { began + step * steps });
    }

    fn is_bad(&mut self, config: &BreakerConfig, now: Instant) -> bool {
        self.advance(config, now);
        let (mut calls, mut failed) = (0_u64, 0_u64);
        for bucket in &self.buckets {
            calls += u64::from(bucket.calls);
            failed += u64::from(bucket.failed);
        }
        calls >= u64::from(config.breaker_calls_min)
            && failed * 100 >= calls * u64::from(config.breaker_failed_percent)
    }
}
