//! A circuit breaker for one dependency. While it does not answer nobody calls it, and after a while
//! one call tries for all. Who may not call waits, so that an outage uses up no message's tries.

mod circuit;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

pub use self::circuit::State;
use self::circuit::{Admission, Circuit};
use crate::metrics;

/// When a breaker opens, and how it closes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct BreakerConfig {
    /// Calls that are older than this do not count.
    #[arg(long, env = "BREAKER_WINDOW_MS", default_value_t = BreakerConfig::DEFAULT.breaker_window_ms)]
    pub breaker_window_ms: u64,
    /// So many calls in the window at least, before their share of failures says anything.
    #[arg(long, env = "BREAKER_CALLS_MIN", default_value_t = BreakerConfig::DEFAULT.breaker_calls_min)]
    pub breaker_calls_min: u32,
    /// The share of failed or slow calls, in percent, that opens it.
    #[arg(long, env = "BREAKER_FAILED_PERCENT", default_value_t = BreakerConfig::DEFAULT.breaker_failed_percent,
        value_parser = clap::value_parser!(u32).range(1..=100))]
    pub breaker_failed_percent: u32,
    /// So many failures in a row open it, however few calls there are: not more than a message has
    /// tries, or an outage in a quiet hour would use them up.
    #[arg(long, env = "BREAKER_FAILURES_IN_ROW", default_value_t = BreakerConfig::DEFAULT.breaker_failures_in_row,
        value_parser = clap::value_parser!(u32).range(1..=5))]
    pub breaker_failures_in_row: u32,
    /// How long nobody calls once it is open.
    #[arg(long, env = "BREAKER_OPEN_MS", default_value_t = BreakerConfig::DEFAULT.breaker_open_ms)]
    pub breaker_open_ms: u64,
    /// How many calls in a row have to go well, one after the other, until it closes.
    #[arg(long, env = "BREAKER_PROBES", default_value_t = BreakerConfig::DEFAULT.breaker_probes,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub breaker_probes: u32,
    /// A call that takes longer counts as failed, whatever it says in the end.
    #[arg(long, env = "BREAKER_SLOW_MS", default_value_t = BreakerConfig::DEFAULT.breaker_slow_ms)]
    pub breaker_slow_ms: u64,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl BreakerConfig {
    const DEFAULT: Self = Self {
        breaker_window_ms: 10_000,
        breaker_calls_min: 20,
        breaker_failed_percent: 50,
        breaker_failures_in_row: 5,
        breaker_open_ms: 1_000,
        breaker_probes: 1,
        breaker_slow_ms: 2_000,
    };

    fn slow(&self) -> Duration {
        Duration::from_millis(self.breaker_slow_ms)
    }
}

/// One dependency's breaker; cheap to clone and to share.
#[derive(Debug, Clone)]
pub struct Breaker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dependency: &'static str,
    config: BreakerConfig,
    circuit: Mutex<Circuit>,
    changed: Notify,
}

/// Leave to make one call. Dropped without a word it counts as no call.
#[derive(Debug)]
#[must_use = "the breaker learns from how the call went"]
pub struct Pass {
    breaker: Breaker,
    /// Of which time of the circuit: what was let through before a change says nothing after it.
    era: u64,
    started: Instant,
    is_noted: bool,
}

impl Breaker {
    /// Closed. `dependency` is its label in [`metrics::BREAKER_STATE`].
    #[must_use]
    pub fn new(dependency: &'static str, config: BreakerConfig) -> Self {
        let circuit = Mutex::new(Circuit::default());
        let shared = Shared { dependency, config, circuit, changed: Notify::new() };
        shared.show(State::Closed);
        Self(Arc::new(shared))
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.circuit().state()
    }

    /// Waits until a call may be made.
    pub async fn pass(&self) -> Pass {
        loop {
            // Made before the look, so that no change is missed between the two.
            let changed = self.0.changed.notified();
            let retry_at = match self.try_pass() {
                Ok(pass) => return pass,
                Err(retry_at) => retry_at,
            };
            wait(changed, retry_at).await;
        }
    }

    fn try_pass(&self) -> Result<Pass, Option<Instant>> {
        let now = Instant::now();
        let mut circuit = self.0.circuit();
        let before = circuit.state();
        let admission = circuit.admit(now);
        let after = circuit.state();
        let era = circuit.era();
        drop(circuit);
        self.0.changed(before, after);
        match admission {
            Admission::Admitted => {
                Ok(Pass { breaker: self.clone(), era, started: now, is_noted: false })
            }
            Admission::NotBefore(at) => Err(Some(at)),
            Admission::Probing => Err(None),
        }
    }

    /// Waits until a call could be made: for who must not even ask for work before.
    pub async fn opened(&self) {
        loop {
            let changed = self.0.changed.notified();
            let retry_at = match self.0.circuit().looks(Instant::now()) {
                Admission::Admitted => return,
                Admission::NotBefore(at) => Some(at),
                Admission::Probing => None,
            };
            wait(changed, retry_at).await;
        }
    }

    /// Waits until it is closed.
    pub async fn closed(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.state() == State::Closed {
                return;
            }
            changed.await;
        }
    }

    /// Waits until calls have to wait.
    pub async fn shut(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.0.circuit().looks(Instant::now()) != Admission::Admitted {
                return;
            }
            changed.await;
        }
    }
}

async fn wait(changed: impl Future<Output = ()>, retry_at: Option<Instant>) {
    match retry_at {
        Some(at) => tokio::select! {
            () = changed => {}
            () = tokio::time::sleep_until(at) => {}
        },
        None => changed.await,
    }
}

impl Shared {
    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, before: State, after: State) {
        if before == after {
            return;
        }
        self.show(after);
        let dependency = self.dependency;
        match after {
            State::Open => tracing::warn!(dependency, "it does not answer well, calls wait"),
            State::HalfOpen => tracing::debug!(dependency, "one call tries for all"),
            State::Closed => tracing::info!(dependency, "it answers again"),
        }
        self.changed.notify_waiters();
    }

    fn show(&self, state: State) {
        metrics::BREAKER_STATE.with(&[("dependency", self.dependency)]).set(state.level());
    }
}

impl Pass {
    /// Says how the call went. `false` means that the dependency failed, not that it refused.
    pub fn note(mut self, is_success: bool) {
        self.is_noted = true;
        let shared = &self.breaker.0;
        let now = Instant::now();
        let is_slow = now.saturating_duration_since(self.started) > shared.config.slow();
        let outcome = match (is_success, is_slow) {
            (true, false) => "success",
            (true, true) => "slow",
            (false, _) => "failure",
        };
        let labels = [("dependency", shared.dependency), ("outcome", outcome)];
        metrics::BREAKER_CALLS.with(&labels).increment(1);
        let mut circuit = shared.circuit();
        let before = circuit.state();
        circuit.note(&shared.config, self.era, is_success && !is_slow, now);
        let after = circuit.state();
        drop(circuit);
        shared.changed(before, after);
        // Between two probes the state stays what it is, and the next one waits for its turn.
        if after == State::HalfOpen {
            shared.changed.notify_waiters();
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.is_noted {
            self.breaker.0.circuit().give_back(self.era);
            self.breaker.0.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
