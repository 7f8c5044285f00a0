//! Time. Decisions, fees and deadlines use *broker time*: this machine's clock plus the offset to
//! the broker that its answers reveal. Two machines' clocks are never compared.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::failpoint;

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

/// How much one reading may move the offset, as a power of two: the newest counts for an eighth.
const SMOOTHING_SHIFT: u32 = 3;

/// Broker time, cheap to read and to share.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What this machine's clock shows, microseconds, where somebody sets it by hand.
    by_hand: Option<Arc<AtomicI64>>,
    /// Added to this machine's clock, microseconds. Zero until the first reading.
    offset_us: AtomicI64,
    readings: AtomicI64,
    hlc: Mutex<Hlc>,
}

impl Clock {
    /// A clock that has not met the broker: this machine's own time.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// On a machine whose clock shows this many microseconds: for time that is simulated.
    #[must_use]
    pub fn by_hand(machine_us: Arc<AtomicI64>) -> Self {
        let shared = Shared { by_hand: Some(machine_us), ..Shared::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The time now, as the broker would say it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.machine_now().0.saturating_add(self.offset_us()))
    }

    fn machine_now(&self) -> Timestamp {
        match &self.shared.by_hand {
            Some(machine_us) => Timestamp(machine_us.load(Ordering::Relaxed)),
            None => machine_now(),
        }
    }

    /// Learns from a broker's timestamp that was read back within `round_trip`.
    pub fn observe(&self, broker: Timestamp, round_trip: Duration) {
        let half = i64::try_from(round_trip.as_micros() / 2).unwrap_or(0);
        let reading = broker.0.saturating_add(half).saturating_sub(self.machine_now().0);
        if self.shared.readings.fetch_add(1, Ordering::Relaxed) == 0 {
            self.shared.offset_us.store(reading, Ordering::Relaxed);
        } else {
            let before = self.offset_us();
            let step = reading.saturating_sub(before) >> SMOOTHING_SHIFT;
            self.shared.offset_us.store(before.saturating_add(step), Ordering::Relaxed);
        }
    }

    /// Broker time minus this machine's time, microseconds.
    #[must_use]
    pub fn offset_us(&self) -> i64 {
        self.shared.offset_us.load(Ordering::Relaxed)
    }

    /// The next hybrid logical time for a message that leaves.
    #[must_use]
    pub fn tick(&self) -> Hlc {
        let now = self.now();
        let mut hlc = self.shared.hlc.lock().unwrap_or_else(PoisonError::into_inner);
        *hlc = hlc.next(now);
        *hlc
    }

    /// Takes note of the hybrid logical time of a message that arrived, so that whatever is sent
    /// because of it is ordered after it.
    pub fn merge(&self, seen: Hlc) {
        let now = self.now();
        let mut hlc = self.shared.hlc.lock().unwrap_or_else(PoisonError::into_inner);
        *hlc = hlc.merged(seen, now);
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads this machine's clock")]
fn machine_now() -> Timestamp {
    let now = Timestamp::from(OffsetDateTime::now_utc());
    Timestamp(now.0.saturating_add(failpoint::clock_skew_us()))
}

/// A phone's, or any machine's, own idea of the time: for what is simulated or only displayed.
#[must_use]
pub fn machine_time() -> Timestamp {
    machine_now()
}

/// How far ahead of the own clock a message's time may drag the logical clock.
const DRIFT_MAX: Duration = Duration::from_secs(5);

/// Hybrid logical clock (Kulkarni et al. 2014): milliseconds and a counter. It orders what is
/// causally related even where wall clocks disagree. Text form: `<millis>-<counter>`, both hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Hlc {
    /// Milliseconds since 1970.
    pub millis: i64,
    /// Orders what happened within one millisecond.
    pub counter: u32,
}

impl Hlc {
    fn next(self, now: Timestamp) -> Self {
        let millis = now.0 / 1000;
        if millis > self.millis {
            Self { millis, counter: 0 }
        } else {
            Self { counter: self.counter.saturating_add(1), ..self }
        }
    }

    fn merged(self, seen: Self, now: Timestamp) -> Self {
        let limit = now.plus(DRIFT_MAX).0 / 1000;
        if seen.millis > limit { self } else { self.max(seen) }
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

#[cfg(test)]
mod tests {
    use super::{Clock, Hlc, Timestamp};
    use std::time::Duration;

    #[test]
    fn a_time_reads_as_rfc_3339_and_back() {
        let at = Timestamp::from_micros(1_767_225_600_123_456);
        assert_eq!(at.to_string(), "2026-01-01T00:00:00.123456Z");
        assert_eq!(at.to_string().parse(), Ok(at));
    }

    #[test]
    fn the_first_reading_sets_the_offset_and_later_ones_only_nudge_it() {
        let clock = Clock::new();
        let hour = Duration::from_secs(3600);
        clock.observe(super::machine_time().plus(hour), Duration::ZERO);
        assert!((clock.offset_us() - 3_600_000_000).abs() < 1_000_000);
        clock.observe(super::machine_time(), Duration::ZERO);
        assert!(clock.offset_us() > 3_000_000_000);
    }

    #[test]
    fn what_follows_a_message_is_ordered_after_it() {
        let (here, there) = (Clock::new(), Clock::new());
        let first = there.tick();
        here.merge(first);
        assert!(here.tick() > first);
    }

    #[test]
    fn a_message_from_the_far_future_does_not_drag_the_clock_along() {
        let clock = Clock::new();
        clock.merge(Hlc { millis: i64::MAX / 2, counter: 0 });
        assert!(clock.tick().millis < i64::MAX / 4);
    }

    #[test]
    fn a_logical_time_survives_its_text() {
        let hlc = Hlc { millis: 1_767_225_600_123, counter: 9 };
        assert_eq!(hlc.to_string().parse(), Ok(hlc));
    }
}
