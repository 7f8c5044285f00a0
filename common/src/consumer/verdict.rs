//! What happens to a message after its handler answered: the rule alone, which the loops carry out.

use std::time::Duration;

use super::Failure;
use crate::stream::TRIES_MAX;

/// The first pause after a transient failure; it doubles with every try.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// What happens next to a message.
#[derive(Debug)]
pub enum Verdict {
    /// It is done.
    Ack,
    /// It comes again. A worker hands it back with this delay; a lane waits in place.
    Retry {
        /// Not before.
        after: Duration,
        /// Why it was not handled.
        err: anyhow::Error,
    },
    /// A full copy goes to the DLQ, and then it is done.
    Bury {
        /// Why it cannot be handled.
        err: anyhow::Error,
    },
}

/// Judges how a handler's `attempt` (1 is the first) at the message of this sequence went.
#[must_use]
pub fn verdict(handled: Result<(), Failure>, attempt: i64, sequence: u64) -> Verdict {
    match handled {
        Ok(()) => Verdict::Ack,
        Err(Failure::Transient(err)) if attempt < TRIES_MAX => {
            Verdict::Retry { after: backoff(attempt, sequence), err }
        }
        Err(Failure::Transient(err) | Failure::Permanent(err)) => Verdict::Bury { err },
    }
}

/// 1, 2, 4, 8, 16 s and up to a quarter more, so that what failed together does not return
/// together. The sequence is chance enough.
fn backoff(attempt: i64, sequence: u64) -> Duration {
    let exponent = u32::try_from((attempt - 1).clamp(0, 4)).unwrap_or(0);
    let base = BACKOFF_FIRST * (1 << exponent);
    let quarter = u64::try_from(base.as_millis() / 4).unwrap_or(1).max(1);
    base + Duration::from_millis(sequence.wrapping_mul(7919) % quarter)
}

#[cfg(test)]
mod tests {
    use super::{BACKOFF_FIRST, Verdict, backoff, verdict};
    use crate::{consumer::Failure, stream::TRIES_MAX};

    #[test]
    fn pauses_double_and_stay_within_a_quarter_more() {
        for attempt in 1..=5 {
            let base = BACKOFF_FIRST * (1 << (attempt - 1));
            for sequence in 0..100 {
                let pause = backoff(attempt, sequence);
                assert!(base <= pause && pause <= base + base / 4, "{attempt} {pause:?}");
            }
        }
    }

    #[test]
    fn a_transient_failure_is_tried_five_times_and_a_permanent_one_once() {
        let transient = || Err(Failure::Transient(anyhow::anyhow!("away")));
        let permanent = || Err(Failure::Permanent(anyhow::anyhow!("malformed")));
        assert!(matches!(verdict(Ok(()), 1, 1), Verdict::Ack));
        for attempt in 1..TRIES_MAX {
            assert!(matches!(verdict(transient(), attempt, 1), Verdict::Retry { .. }));
        }
        assert!(matches!(verdict(transient(), TRIES_MAX, 1), Verdict::Bury { .. }));
        assert!(matches!(verdict(permanent(), 1, 1), Verdict::Bury { .. }));
    }
}
