//! Ids, causes, clocks, timers, and steps of the saga that are missing.

use common::{
    clock::{Hlc, Timestamp},
    contract::v1::{self, OfferEnd},
};
use uuid::Uuid;

use super::town::{
    ANNA, BO, DUE, FIRST, OTHER_TRIP, SECOND, TRIP, Town, accepted, cancelled, closed,
    driver_offered, lapsed, released, trip_offered, went_online,
};
use crate::audit::{OrderViolation, Reaction, Violation};

fn order(town: &Town) -> OrderViolation {
    let Violation::Order(found) = town.violation() else { panic!("{:?}", town.violation()) };
    found
}

fn trip_entry(town: &mut Town, at: usize) -> &mut crate::audit::Entry<v1::TripEvent> {
    &mut town.evidence.log.trips.get_mut(&TRIP).unwrap()[at]
}

#[track_caller]
fn missing(town: &Town) -> Reaction {
    let found = town.violations();
    let is_it = |it: &Violation| match it {
        Violation::Order(OrderViolation::ReactionMissing { reaction, .. }) => Some(*reaction),
        _ => None,
    };
    found.iter().find_map(is_it).unwrap_or_else(|| panic!("{found:#?}"))
}

fn with_an_offer() -> Town {
    let mut town = Town::default();
    town.driver(ANNA, went_online()).requested(TRIP).offered(TRIP, ANNA, FIRST);
    town
}

#[test]
fn one_event_stored_twice_is_found() {
    let mut town = Town::with_a_ride();
    let twice = trip_entry(&mut town, 1).id;
    trip_entry(&mut town, 5).id = twice;
    let is_it = |it: &Violation| matches!(it, Violation::Order(OrderViolation::EventTwice { id, .. }) if *id == twice);
    assert!(town.violations().iter().any(is_it));
}

#[test]
fn a_command_that_made_two_events_is_found_though_their_ids_differ() {
    let mut town = Town::with_a_ride();
    let command = trip_entry(&mut town, 5).memory.command;
    trip_entry(&mut town, 6).memory.command = command;
    assert!(matches!(order(&town), OrderViolation::CommandTwice { before: 6, version: 7, .. }));
}

#[test]
fn a_snapshot_that_forgot_a_command_is_found() {
    let mut town = Town::with_a_ride();
    trip_entry(&mut town, 6).memory.is_whole = false;
    assert!(matches!(order(&town), OrderViolation::Forgetful { version: 7, .. }));
}

#[test]
fn an_event_that_another_service_wrote_is_found() {
    let mut town = Town::with_a_ride();
    trip_entry(&mut town, 6).source = "driver".to_owned();
    assert!(matches!(order(&town), OrderViolation::ForeignWriter { .. }));
}

#[test]
fn an_event_under_the_subject_of_another_is_found() {
    let mut town = Town::with_a_ride();
    trip_entry(&mut town, 6).of = OTHER_TRIP.0;
    assert!(matches!(order(&town), OrderViolation::Misaddressed { .. }));
}

#[test]
fn a_logical_clock_that_goes_backwards_is_found() {
    let mut town = Town::with_a_ride();
    trip_entry(&mut town, 6).hlc = Hlc { millis: 1, counter: 7 };
    assert!(matches!(order(&town), OrderViolation::ClockBackwards { .. }));
}

#[test]
fn an_effect_before_its_cause_is_found() {
    let mut town = Town::with_a_ride();
    // The driver's first event, made to be caused by the trip's last one.
    let cause = town.evidence.log.trips[&TRIP].last().unwrap().id;
    town.evidence.log.drivers.get_mut(&BO).unwrap()[0].cause = Some(cause);
    assert!(matches!(order(&town), OrderViolation::BeforeItsCause { .. }));
}

#[test]
fn an_effect_before_a_cause_that_spoke_through_a_command_is_found() {
    let mut town = Town::with_a_ride();
    let history = town.evidence.log.drivers.get_mut(&ANNA).unwrap();
    let (online, offered) = (history[0].hlc, &mut history[1]);
    offered.hlc = Hlc { counter: 1, ..online };
    assert!(matches!(order(&town), OrderViolation::BeforeItsCause { .. }));
}

#[test]
fn a_lease_that_ends_by_its_timer_is_no_violation() {
    let mut town = with_an_offer();
    town.trip(TRIP, closed(ANNA, FIRST, OfferEnd::LeaseOver)).driver(ANNA, released(TRIP, FIRST));
    assert_eq!(town.violations(), []);
}

#[test]
fn the_effect_of_a_timer_that_did_not_run_is_found() {
    let mut town = with_an_offer();
    town.trip(TRIP, closed(ANNA, FIRST, OfferEnd::LeaseOver)).driver(ANNA, released(TRIP, FIRST));
    trip_entry(&mut town, 1).event.stamp.as_mut().unwrap().timers.pop();
    let found = town.violation();
    let Violation::Order(OrderViolation::FiredWithoutRunning { version, .. }) = found else {
        panic!("{found:?}");
    };
    assert_eq!(version, 3);
}

