//! What the view of open trips holds, event by event.

use std::{collections::BTreeSet, time::Duration};

use common::{
    clock::Timestamp,
    contract::v1,
    event_store::Cause,
    id::{DriverId, TripId},
};
use uuid::Uuid;

use super::{DispatchConfig, OpenTrips};
use crate::domain::OFFERS_MAX;

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
const TRIP: TripId = TripId(Uuid::from_u128(1));
const OTHER_TRIP: TripId = TripId(Uuid::from_u128(2));
const DRIVER: DriverId = DriverId(Uuid::from_u128(7));

fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn at_once() -> DispatchConfig {
    DispatchConfig { window_ms: 0, ..DispatchConfig::default() }
}

/// The state of a trip that was requested at `NOW` and may be matched for two minutes.
fn matching() -> v1::TripState {
    v1::TripState {
        phase: v1::TripPhase::Matching.into(),
        pickup: Some(v1::Point { lat_e7: 577_000_000, lng_e7: 119_000_000 }),
        requested_at_us: NOW.micros(),
        match_deadline_us: after(120).micros(),
        ..v1::TripState::default()
    }
}

fn offered_to(driver: DriverId) -> v1::TripState {
    v1::TripState { offers: vec![record(driver, v1::OfferStatus::Open)], ..matching() }
}

fn closed(driver: DriverId, why: v1::OfferEnd) -> v1::TripState {
    let record = v1::OfferRecord { why: why.into(), ..record(driver, v1::OfferStatus::Closed) };
    v1::TripState { offers: vec![record], ..matching() }
}

fn record(driver: DriverId, status: v1::OfferStatus) -> v1::OfferRecord {
    v1::OfferRecord {
        driver_id: driver.to_vec(),
        status: status.into(),
        ..v1::OfferRecord::default()
    }
}

struct Given {
    trips: OpenTrips,
}

fn given() -> Given {
    Given { trips: OpenTrips::new(&at_once()) }
}

impl Given {
    fn event(mut self, trip: TripId, version: u64, state: v1::TripState, at: Timestamp) -> Self {
        let stamp = Some(v1::Stamp { version, ..v1::Stamp::default() });
        let event = v1::TripEvent { stamp, state: Some(state), kind: None };
        self.trips.apply(trip, &event, Cause::default(), at).unwrap();
        self
    }

    fn due(&self, at: Timestamp) -> Vec<(TripId, u64)> {
        self.trips.due(at, 100).iter().map(|open| (open.trip, open.version)).collect()
    }

    fn held(&mut self, at: Timestamp) -> BTreeSet<DriverId> {
        self.trips.held(at)
    }
}

#[test]
fn a_requested_trip_is_matched_until_its_deadline() {
    let given = given().event(TRIP, 1, matching(), NOW);
    assert_eq!(given.due(NOW), [(TRIP, 1)]);
    assert_eq!(given.due(after(120)), []);
    assert_eq!(given.trips.next_due(after(120)), None, "nothing wakes the dispatcher for it");
}

#[test]
fn an_offered_trip_is_not_matched_and_its_driver_is_held() {
    let mut given = given().event(TRIP, 1, matching(), NOW).event(TRIP, 2, offered_to(DRIVER), NOW);
    assert_eq!(given.due(NOW), []);
    assert_eq!(given.held(after(4)), BTreeSet::from([DRIVER]));
    assert_eq!(given.held(after(5)), BTreeSet::new());
}

#[test]
fn after_a_decline_the_trip_is_open_again_and_the_driver_may_be_asked_for_others() {
    let mut given = given().event(TRIP, 2, offered_to(DRIVER), NOW).event(
        TRIP,
        3,
        closed(DRIVER, v1::OfferEnd::Declined),
        after(1),
    );
    assert_eq!(given.due(after(1)), [(TRIP, 3)]);
    assert_eq!(given.held(after(1)), BTreeSet::new());
}

#[test]
fn a_driver_who_turned_out_to_be_busy_is_left_alone_for_a_while() {
    let mut given = given().event(TRIP, 2, offered_to(DRIVER), NOW).event(
        TRIP,
        3,
        closed(DRIVER, v1::OfferEnd::Busy),
        after(4),
    );
    assert_eq!(given.held(after(8)), BTreeSet::from([DRIVER]));
    assert_eq!(given.held(after(9)), BTreeSet::new());
}

