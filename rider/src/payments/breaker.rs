//! A circuit breaker: after some failures in a row nobody calls for a while, and then one tries for
//! all. Who may not call waits, so that an outage uses up no message's tries.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 5;
/// How long nobody calls.
const OPEN_FOR: Duration = Duration::from_secs(2);
/// How long a probe may take before another one may try: its caller may have been dropped.
const PROBE_MAX: Duration = Duration::from_secs(30);

/// One dependency's breaker.
#[derive(Debug, Default)]
pub struct Breaker {
    circuit: Mutex<Circuit>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy)]
enum Circuit {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing { until: Instant },
}

impl Default for Circuit {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// Waits until a call may be made. Each pass is followed by a [`Self::note`].
    pub async fn pass(&self) {
        loop {
            let changed = self.changed.notified();
            let until = match self.try_pass(Instant::now()) {
                Ok(()) => return,
                Err(until) => until,
            };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    fn try_pass(&self, now: Instant) -> Result<(), Instant> {
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        match *circuit {
            Circuit::Closed { .. } => Ok(()),
            Circuit::Open { until } | Circuit::Probing { until } if now < until => Err(until),
            Circuit::Open { .. } | Circuit::Probing { .. } => {
                *circuit = Circuit::Probing { until: now + PROBE_MAX };
                Ok(())
            }
        }
    }

    /// Takes note of how a call went.
    pub fn note(&self, is_success: bool) {
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        *circuit = match (*circuit, is_success) {
            (_, true) => Circuit::Closed { failures: 0 },
            (Circuit::Closed { failures }, false) if failures + 1 < FAILURES_MAX => {
                Circuit::Closed { failures: failures + 1 }
            }
            (Circuit::Open { until }, false) => Circuit::Open { until },
            (Circuit::Closed { .. } | Circuit::Probing { .. }, false) => {
                tracing::warn!("the payment provider does not answer, calls wait");
                Circuit::Open { until: Instant::now() + OPEN_FOR }
            }
        };
        drop(circuit);
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::{Breaker, FAILURES_MAX, OPEN_FOR};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn after_some_failures_in_a_row_calls_wait_and_then_one_tries_for_all() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES_MAX {
            breaker.pass().await;
            breaker.note(false);
        }
        let opened = Instant::now();
        breaker.pass().await;
        assert!(opened.elapsed() >= OPEN_FOR);
        // The probe is out: nobody else may call.
        assert!(breaker.try_pass(Instant::now()).is_err());
        breaker.note(true);
        assert!(breaker.try_pass(Instant::now()).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_forgets_the_failures_before_it() {
        let breaker = Breaker::default();
        for failure in 0..FAILURES_MAX * 2 {
            breaker.note(failure % 2 == 0);
        }
        assert!(breaker.try_pass(Instant::now()).is_ok());
    }
}
