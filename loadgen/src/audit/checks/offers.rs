//! Every offer on both sides: the trip made it once and ended it once, and the driver's history
//! tells the same end.

use std::collections::BTreeMap;

use common::{
    contract::v1::{self, OfferEnd, OfferStatus},
    id::{DriverId, OfferId, TripId},
};

use super::count;
use crate::audit::{
    evidence::Evidence,
    facts::{TripFacts, pair_of},
    log::Log,
    violation::Violation,
};

/// What a driver's history says of one offer.
#[derive(Debug, Default)]
struct DriverSide {
    accepted: bool,
    ended: Vec<OfferEnd>,
    released: bool,
}

type DriverSides = BTreeMap<(DriverId, TripId, OfferId), DriverSide>;

pub(super) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let log = &evidence.log;
    let mut sides = driver_sides(log);
    let mut looked_at = 0;
    for (trip, entries) in &log.trips {
        let Some(last) = entries.last().and_then(|entry| entry.event.state.as_ref()) else {
            continue;
        };
        let facts = TripFacts::carried(last);
        looked_at += count(facts.offers.len());
        for fact in &facts.offers {
            let (driver, offer) = (fact.driver, fact.offer);
            let side = sides.remove(&(driver, *trip, offer)).unwrap_or_default();
            let without_end = |side: &str| Violation::OfferWithoutEnd {
                trip: *trip,
                driver,
                offer,
                side: side.to_owned(),
            };
            if side.ended.len() > 1 {
                let ends = u32::try_from(side.ended.len()).unwrap_or(u32::MAX);
                found.push(Violation::OfferEndedTwice { trip: *trip, offer, ends });
            }
            if fact.status == OfferStatus::Open {
                if facts.is_over() {
                    found.push(without_end("trip"));
                }
                continue;
            }
            if !side.accepted && side.ended.is_empty() && !side.released {
                found.push(without_end("driver"));
                continue;
            }
            if !agree(fact.status, fact.why, &side) {
                found.push(Violation::OfferEndsDiffer {
                    trip: *trip,
                    driver,
                    offer,
                    trip_says: format!("{} {}", fact.status.as_str_name(), fact.why.as_str_name()),
                    driver_says: format!("{side:?}"),
                });
            }
        }
    }
    let unknown = sides.into_keys();
    found.extend(unknown.map(|(driver, trip, offer)| Violation::OfferFromNowhere {
        trip,
        driver,
        offer,
    }));
    looked_at
}

/// Whether both sides tell the same story of one offer.
fn agree(status: OfferStatus, why: OfferEnd, side: &DriverSide) -> bool {
    match (status, why) {
        (OfferStatus::Assigned, _) => side.accepted && side.ended.is_empty(),
        // The driver's side ended it, and says the same.
        (
            _,
            OfferEnd::Declined
            | OfferEnd::Lapsed
            | OfferEnd::Busy
            | OfferEnd::Lost
            | OfferEnd::Offline,
        ) => side.ended == [why] && !side.accepted,
        // The trip's side ended it. The driver may have ended it too, at the same time; who had it
        // in hand or accepted was released.
        _ => !side.ended.is_empty() || side.released,
    }
}

fn driver_sides(log: &Log) -> DriverSides {
    use v1::driver_event::Kind;
    let mut sides = DriverSides::new();
    for (driver, entries) in &log.drivers {
        for entry in entries {
            let Some((trip, offer)) = pair_of(&entry.event) else { continue };
            let side = sides.entry((*driver, trip, offer)).or_default();
            if let Some(ended) = &entry.event.ended_offer {
                side.ended.push(ended.why());
            }
            match &entry.event.kind {
                Some(Kind::OfferAccepted(_)) => side.accepted = true,
                Some(Kind::Released(_)) => side.released = true,
                _ => {}
            }
        }
    }
    sides
}