#[test]
fn a_trip_that_is_proposed_waits_for_its_event_but_not_for_ever() {
    let mut given = given().event(TRIP, 1, matching(), NOW);
    let open = given.trips.due(NOW, 1).remove(0);
    given.trips.proposed(&open, DRIVER, NOW);
    assert_eq!(given.due(after(4)), []);
    assert_eq!(given.held(after(4)), BTreeSet::from([DRIVER]));
    assert_eq!(given.due(after(5)), [(TRIP, 1)]);
    assert_eq!(given.held(after(5)), BTreeSet::new());
}

#[test]
fn an_offer_that_was_not_made_holds_nobody() {
    let mut given = given().event(TRIP, 1, matching(), NOW);
    let open = given.trips.due(NOW, 1).remove(0);
    given.trips.proposed(&open, DRIVER, NOW);
    given.trips.not_made(&open, DRIVER, NOW);
    assert_eq!(given.held(NOW), BTreeSet::new());
    assert_eq!(given.due(after(1)), [(TRIP, 1)]);
}

#[test]
fn an_ended_trip_is_forgotten() {
    let ended = v1::TripState { phase: v1::TripPhase::Cancelled.into(), ..offered_to(DRIVER) };
    let given = given().event(TRIP, 2, offered_to(DRIVER), NOW).event(TRIP, 3, ended, NOW);
    assert_eq!(given.due(NOW), []);
    assert!(given.trips.searches.is_empty());
}

#[test]
fn an_event_that_comes_again_changes_nothing() {
    let given = given()
        .event(TRIP, 2, offered_to(DRIVER), NOW)
        .event(TRIP, 1, matching(), NOW)
        .event(TRIP, 2, matching(), NOW);
    assert_eq!(given.due(NOW), []);
}

#[test]
fn a_trip_that_may_make_no_more_offers_is_left_to_its_deadline() {
    let offers = vec![record(DRIVER, v1::OfferStatus::Closed); OFFERS_MAX];
    let given = given().event(TRIP, 41, v1::TripState { offers, ..matching() }, NOW);
    assert_eq!(given.due(NOW), []);
    assert_eq!(given.trips.next_due(NOW), None);
}

#[test]
fn who_waits_longest_comes_first_when_not_all_fit_in_one_batch() {
    let later = v1::TripState { requested_at_us: after(5).micros(), ..matching() };
    let given = given().event(TRIP, 1, later, after(5)).event(OTHER_TRIP, 1, matching(), after(5));
    assert_eq!(given.due(after(5)), [(OTHER_TRIP, 1), (TRIP, 1)]);
    assert_eq!(given.trips.due(after(5), 1).len(), 1);
}

#[test]
fn a_round_fails_only_after_its_time_however_many_windows_it_had() {
    let mut given = given().event(TRIP, 1, matching(), NOW);
    let rounds_at = |given: &mut Given, second| {
        let open = given.trips.due(after(second), 1).remove(0);
        given.trips.found_nobody(&open, after(second));
        open.failed_rounds
    };
    let rounds: Vec<u32> = (0..22).map(|second| rounds_at(&mut given, second)).collect();
    assert_eq!(rounds[10..12], [0, 1]);
    assert_eq!(rounds[20..22], [1, 2]);
}

#[test]
fn failed_rounds_count_on_after_a_decline_and_begin_anew_when_a_driver_gave_the_trip_back() {
    let mut given = given().event(TRIP, 1, matching(), NOW);
    let open = given.trips.due(NOW, 1).remove(0);
    given.trips.found_nobody(&open, after(10));
    let given = given.event(TRIP, 2, offered_to(DRIVER), after(11)).event(
        TRIP,
        3,
        closed(DRIVER, v1::OfferEnd::Declined),
        after(12),
    );
    assert_eq!(given.trips.due(after(12), 1)[0].failed_rounds, 1);
    let given_back = v1::TripState { unassigned_count: 1, ..matching() };
    let given = given.event(TRIP, 5, given_back, after(30));
    assert_eq!(given.trips.due(after(30), 1)[0].failed_rounds, 0);
}

#[test]
fn a_state_that_cannot_be_read_is_an_error_and_hides_only_that_trip() {
    let mut given = given().event(OTHER_TRIP, 1, matching(), NOW);
    let state = Some(v1::TripState { pickup: None, ..matching() });
    let stamp = Some(v1::Stamp { version: 1, ..v1::Stamp::default() });
    let event = v1::TripEvent { stamp, state, kind: None };
    assert!(given.trips.apply(TRIP, &event, Cause::default(), NOW).is_err());
    assert_eq!(given.due(NOW), [(OTHER_TRIP, 1)]);
}
