//! Time. Decisions, fees and deadlines use *broker time*: what this machine counts plus the offset to
//! the broker that its answers reveal. Two machines' clocks are never compared, and what this
//! machine's own clock on the wall says matters to nobody once the broker has answered.

mod hlc;
mod machine;
mod offset;

pub use hlc::Hlc;
pub use machine::{machine_time, wall_set_by_us};

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::HeaderMap;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use self::offset::{Reading, Readings};
use crate::{envelope::header, metrics};

/// A moment: microseconds since 1970 (UTC). JSON shows it as RFC 3339.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

/// Not an RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an RFC 3339 time")]
pub struct NotATime(pub String);

impl Timestamp {
    /// From microseconds since 1970.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This much later; stops at the end of time.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// How many milliseconds from `now` until this moment; zero if it has passed.
    #[must_use]
    pub fn in_ms(self, now: Self) -> u64 {
        u64::try_from(self.since(now).as_millis()).unwrap_or(u64::MAX)
    }

    fn to_date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(at: OffsetDateTime) -> Self {
        Self(i64::try_from(at.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX))
    }
}

impl From<Timestamp> for OffsetDateTime {
    fn from(at: Timestamp) -> Self {
        at.to_date_time()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_date_time().format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Timestamp {
    type Err = NotATime;
    fn from_str(text: &str) -> Result<Self, NotATime> {
        OffsetDateTime::parse(text, &Rfc3339).map(Self::from).map_err(|_| NotATime(text.to_owned()))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = NotATime;
    fn try_from(text: String) -> Result<Self, NotATime> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(at: Timestamp) -> Self {
        at.to_string()
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(
                utoipa::openapi::KnownFormat::DateTime,
            )))
            .into()
    }
}

impl utoipa::ToSchema for Timestamp {}

/// Broker time, cheap to read and to share.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What this machine counts, microseconds, where somebody sets it by hand.
    by_hand: Option<Arc<AtomicI64>>,
    /// Added to it, microseconds. Zero until the first reading.
    offset_us: AtomicI64,
    /// There was a reading.
    is_read: AtomicBool,
    readings: Mutex<Readings>,
    hlc: Mutex<Hlc>,
    refused: AtomicU64,
}

impl Clock {
    /// A clock that has not met the broker: this machine's own time.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// On a machine that counts as this says, in microseconds: for time that is simulated.
    #[must_use]
    pub fn by_hand(machine_us: Arc<AtomicI64>) -> Self {
        let shared = Shared { by_hand: Some(machine_us), ..Shared::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The time now, as the broker would say it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.machine_us().saturating_add(self.offset_us()))
    }

    fn machine_us(&self) -> i64 {
        match &self.shared.by_hand {
            Some(machine_us) => machine_us.load(Ordering::Relaxed),
            None => machine_time().0,
        }
    }

    /// Learns from a broker's timestamp that was read back within `round_trip`.
    pub fn observe(&self, broker: Timestamp, round_trip: Duration) {
        let half_us = i64::try_from(round_trip.as_micros() / 2).unwrap_or(i64::MAX / 4);
        let at_us = self.machine_us();
        let offset_us = broker.0.saturating_add(half_us).saturating_sub(at_us);
        let mut readings = self.shared.readings.lock().unwrap_or_else(PoisonError::into_inner);
        let best_us = readings.add(Reading { at_us, offset_us, half_us });
        self.shared.offset_us.store(best_us, Ordering::Relaxed);
        self.shared.is_read.store(true, Ordering::Release);
    }

    /// Broker time minus this machine's time, microseconds.
    #[must_use]
    pub fn offset_us(&self) -> i64 {
        self.shared.offset_us.load(Ordering::Relaxed)
    }

    /// The next hybrid logical time for a message that leaves. Until the first reading it is only
    /// logical: a logical clock never goes back, so that one which had followed a wrong clock on the
    /// wall would stay ahead of everybody for as long as that clock was.
    #[must_use]
    pub fn tick(&self) -> Hlc {
        let is_read = self.shared.is_read.load(Ordering::Acquire);
        let mut hlc = self.hlc();
        *hlc = if is_read { hlc.next(self.now()) } else { hlc.next_logical() };
        *hlc
    }

    /// Takes note of the hybrid logical time of a message that arrived, so that whatever is sent
    /// because of it is ordered after it. One from too far in the future is not believed.
    pub fn merge(&self, seen: Hlc) {
        let now = self.now();
        let mut hlc = self.hlc();
        if let Some(merged) = hlc.merged(seen, now) {
            *hlc = merged;
            return;
        }
        drop(hlc);
        metrics::HLC_REFUSED.with(&metrics::NO_LABELS).increment(1);
        let refused = self.shared.refused.fetch_add(1, Ordering::Relaxed) + 1;
        // The first, the second, the fourth …: whoever has a wrong clock sends many.
        if refused.is_power_of_two() {
            tracing::warn!(%seen, refused, "a logical time from the future is not taken over");
        }
    }

    /// [`Self::merge`] with what a message's headers say, if they do.
    pub fn merge_from(&self, headers: &HeaderMap) {
        let seen = headers.get(header::HLC).and_then(|value| value.as_str().parse().ok());
        if let Some(seen) = seen {
            self.merge(seen);
        }
    }

    /// How far the logical clock is ahead of broker time.
    #[must_use]
    pub fn drift(&self) -> Duration {
        let ahead_ms = self.hlc().millis.saturating_sub(self.now().0 / 1000);
        Duration::from_millis(u64::try_from(ahead_ms).unwrap_or(0))
    }

    /// How many logical times were too far ahead to be taken over.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    fn hlc(&self) -> MutexGuard<'_, Hlc> {
        self.shared.hlc.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
