//! Every history by itself: versions without a gap, events that can follow each other, nothing
//! after the end, and in every event the state that the events up to it lead to.

use common::{
    contract::v1::{self, TripPhase},
    id::{DriverId, TripId},
};

use super::count;
use crate::audit::{
    evidence::Evidence,
    facts::{Bond, Difference, DriverFacts, TripFacts},
    log::{Entry, driver_id, offer_id, trip_id},
    violation::{History, Violation},
};

pub(in crate::audit) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let log = &evidence.log;
    for (trip, entries) in &log.trips {
        check_trip(*trip, entries, found);
    }
    for (driver, entries) in &log.drivers {
        check_driver(*driver, entries, found);
    }
    count(log.drivers.len() + log.trips.len())
}

fn check_trip(trip: TripId, entries: &[Entry<v1::TripEvent>], found: &mut Vec<Violation>) {
    let history = History::Trip(trip);
    let (mut facts, mut version) = (TripFacts::default(), 0);
    for entry in entries {
        version = next_version(history, version, entry.event.stamp.as_ref(), found);
        check_phase(trip, version, &facts, entry, found);
        check_assignment(trip, &facts, &entry.event, found);
        check_offer_ends_once(trip, &facts, &entry.event, found);
        facts.fold(&entry.event);
        let carried = entry.event.state.as_ref().map(TripFacts::carried).unwrap_or_default();
        report(history, version, TripFacts::differences(&carried, &facts), found);
        // One difference is enough: go on from what the next event was decided on.
        facts = carried;
    }
}

fn check_driver(driver: DriverId, entries: &[Entry<v1::DriverEvent>], found: &mut Vec<Violation>) {
    let history = History::Driver(driver);
    let (mut facts, mut version) = (DriverFacts::default(), 0);
    for entry in entries {
        version = next_version(history, version, entry.event.stamp.as_ref(), found);
        check_bond(driver, &facts, &entry.event, found);
        facts.fold(&entry.event);
        let carried = entry.event.state.as_ref().map(DriverFacts::carried).unwrap_or_default();
        report(history, version, DriverFacts::differences(&carried, &facts), found);
        facts = carried;
    }
}

fn next_version(
    history: History,
    after: u64,
    stamp: Option<&v1::Stamp>,
    found: &mut Vec<Violation>,
) -> u64 {
    let version = stamp.map_or(0, |stamp| stamp.version);
    if version != after + 1 {
        found.push(Violation::VersionGap { history, after, found: version });
    }
    version
}

fn report(history: History, version: u64, all: Vec<Difference>, found: &mut Vec<Violation>) {
    found.extend(all.into_iter().map(|(field, carried, folded)| Violation::StateDiffers {
        history,
        version,
        field: field.to_owned(),
        carried,
        folded,
    }));
}

fn check_phase(
    trip: TripId,
    version: u64,
    before: &TripFacts,
    entry: &Entry<v1::TripEvent>,
    found: &mut Vec<Violation>,
) {
    use v1::trip_event::Kind;
    let Some(kind) = &entry.event.kind else { return };
    let name = || entry.kind.clone();
    if before.is_over() {
        if !(matches!(kind, Kind::Rated(_)) && before.phase == TripPhase::Completed) {
            found.push(Violation::EventAfterEnd { trip, version, kind: name() });
        }
        return;
    }
    let may = |phases: &[TripPhase]| phases.contains(&before.phase);
    let fits = match kind {
        Kind::Requested(_) => may(&[TripPhase::Unspecified]),
        Kind::Offered(_) | Kind::OfferClosed(_) | Kind::Unfulfilled(_) => {
            may(&[TripPhase::Matching])
        }
        // A second driver has a violation of its own.
        Kind::Assigned(_) => before.driver.is_some() || may(&[TripPhase::Matching]),
        Kind::Unassigned(_) | Kind::Arrived(_) => may(&[TripPhase::Assigned]),
        Kind::WaitOver(_) | Kind::PinRefused(_) | Kind::PinUnlocked(_) | Kind::Started(_) => {
            may(&[TripPhase::Arrived])
        }
        Kind::Completed(_) | Kind::Stalled(_) => may(&[TripPhase::InProgress]),
        // From where it can be cancelled depends on who does it; that is a rule, not an invariant.
        Kind::Cancelled(_) => true,
        Kind::Rated(_) => false,
    };
    if !fits {
        let phase = before.phase.as_str_name().to_owned();
        found.push(Violation::OutOfOrder { trip, version, kind: name(), phase });
    }
}

fn check_assignment(
    trip: TripId,
    before: &TripFacts,
    event: &v1::TripEvent,
    found: &mut Vec<Violation>,
) {
    let Some(v1::trip_event::Kind::Assigned(assigned)) = &event.kind else { return };
    if let Some((first, _)) = before.on_board() {
        let second = driver_id(&assigned.driver_id);
        found.push(Violation::TwoDrivers { trip, first, second });
    }
}

/// An end that does not find its offer open is a second one, or one of an offer never made.
fn check_offer_ends_once(
    trip: TripId,
    before: &TripFacts,
    event: &v1::TripEvent,
    found: &mut Vec<Violation>,
) {
    use v1::trip_event::Kind;
    let (offer, driver) = match &event.kind {
        Some(Kind::Assigned(end)) => (offer_id(&end.offer_id), driver_id(&end.driver_id)),
        Some(Kind::OfferClosed(end)) => (offer_id(&end.offer_id), driver_id(&end.driver_id)),
        _ => return,
    };
    match before.offers.iter().find(|fact| fact.offer == offer) {
        None => found.push(Violation::OfferFromNowhere { trip, driver, offer }),
        Some(fact) if fact.status != v1::OfferStatus::Open => {
            found.push(Violation::OfferEndedTwice { trip, offer, ends: 2 });
        }
        Some(_) => {}
    }
}

fn check_bond(
    driver: DriverId,
    before: &DriverFacts,
    event: &v1::DriverEvent,
    found: &mut Vec<Violation>,
) {
    use v1::driver_event::Kind;
    let (kind, bound) = (event.kind.as_ref(), before.bond.pair());
    match (kind, bound) {
        (Some(Kind::Offered(offered)), Some((first, _))) => {
            let second = trip_id(&offered.trip_id);
            found.push(Violation::EngagementsOverlap { driver, first, second });
        }
        (Some(Kind::OfferAccepted(accepted)), _) => {
            let (trip, offer) = (trip_id(&accepted.trip_id), offer_id(&accepted.offer_id));
            match before.bond {
                Bond::Engaged(first, _) => {
                    found.push(Violation::EngagementsOverlap { driver, first, second: trip });
                }
                bond if bond != Bond::Offered(trip, offer) => {
                    found.push(Violation::AcceptedUnoffered { driver, trip, offer });
                }
                Bond::Idle | Bond::Offered(..) => {}
            }
        }
        (Some(Kind::WentOffline(_)), Some((trip, _)))
            if matches!(before.bond, Bond::Engaged(..)) =>
        {
            found.push(Violation::OfflineOnTrip { driver, trip });
        }
        _ => {}
    }
}
