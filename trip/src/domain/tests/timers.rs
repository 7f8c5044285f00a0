//! What the timers ask for, and which of them still mean something.

use std::time::Duration;

use super::given::{
    ANNA, CEM, TO_ANNA, arrived, assigned, at, at_the_destination, at_the_pickup, cancelled,
    closed, given, given_back_twice, matching, offered, on_offer, on_the_road, on_the_way, reason,
    requested, started, unassigned,
};
use crate::domain::{OfferEnd, Party, Phase, TimerKind, TripCommand, TripEvent};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_search_without_a_driver_ends_unfulfilled_at_the_deadline() {
    for history in [matching(), on_offer()] {
        let trip = given(&history).when(TripCommand::EndSearch).then(TripEvent::Unfulfilled);
        assert_eq!(trip.phase(), Some(Phase::Unfulfilled));
        assert!(trip.search().unwrap().open().is_none());
    }
}

#[test]
fn an_offer_that_nobody_answered_within_the_lease_is_closed() {
    let over = closed(ANNA, TO_ANNA, OfferEnd::LeaseOver);
    given(&on_offer()).when(TripCommand::EndLease).then(over);
}

#[test]
fn a_driver_who_is_late_loses_the_trip() {
    given(&on_the_way()).after(MINUTE).when(TripCommand::EndPickup).then(TripEvent::Unassigned {
        by: Party::System,
        reason: reason("driver_late"),
        driver: ANNA,
        offer: TO_ANNA,
        match_deadline: at(3 + 60 + 120),
    });
}

#[test]
fn the_third_late_driver_ends_the_trip() {
    given(&given_back_twice()).when(TripCommand::EndPickup).then(cancelled(
        Party::System,
        "driver_late",
        Phase::Assigned,
        0,
    ));
}

#[test]
fn the_riders_time_ends_once() {
    given(&at_the_pickup()).when(TripCommand::EndWait).then(TripEvent::WaitOver);
    let over = [at_the_pickup(), vec![TripEvent::WaitOver]].concat();
    given(&over).when(TripCommand::EndWait).then_nothing();
}

#[test]
fn a_ride_that_takes_far_too_long_is_marked_once() {
    given(&on_the_road()).when(TripCommand::MarkStalled).then(TripEvent::Stalled);
    let stalled = [on_the_road(), vec![TripEvent::Stalled]].concat();
    given(&stalled).when(TripCommand::MarkStalled).then_nothing();
}

#[test]
fn a_timer_that_fires_into_another_phase_does_nothing() {
    let timers = [
        TripCommand::EndSearch,
        TripCommand::EndLease,
        TripCommand::EndPickup,
        TripCommand::EndWait,
        TripCommand::MarkStalled,
    ];
    for timer in timers {
        given(&[]).when(timer.clone()).then_nothing();
        given(&at_the_destination()).when(timer).then_nothing();
    }
    given(&on_the_way()).when(TripCommand::EndSearch).then_nothing();
    given(&on_the_way()).when(TripCommand::EndLease).then_nothing();
    given(&at_the_pickup()).when(TripCommand::EndPickup).then_nothing();
    given(&on_the_road()).when(TripCommand::EndWait).then_nothing();
    given(&matching()).when(TripCommand::MarkStalled).then_nothing();
}

#[test]
fn each_wait_starts_its_timer() {
    use TimerKind as K;
    assert_eq!(requested().starts(), Some((K::MatchDeadline, at(121))));
    assert_eq!(offered(CEM, TO_ANNA).starts(), Some((K::OfferLease, at(32))));
    assert_eq!(assigned(CEM, TO_ANNA).starts(), Some((K::PickupWatchdog, at(783))));
    assert_eq!(unassigned(CEM, TO_ANNA).starts(), Some((K::MatchDeadline, at(124))));
    assert_eq!(arrived().starts(), Some((K::NoShowWait, at(304))));
    assert_eq!(started().starts(), Some((K::RideWatchdog, at(5 + 1800 + 1800))));
    assert_eq!(TripEvent::WaitOver.starts(), None);
}
