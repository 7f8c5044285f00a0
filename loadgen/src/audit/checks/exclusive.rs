//! A driver is on one trip at a time: intervals from Assigned to Unassigned or the end, over the
//! stream's own order, which is the same for all trips.

use std::collections::BTreeMap;

use common::{
    contract::v1,
    id::{DriverId, TripId},
};

use super::count;
use crate::audit::{
    evidence::Evidence,
    log::{Log, driver_id},
    violation::Violation,
};

struct OnTrip {
    from: u64,
    to: u64,
    trip: TripId,
}

pub(super) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let mut looked_at = 0;
    for (driver, mut rides) in rides(&evidence.log) {
        looked_at += count(rides.len());
        rides.sort_by_key(|ride| ride.from);
        let mut longest: Option<&OnTrip> = None;
        for ride in &rides {
            if let Some(before) = longest.filter(|before| ride.from < before.to) {
                let (first, second) = (before.trip, ride.trip);
                found.push(Violation::TwoTrips { driver, first, second });
            }
            if longest.is_none_or(|before| before.to < ride.to) {
                longest = Some(ride);
            }
        }
    }
    looked_at
}

fn rides(log: &Log) -> BTreeMap<DriverId, Vec<OnTrip>> {
    use v1::trip_event::Kind;
    let mut rides: BTreeMap<DriverId, Vec<OnTrip>> = BTreeMap::new();
    for (trip, entries) in &log.trips {
        let mut on: Option<(DriverId, u64)> = None;
        let mut end = |on: &mut Option<(DriverId, u64)>, to| {
            if let Some((driver, from)) = on.take() {
                rides.entry(driver).or_default().push(OnTrip { from, to, trip: *trip });
            }
        };
        for entry in entries {
            match &entry.event.kind {
                Some(Kind::Assigned(assigned)) => {
                    end(&mut on, entry.sequence);
                    on = Some((driver_id(&assigned.driver_id), entry.sequence));
                }
                Some(
                    Kind::Unassigned(_)
                    | Kind::Completed(_)
                    | Kind::Cancelled(_)
                    | Kind::Unfulfilled(_),
                ) => end(&mut on, entry.sequence),
                _ => {}
            }
        }
        end(&mut on, u64::MAX);
    }
    rides
}
