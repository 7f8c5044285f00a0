//! Every ride was asked for exactly once, and every request led to a trip.

use std::collections::BTreeMap;

use common::id::TripId;

use super::count;
use crate::audit::{evidence::Evidence, violation::Violation};

pub(super) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let log = &evidence.log;
    let mut requests: BTreeMap<TripId, u64> = BTreeMap::new();
    for (trip, _) in log.requests() {
        *requests.entry(trip).or_default() += 1;
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
    count(requests.len())
}
