//! What happens to a message after its handler answered: the rule alone, which the loops carry out.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::{
    planted::{self, Planted},
    stream::TRIES_MAX,
};

/// Why a message was given up, for whoever decides what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// What it needed was not there, five times.
    Transient,
    /// It can never be handled as it is.
    Permanent,
    /// Its handler gave no answer in time, five times.
    Hung,
    /// It killed whoever handled it, or nobody answered for it, five times.
    Fatal,
}

/// There is no such class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of transient, permanent, hung, fatal")]
pub struct UnknownClass(pub String);

impl Class {
    /// Its name in headers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Hung => "hung",
            Self::Fatal => "fatal",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Class {
    type Err = UnknownClass;
    fn from_str(text: &str) -> Result<Self, UnknownClass> {
        [Self::Transient, Self::Permanent, Self::Hung, Self::Fatal]
            .into_iter()
            .find(|class| class.name() == text)
            .ok_or_else(|| UnknownClass(text.to_owned()))
    }
}

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
        /// Why, in one word.
        class: Class,
        /// Why it cannot be handled.
        err: anyhow::Error,
    },
}

/// Whether a message is acknowledged before its handler is asked. Never: a crash in between would
/// lose its effect. It is a question so that a test can prove it.
#[must_use]
pub fn acks_first() -> bool {
    planted::is_on(Planted::AckBeforeEffect)
}

/// Judges whether this delivery of a message (1 is the first) is handed to its handler. Five that
/// nobody answered killed whoever had them in hand, or never came: another one would be a sixth try.
///
/// # Errors
/// When it is not. The failure is judged by [`verdict`], as one of the last try.
pub fn admit(delivery: i64) -> Result<(), Failure> {
    if delivery <= TRIES_MAX {
        return Ok(());
    }
    Err(Failure::Fatal(anyhow::anyhow!("no answer to {TRIES_MAX} deliveries")))
}

/// Judges how a handler's `attempt` (1 is the first) at the message of this sequence went.
#[must_use]
pub fn verdict(
    handled: Result<(), Failure>,
    attempt: i64,
    sequence: u64,
    retry_first: Duration,
) -> Verdict {
    let Err(failure) = handled else { return Verdict::Ack };
    let class = failure.class();
    let (Failure::Transient(err)
    | Failure::Permanent(err)
    | Failure::Hung(err)
    | Failure::Fatal(err)) = failure;
    if class == Class::Permanent || attempt >= TRIES_MAX {
        Verdict::Bury { class, err }
    } else {
        Verdict::Retry { after: backoff(attempt, sequence, retry_first), err }
    }
}

/// 1, 2, 4, 8, 16 times the first pause and up to a quarter more, so that what failed together does
/// not return together. The sequence is chance enough.
fn backoff(attempt: i64, sequence: u64, first: Duration) -> Duration {
    let exponent = u32::try_from((attempt - 1).clamp(0, 4)).unwrap_or(0);
    let base = first.saturating_mul(1 << exponent);
    let quarter = u64::try_from(base.as_millis() / 4).unwrap_or(1).max(1);
    base + Duration::from_millis(sequence.wrapping_mul(7919) % quarter)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Class, Verdict, admit, backoff, verdict};
    use crate::{consumer::Failure, stream::TRIES_MAX};

    const FIRST: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_and_stay_within_a_quarter_more() {
        for attempt in 1..=5 {
            let base = FIRST * (1 << (attempt - 1));
            for sequence in 0..100 {
                let pause = backoff(attempt, sequence, FIRST);
                assert!(base <= pause && pause <= base + base / 4, "{attempt} {pause:?}");
            }
        }
    }

    #[test]
    fn all_but_permanent_failures_are_tried_five_times_and_a_permanent_one_once() {
        let judge = |handled, attempt| verdict(handled, attempt, 1, FIRST);
        assert!(matches!(judge(Ok(()), 1), Verdict::Ack));
        let err = || anyhow::anyhow!("away");
        for fails in [Failure::Transient, Failure::Hung, Failure::Fatal] {
            for attempt in 1..TRIES_MAX {
                assert!(matches!(judge(Err(fails(err())), attempt), Verdict::Retry { .. }));
            }
            let expected = fails(err()).class();
            let last = judge(Err(fails(err())), TRIES_MAX);
            assert!(matches!(last, Verdict::Bury { class, .. } if class == expected), "{last:?}");
        }
        let malformed = judge(Err(Failure::Permanent(err())), 1);
        assert!(matches!(malformed, Verdict::Bury { class: Class::Permanent, .. }));
    }

    #[test]
    fn what_five_deliveries_got_no_answer_to_is_buried_and_handed_to_nobody() {
        for delivery in 1..=TRIES_MAX {
            admit(delivery).unwrap();
        }
        for delivery in [TRIES_MAX + 1, TRIES_MAX + 2, i64::MAX] {
            let judged = verdict(admit(delivery), delivery, 1, FIRST);
            let Verdict::Bury { class, err } = judged else { panic!("{judged:?}") };
            assert_eq!(
                (class, err.to_string().as_str()),
                (Class::Fatal, "no answer to 5 deliveries")
            );
        }
    }

    #[test]
    fn a_class_is_read_as_it_is_written() {
        for class in [Class::Transient, Class::Permanent, Class::Hung, Class::Fatal] {
            assert_eq!(class.name().parse(), Ok(class));
        }
        assert!("poison".parse::<Class>().is_err());
    }
}
