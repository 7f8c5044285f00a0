//! Every ride was asked for exactly once, and every request led to a trip.

use std::collections::BTreeMap;

use common::{contract::v1, id::TripId};

use crate::audit::{
    log::{Log, trip_id},
    violation::Violation,
};

pub(super) fn check(log: &Log, found: &mut Vec<Violation>) {
    let mut requests: BTreeMap<TripId, u64> = BTreeMap::new();
    for entry in &log.riders {
        if let Some(v1::rider_event::Kind::RideRequested(requested)) = &entry.event.kind {
            *requests.entry(trip_id(&requested.trip_id)).or_default() += 1;
        }
    }
    for (trip, times) in &requests {
        if *times > 1 {
            found.push(Violation::RequestedTimes { trip: *trip, times: *times });
        }
        if !log.trips.contains_key(trip) {
            found.push(Violation::RequestIgnored { trip: *trip });
        }
    }
    let unasked = log.trips.keys().filter(|trip| !requests.contains_key(trip));
    found.extend(unasked.map(|trip| Violation::RequestedTimes { trip: *trip, times: 0 }));
}
