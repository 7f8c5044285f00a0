//! Hybrid logical clock (Kulkarni et al. 2014): it orders what is causally related even where clocks
//! disagree.

use std::{fmt, str::FromStr, time::Duration};

use super::{NotATime, Timestamp};

/// How far ahead of broker time a message may drag the logical clock. Services' clocks follow the
/// broker's within milliseconds; who is further off is wrong, and must not be caught from.
const DRIFT_MAX: Duration = Duration::from_secs(60);

/// Milliseconds and a counter. Text form: `<millis>-<counter>`, both hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Hlc {
    /// Milliseconds since 1970.
    pub millis: i64,
    /// Orders what happened within one millisecond.
    pub counter: u32,
}

impl Hlc {
    /// Later than this, and not before `now`.
    pub(super) fn next(self, now: Timestamp) -> Self {
        let millis = now.micros() / 1000;
        if millis > self.millis {
            return Self { millis, counter: 0 };
        }
        self.next_logical()
    }

    /// Later than this.
    pub(super) fn next_logical(self) -> Self {
        match self.counter.checked_add(1) {
            Some(counter) => Self { counter, ..self },
            None => Self { millis: self.millis.saturating_add(1), counter: 0 },
        }
    }

    /// The later of the two; `None` if the other one is too far in the future.
    pub(super) fn merged(self, seen: Self, now: Timestamp) -> Option<Self> {
        let limit = now.plus(DRIFT_MAX).micros() / 1000;
        (seen.millis <= limit).then(|| self.max(seen))
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}-{:04x}", self.millis, self.counter)
    }
}

impl FromStr for Hlc {
    type Err = NotATime;
    fn from_str(text: &str) -> Result<Self, NotATime> {
        let parse = || {
            let (millis, counter) = text.split_once('-')?;
            Some(Self {
                millis: i64::from_str_radix(millis, 16).ok()?,
                counter: u32::from_str_radix(counter, 16).ok()?,
            })
        };
        parse().ok_or_else(|| NotATime(text.to_owned()))
    }
}
