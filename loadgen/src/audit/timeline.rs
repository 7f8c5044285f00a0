//! One trip's story from all three streams, in the order in which it happened.

use std::fmt;

use common::{
    clock::Timestamp,
    contract::v1,
    id::{DriverId, TripId},
};

use super::{
    facts::pair_of,
    log::{Entry, Log, trip_id},
    sentence,
};

/// One event of a trip's story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Broker time of the decision.
    pub at: Timestamp,
    /// The stream it is in.
    pub stream: &'static str,
    /// Its place there.
    pub sequence: u64,
    /// Its version, where it has one.
    pub version: Option<u64>,
    /// `ce-type`.
    pub kind: String,
    /// Whose history it is, if not the trip's.
    pub of: Option<DriverId>,
    /// What it says.
    pub sentence: String,
}

/// All that happened around a trip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Which trip.
    pub trip: TripId,
    /// In order of broker time.
    pub moments: Vec<Moment>,
}

impl Timeline {
    /// Gathers a trip's story.
    #[must_use]
    pub fn of(log: &Log, trip: TripId) -> Self {
        let mut moments = Vec::new();
        for entry in log.trips.get(&trip).into_iter().flatten() {
            let version = entry.event.stamp.as_ref().map(|stamp| stamp.version);
            moments.push(moment("TRIP", entry, version, None, sentence::trip(&entry.event)));
        }
        for (driver, entries) in &log.drivers {
            for entry in entries {
                if pair_of(&entry.event).is_some_and(|(of, _)| of == trip) {
                    let version = entry.event.stamp.as_ref().map(|stamp| stamp.version);
                    let says = sentence::driver(&entry.event);
                    moments.push(moment("DRIVER", entry, version, Some(*driver), says));
                }
            }
        }
        for entry in log.riders.iter().filter(|entry| rider_trip(&entry.event) == Some(trip)) {
            moments.push(moment("RIDER", entry, None, None, sentence::rider(&entry.event)));
        }
        moments.sort_by_key(|moment| (moment.at, moment.sequence));
        Self { trip, moments }
    }
}

fn moment<E>(
    stream: &'static str,
    entry: &Entry<E>,
    version: Option<u64>,
    of: Option<DriverId>,
    sentence: String,
) -> Moment {
    Moment {
        at: entry.at,
        stream,
        sequence: entry.sequence,
        version,
        kind: entry.kind.clone(),
        of,
        sentence,
    }
}

/// The trip that a rider's event is about.
#[must_use]
pub fn rider_trip(event: &v1::RiderEvent) -> Option<TripId> {
    match event.kind.as_ref()? {
        v1::rider_event::Kind::RideRequested(it) => Some(trip_id(&it.trip_id)),
        v1::rider_event::Kind::FareCharged(it) => Some(trip_id(&it.trip_id)),
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "trip {}", self.trip)?;
        for moment in &self.moments {
            let version = moment.version.map_or_else(String::new, |version| format!("v{version}"));
            let of = moment
                .of
                .map_or_else(String::new, |of| format!("driver …{} ", sentence::short(of)));
            writeln!(
                f,
                "  {} {:<6} {:>7} {version:>4} {:<24} {of}{}",
                moment.at, moment.stream, moment.sequence, moment.kind, moment.sentence
            )?;
        }
        Ok(())
    }
}
