//! All subjects. A subject is `<who>.<what>.<partition>.<key>`; ids are UUIDs, so no token can hold
//! a wildcard or a dot.

use std::fmt;

use crate::id::{DriverId, RiderId, TripId};
use uuid::Uuid;

/// How many partitions a deployment has; fixed when its streams are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitions(u32);

/// The default number of partitions.
pub const PARTITIONS_DEFAULT: u32 = 16;
/// More would be more consumers than a broker serves well.
pub const PARTITIONS_MAX: u32 = 1024;

impl Default for Partitions {
    fn default() -> Self {
        Self(PARTITIONS_DEFAULT)
    }
}

impl std::str::FromStr for Partitions {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| format!("`{text}` is not a number from 1 to {PARTITIONS_MAX}"))
    }
}

impl fmt::Display for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Partitions {
    /// So many partitions, from 1 to [`PARTITIONS_MAX`].
    #[must_use]
    pub fn new(count: u32) -> Option<Self> {
        (1..=PARTITIONS_MAX).contains(&count).then_some(Self(count))
    }

    /// How many.
    #[must_use]
    pub fn count(self) -> u32 {
        self.0
    }

    /// Each of them.
    #[must_use]
    pub fn all(self) -> std::ops::Range<u32> {
        0..self.0
    }

    /// The partition of a key: FNV-1a-32 of its text, modulo the count. The broker's own
    /// `{{partition(n,1)}}` computes the same.
    #[must_use]
    pub fn of(self, key: &str) -> u32 {
        let hash = key
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        hash % self.0
    }

    fn keyed(self, prefix: &str, key: Uuid) -> String {
        let key = key.to_string();
        format!("{prefix}.{}.{key}", self.of(&key))
    }

    /// `ping.<p>`, the partition of this driver.
    #[must_use]
    pub fn ping_of(self, driver: DriverId) -> u32 {
        self.of(&driver.to_string())
    }

    /// `trip.event.<p>.<trip>`
    #[must_use]
    pub fn trip_event(self, trip: TripId) -> String {
        self.keyed(TRIP.event, trip.0)
    }

    /// `trip.command.<p>.<trip>`
    #[must_use]
    pub fn trip_command(self, trip: TripId) -> String {
        self.keyed("trip.command", trip.0)
    }

    /// `driver.event.<p>.<driver>`
    #[must_use]
    pub fn driver_event(self, driver: DriverId) -> String {
        self.keyed(DRIVER.event, driver.0)
    }

    /// `driver.command.<p>.<driver>`
    #[must_use]
    pub fn driver_command(self, driver: DriverId) -> String {
        self.keyed("driver.command", driver.0)
    }

    /// `rider.event.<p>.<rider>`
    #[must_use]
    pub fn rider_event(self, rider: RiderId) -> String {
        self.keyed("rider.event", rider.0)
    }

    /// What the broker republishes once a trip's event is stored.
    #[must_use]
    pub fn live_trip(self, trip: TripId) -> String {
        format!("live.{}", self.trip_event(trip))
    }

    /// What the broker republishes once a driver's event is stored.
    #[must_use]
    pub fn live_driver(self, driver: DriverId) -> String {
        format!("live.{}", self.driver_event(driver))
    }
}

/// The subjects of one kind of aggregate.
#[derive(Debug, Clone, Copy)]
pub struct AggregateSubjects {
    /// Prefix of its events.
    pub event: &'static str,
    /// Prefix of the schedules of its timers.
    pub timer: &'static str,
    /// Prefix of what the timers fire.
    pub due: &'static str,
}

/// A trip's.
pub const TRIP: AggregateSubjects =
    AggregateSubjects { event: "trip.event", timer: "trip.timer", due: "trip.due" };
/// A driver's.
pub const DRIVER: AggregateSubjects =
    AggregateSubjects { event: "driver.event", timer: "driver.timer", due: "driver.due" };

impl AggregateSubjects {
    /// The filter that takes all events and no timers.
    #[must_use]
    pub fn events(&self) -> String {
        format!("{}.>", self.event)
    }

    /// The literal subject of one history.
    #[must_use]
    pub fn history(&self, partitions: Partitions, key: Uuid) -> String {
        partitions.keyed(self.event, key)
    }

    /// The subject on which the schedule of one timer is stored.
    #[must_use]
    pub fn schedule(&self, partitions: Partitions, key: Uuid, timer: Uuid) -> String {
        format!("{}.{timer}", partitions.keyed(self.timer, key))
    }

    /// The filter that takes the schedules of all timers of one aggregate.
    #[must_use]
    pub fn schedules(&self, partitions: Partitions, key: Uuid) -> String {
        format!("{}.>", partitions.keyed(self.timer, key))
    }

    /// The subject on which the timers of one aggregate fire.
    #[must_use]
    pub fn fired(&self, partitions: Partitions, key: Uuid) -> String {
        partitions.keyed(self.due, key)
    }
}

