//! What all event streams to phones and consoles (server-sent events) have in common.

use std::time::Duration;

use async_nats::{HeaderMap, header::NATS_SEQUENCE};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// A client behind a proxy hears something at least this often; and this often the log is looked at
/// directly, because live messages come at most once.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// When a client that lost the stream should come back.
pub const RETRY: Duration = Duration::from_secs(2);

/// The sequence of a message that the broker republished once it was stored.
#[must_use]
pub fn sequence(headers: &HeaderMap) -> Option<u64> {
    headers.get(NATS_SEQUENCE)?.as_str().parse().ok()
}

/// Ticks at this pace, the first time after one period. Ticks that nobody took are not made up for.
#[must_use]
pub fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
