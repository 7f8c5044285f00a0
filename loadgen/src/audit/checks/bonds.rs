//! What binds drivers at the end, against what trips say: no ghost rides, and nobody forgotten.

use std::collections::BTreeSet;

use common::{
    contract::v1,
    id::{DriverId, OfferId, TripId},
};

use super::count;
use crate::audit::{
    evidence::Evidence,
    facts::{Bond, DriverFacts, OfferFact, TripFacts},
    log::{Log, driver_id, offer_id, trip_id},
    violation::Violation,
};

pub(super) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let log = &evidence.log;
    for driver in log.drivers.keys() {
        check_driver(log, *driver, found);
    }
    for trip in log.trips.keys() {
        check_trip(log, *trip, found);
    }
    check_releases(log, found);
    count(log.drivers.len() + log.trips.len())
}

fn trip_now(log: &Log, trip: TripId) -> Option<TripFacts> {
    let last = log.trips.get(&trip)?.last()?;
    last.event.state.as_ref().map(TripFacts::carried)
}

fn driver_now(log: &Log, driver: DriverId) -> DriverFacts {
    let last = log.drivers.get(&driver).and_then(|entries| entries.last());
    last.and_then(|entry| entry.event.state.as_ref()).map(DriverFacts::carried).unwrap_or_default()
}

fn check_driver(log: &Log, driver: DriverId, found: &mut Vec<Violation>) {
    let bond = driver_now(log, driver).bond;
    let Some((trip, offer)) = bond.pair() else { return };
    let Some(facts) = trip_now(log, trip) else {
        let trip_says = "does not exist".to_owned();
        found.push(Violation::GhostRide { driver, trip, offer, trip_says });
        return;
    };
    let of_mine = |fact: &&OfferFact| fact.offer == offer && fact.driver == driver;
    let status = facts.offers.iter().find(of_mine).map(|fact| fact.status);
    let is_true = match bond {
        Bond::Idle => true,
        Bond::Offered(..) => status == Some(v1::OfferStatus::Open) && !facts.is_over(),
        Bond::Engaged(..) => facts.on_board() == Some((driver, offer)),
    };
    if is_true {
    } else if facts.is_over() {
        found.push(Violation::NotReleased { trip, driver, offer });
    } else {
        let trip_says = match facts.driver {
            Some((other, _)) => format!("has driver `{other}`"),
            None => format!("is {} without a driver", facts.phase.as_str_name()),
        };
        found.push(Violation::GhostRide { driver, trip, offer, trip_says });
    }
}

fn check_trip(log: &Log, trip: TripId, found: &mut Vec<Violation>) {
    let Some((driver, offer)) = trip_now(log, trip).and_then(|facts| facts.on_board()) else {
        return;
    };
    let bond = driver_now(log, driver).bond;
    if bond != Bond::Engaged(trip, offer) {
        let driver_is = format!("{bond:?}");
        found.push(Violation::DriverNotEngaged { trip, driver, driver_is });
    }
}

/// Every assignment that ended was followed by a release of that driver from that offer.
fn check_releases(log: &Log, found: &mut Vec<Violation>) {
    let released = released(log);
    for (trip, entries) in &log.trips {
        let mut on: Option<(DriverId, OfferId)> = None;
        for entry in entries {
            use v1::trip_event::Kind;
            match &entry.event.kind {
                Some(Kind::Assigned(assigned)) => {
                    on = Some((driver_id(&assigned.driver_id), offer_id(&assigned.offer_id)));
                }
                Some(Kind::Unassigned(_) | Kind::Completed(_) | Kind::Cancelled(_)) => {
                    if let Some((driver, offer)) = on.take()
                        && !released.contains(&(driver, *trip, offer))
                    {
                        found.push(Violation::NotReleased { trip: *trip, driver, offer });
                    }
                }
                _ => {}
            }
        }
    }
}

fn released(log: &Log) -> BTreeSet<(DriverId, TripId, OfferId)> {
    let mut released = BTreeSet::new();
    for (driver, entries) in &log.drivers {
        for entry in entries {
            if let Some(v1::driver_event::Kind::Released(of)) = &entry.event.kind
                && !of.early
            {
                released.insert((*driver, trip_id(&of.trip_id), offer_id(&of.offer_id)));
            }
        }
    }
    released
}