/// `ping.<p>`
#[must_use]
pub fn ping(partition: u32) -> String {
    format!("ping.{partition}")
}

/// `location.counted.<p>`
#[must_use]
pub fn counted(partition: u32) -> String {
    format!("location.counted.{partition}")
}

/// `<prefix>.<p>.>`: all of one partition.
#[must_use]
pub fn partition_filter(prefix: &str, partition: u32) -> String {
    format!("{prefix}.{partition}.>")
}

/// `dlq.<consumer>.<stream>.<seq>`
#[must_use]
pub fn dead_letter(consumer: &str, stream: &str, sequence: u64) -> String {
    format!("dlq.{consumer}.{stream}.{sequence}")
}

/// `resolution.<consumer>.<stream>.<seq>`: what became of a dead letter.
#[must_use]
pub fn resolution(consumer: &str, stream: &str, sequence: u64) -> String {
    format!("resolution.{consumer}.{stream}.{sequence}")
}

/// `replay.<consumer's name>.<letter's sequence>`: a dead letter on its way back.
#[must_use]
pub fn replay(name: &str, letter: u64) -> String {
    format!("replay.{name}.{letter}")
}

/// `replay.<consumer's name>.>`
#[must_use]
pub fn replays_of(name: &str) -> String {
    format!("replay.{name}.>")
}

/// `replay-run.<id>`: how far a replay of dead letters has come.
#[must_use]
pub fn replay_run(run: Uuid) -> String {
    format!("replay-run.{run}")
}

/// When the ledger is compared with the log: a recurring schedule.
pub const RECONCILIATION_SCHEDULE: &str = "cron.schedule.reconciliation";
/// Prefix of what says that it is time to.
pub const RECONCILIATION_DUE: &str = "cron.due.reconciliation";
/// What the schedule fires.
pub const RECONCILIATION_FIRED: &str = "cron.due.reconciliation.schedule";
/// What somebody of operations says who does not want to wait for it.
pub const RECONCILIATION_ORDERED: &str = "cron.due.reconciliation.order";
/// What each comparison found.
pub const RECONCILIATION_REPORT: &str = "cron.report.reconciliation";
/// Every dead letter.
pub const DEAD_LETTERS: &str = "dlq.>";
/// What became of every dead letter.
pub const RESOLUTIONS: &str = "resolution.>";
/// How far every replay of dead letters has come.
pub const REPLAY_RUNS: &str = "replay-run.*";
/// Every dead letter on its way back.
pub const REPLAYS: &str = "replay.>";
/// Every frame of pings.
pub const PINGS: &str = "ping.*";
/// Every trip command of every partition: the trip service answers these.
pub const TRIP_COMMANDS: &str = "trip.command.>";
/// Queries that `location` answers.
pub const QUERY_CANDIDATES: &str = "location.query.candidates";
/// Shortest way by travel time.
pub const QUERY_ROUTE: &str = "location.query.route";
/// Supply, surge and service area at a place.
pub const QUERY_SUPPLY: &str = "location.query.supply";
/// One driver's position and ping counts.
pub const QUERY_DRIVER: &str = "location.query.driver";
/// All ping counts.
pub const QUERY_COUNTS: &str = "location.query.counts";
/// The moving map, once a second.
pub const LOCATION_FRAME: &str = "location.frame";
/// Replicas of `rider` tell each other that something waits in the outbox that they share. A hint.
pub const RIDER_OUTBOX: &str = "rider.outbox";
/// Every stored trip event.
pub const LIVE_TRIPS: &str = "live.trip.event.>";
/// Every stored driver event.
pub const LIVE_DRIVERS: &str = "live.driver.event.>";

#[cfg(test)]
mod tests {
    use super::{DRIVER, Partitions, TRIP};
    use crate::id::TripId;
    use uuid::Uuid;

    #[test]
    fn the_partition_is_fnv_1a_of_the_key() {
        // Reference vectors of FNV-1a-32: "" = 811c9dc5, "a" = e40c292c, "foobar" = bf9cf968.
        let partitions = Partitions::new(1000).unwrap();
        assert_eq!(partitions.of(""), 0x811c_9dc5 % 1000);
        assert_eq!(partitions.of("a"), 0xe40c_292c % 1000);
        assert_eq!(partitions.of("foobar"), 0xbf9c_f968 % 1000);
    }

    #[test]
    fn all_that_concerns_one_trip_is_in_one_partition() {
        let (partitions, trip) = (Partitions::default(), Uuid::from_u128(5));
        let p = partitions.of(&trip.to_string());
        assert_eq!(partitions.trip_event(TripId(trip)), format!("trip.event.{p}.{trip}"));
        assert_eq!(TRIP.fired(partitions, trip), format!("trip.due.{p}.{trip}"));
        let timer = Uuid::from_u128(6);
        assert_eq!(
            DRIVER.schedule(partitions, trip, timer),
            format!("driver.timer.{p}.{trip}.{timer}")
        );
    }
}
