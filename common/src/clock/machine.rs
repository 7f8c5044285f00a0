//! What this machine counts: the one place that looks at the clock on its wall, and that only once
//! for any purpose but to say that it was set.

use std::{sync::LazyLock, time::Instant};

use time::OffsetDateTime;

use super::Timestamp;
use crate::failpoint;

/// How far the clock on this machine's wall is ahead of what it counts, microseconds: by how much it
/// was set since the process began. Nothing is decided by it.
#[must_use]
pub fn wall_set_by_us() -> i64 {
    wall().micros().saturating_sub(machine_time().micros())
}

/// A phone's, or any machine's, own idea of the time: for what is simulated or only displayed. It
/// goes on steadily from what the wall clock said first, whatever is done to that clock afterwards.
#[must_use]
pub fn machine_time() -> Timestamp {
    static BEGAN: LazyLock<(Instant, Timestamp)> = LazyLock::new(|| (Instant::now(), wall()));
    let (began, wall) = *BEGAN;
    wall.plus(began.elapsed())
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads this machine's clock")]
fn wall() -> Timestamp {
    let now = Timestamp::from(OffsetDateTime::now_utc());
    Timestamp::from_micros(now.micros().saturating_add(failpoint::clock_skew_us()))
}
