//! How far this machine's count is from the broker's time. Each reading is right within half of its
//! round trip; the one that is certain most is taken, so that a slow one moves nothing.

/// So many readings are kept, the best ones.
const KEPT: usize = 8;
/// What two clocks may differ in pace, parts in a million: an old reading is that much less certain.
const PACE_PPM: i64 = 200;
/// What is not worth a quarrel between two readings.
const SLACK_US: i64 = 1_000;

/// What one answer of the broker revealed, microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// When, as this machine counts.
    pub(super) at_us: i64,
    /// Broker time minus this machine's.
    pub(super) offset_us: i64,
    /// Half of the round trip: it is wrong by this at most.
    pub(super) half_us: i64,
}

impl Reading {
    /// How wrong it may be by now.
    fn doubt_us(&self, now_us: i64) -> i64 {
        let age_us = now_us.saturating_sub(self.at_us).saturating_abs();
        self.half_us.saturating_add(age_us / 1_000_000 * PACE_PPM)
    }
}

/// The best readings, the most certain one first.
#[derive(Debug, Default)]
pub(super) struct Readings(Vec<Reading>);

impl Readings {
    /// The best offset, with this reading.
    pub(super) fn add(&mut self, new: Reading) -> i64 {
        // Where both cannot be right one of the clocks was set, and only the new one knows.
        self.0.retain(|old| {
            let apart = old.offset_us.saturating_sub(new.offset_us).saturating_abs();
            let doubt = old.doubt_us(new.at_us).saturating_add(new.half_us);
            apart <= doubt.saturating_add(SLACK_US)
        });
        // Where they are equally good the newer one comes first.
        self.0.insert(0, new);
        self.0.sort_by_key(|reading| reading.doubt_us(new.at_us));
        self.0.truncate(KEPT);
        self.0.first().map_or(new.offset_us, |best| best.offset_us)
    }
}