#[test]
fn a_timer_that_fires_twice_is_found() {
    let mut town = with_an_offer();
    town.trip(TRIP, closed(ANNA, FIRST, OfferEnd::LeaseOver)).driver(ANNA, released(TRIP, FIRST));
    town.trip(TRIP, trip_offered(BO, SECOND)).trip(TRIP, closed(BO, SECOND, OfferEnd::LeaseOver));
    let first = trip_entry(&mut town, 2).id;
    trip_entry(&mut town, 4).id = first;
    let is_it = |it: &Violation| {
        matches!(it, Violation::Order(OrderViolation::FiredWithoutRunning { version: 5, .. }))
    };
    assert!(town.violations().iter().any(is_it), "{:#?}", town.violations());
}

#[test]
fn a_timer_left_by_a_trip_that_is_over_is_found() {
    let mut town = Town::with_a_ride();
    let timer = trip_entry(&mut town, 0).event.stamp.as_ref().unwrap().timers[0].clone();
    trip_entry(&mut town, 7).event.stamp.as_mut().unwrap().timers.push(timer);
    assert!(matches!(order(&town), OrderViolation::TimerLeft { version: 8, .. }));
}

#[test]
fn a_timer_that_nobody_fires_is_found_but_not_before_the_sweeper_had_its_time() {
    let mut town = with_an_offer();
    let after = |seconds| Some(DUE.plus(std::time::Duration::from_secs(seconds)));
    town.evidence.read_at = after(100);
    assert_eq!(town.violations(), []);
    town.evidence.read_at = after(200);
    let found = town.violations();
    let is_it = |it: &Violation| {
        matches!(it, Violation::Order(OrderViolation::TimerOverdue { overdue_s: 200, .. }))
    };
    // The search, the lease, and the driver's own time.
    assert_eq!(found.iter().filter(|it| is_it(it)).count(), 3, "{found:#?}");
    town.evidence.read_at = Some(Timestamp::default());
    assert_eq!(town.violations(), []);
}

#[test]
fn a_trip_that_waits_for_nothing_is_found() {
    let mut town = Town::default();
    town.requested(TRIP);
    trip_entry(&mut town, 0).event.stamp.as_mut().unwrap().timers.clear();
    assert!(matches!(order(&town), OrderViolation::Stuck { version: 1, .. }));
}

#[test]
fn a_driver_whose_offer_never_lapses_is_found() {
    let mut town = with_an_offer();
    let last = town.evidence.log.drivers.get_mut(&ANNA).unwrap().last_mut().unwrap();
    last.event.stamp.as_mut().unwrap().timers.clear();
    assert!(matches!(order(&town), OrderViolation::Stuck { version: 2, .. }));
}

#[test]
fn every_step_of_the_saga_is_missed_where_it_is_missing() {
    let mut town = Town::default();
    town.rider(super::town::asked(TRIP));
    assert_eq!(missing(&town), Reaction::Request);

    let mut town = with_an_offer();
    town.driver(ANNA, lapsed(TRIP, FIRST));
    assert_eq!(missing(&town), Reaction::CloseOffer);

    let mut town = with_an_offer();
    town.driver(ANNA, accepted(TRIP, FIRST));
    assert_eq!(missing(&town), Reaction::Assign);

    let mut town = with_an_offer();
    town.trip(TRIP, closed(ANNA, FIRST, OfferEnd::LeaseOver));
    assert_eq!(missing(&town), Reaction::Release);

    let mut town = Town::with_a_ride();
    town.evidence.log.riders.pop();
    assert_eq!(missing(&town), Reaction::Charge);
}

#[test]
fn an_assignment_to_a_driver_who_never_had_the_offer_is_found() {
    let mut town = Town::with_a_ride();
    let offered = town.evidence.log.drivers.get_mut(&ANNA).unwrap();
    offered[1].id = Uuid::from_u128(99);
    assert_eq!(missing(&town), Reaction::Offer);
}

#[test]
fn an_acceptance_that_came_too_late_is_answered_by_a_release() {
    let mut town = with_an_offer();
    town.driver(ANNA, accepted(TRIP, FIRST)).trip(TRIP, cancelled(0));
    assert_eq!(missing(&town), Reaction::Assign);
    town.driver(ANNA, released(TRIP, FIRST));
    assert_eq!(town.violations(), []);
}

#[test]
fn a_withdrawn_request_leads_to_nothing_and_that_is_right() {
    let mut town = Town::default();
    town.trip(TRIP, cancelled(0)).rider(super::town::asked(TRIP));
    assert_eq!(town.violations(), []);
}

#[test]
fn a_driver_who_is_asked_by_a_trip_and_by_the_same_again_is_found() {
    let mut town = with_an_offer();
    town.driver(ANNA, driver_offered(TRIP, FIRST));
    let is_it = |it: &Violation| matches!(it, Violation::Order(OrderViolation::EventTwice { .. }));
    assert!(town.violations().iter().any(is_it));
}
