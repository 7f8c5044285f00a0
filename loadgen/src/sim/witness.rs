//! What an outsider remembers of a run: what phones asked for and were promised, how often everything
//! was seen, and what was wrong the moment that it was stored.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{
    contract::v1,
    id::{DriverId, RiderId, TripId},
    stream::TRIP,
};
use prost::Message as _;

use super::engine::Sim;
use crate::{audit::sentence, journal::Promise};

/// See the module.
#[derive(Debug, Default)]
pub struct Witness {
    /// Every 2xx that a phone received.
    pub promises: Vec<Promise>,
    /// How many rides each rider wanted.
    pub wishes: BTreeMap<RiderId, u64>,
    /// How often everything that the coverage table lists was seen.
    pub seen: BTreeMap<String, u64>,
    /// Messages that were lost or delayed.
    pub faults: u64,
    /// Appends that the compare-and-set refused.
    pub refused: u64,
    /// What was wrong at once.
    pub wrong: Vec<String>,
    versions: BTreeMap<String, u64>,
    on_trip: BTreeMap<DriverId, TripId>,
}

impl Witness {
    /// Counts.
    pub fn seen(&mut self, what: impl Into<String>) {
        *self.seen.entry(what.into()).or_default() += 1;
    }

    /// An event was stored. What can be said at once is checked at once: that versions follow each
    /// other, and that no driver is assigned twice.
    pub fn stored(&mut self, sim: &Sim, stream: &str, subject: &str, payload: &Bytes) {
        let of = sentence::short(subject);
        let stamp = if stream == TRIP {
            let Ok(event) = v1::TripEvent::decode(payload.as_ref()) else { return };
            sim.tell(format!("  trip …{of}: {}", sentence::trip(&event)));
            self.assigned(subject, &event);
            event.stamp
        } else {
            let Ok(event) = v1::DriverEvent::decode(payload.as_ref()) else { return };
            sim.tell(format!("  driver …{of} {}", sentence::driver(&event)));
            event.stamp
        };
        let version = stamp.map_or(0, |stamp| stamp.version);
        let before = self.versions.insert(subject.to_owned(), version).unwrap_or(0);
        if version != before + 1 {
            self.wrong.push(format!("`{subject}`: version {version} stored after {before}"));
        }
    }

    fn assigned(&mut self, subject: &str, event: &v1::TripEvent) {
        use v1::trip_event::Kind;
        let key = subject.rsplit('.').next().unwrap_or_default();
        let Ok(trip) = key.parse().map(TripId) else { return };
        match &event.kind {
            Some(Kind::Assigned(assigned)) => {
                let Ok(driver) = DriverId::try_from(assigned.driver_id.as_slice()) else { return };
                if let Some(first) = self.on_trip.insert(driver, trip)
                    && first != trip
                {
                    let said = format!("driver `{driver}` assigned to `{trip}` while on `{first}`");
                    self.wrong.push(said);
                }
            }
            Some(Kind::Unassigned(_) | Kind::Completed(_) | Kind::Cancelled(_)) => {
                self.on_trip.retain(|_, on| *on != trip);
            }
            _ => {}
        }
    }
}
