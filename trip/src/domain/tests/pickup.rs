//! Cancelling, arriving, waiting.

use std::time::Duration;

use super::given::{
    ANNA, BELA, CEM, OTHER_RIDER, TO_ANNA, TO_CEM, arrive, arrived, assign, assigned, at,
    at_the_destination, at_the_pickup, away, cancelled, driver_cancels, given, given_back_twice,
    matching, offered, on_offer, on_the_road, on_the_way, pickup, reason, rider_cancels,
    unassigned,
};
use crate::domain::{Party, Phase, Rejection, TripCommand, TripEvent};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn rider_cancelled(phase: Phase, fee: i64) -> TripEvent {
    cancelled(Party::Rider, "wait_too_long", phase, fee)
}

#[test]
fn cancelling_the_search_is_free() {
    for history in [matching(), on_offer()] {
        given(&history)
            .after(MINUTE)
            .when(rider_cancels())
            .then(rider_cancelled(Phase::Matching, 0));
    }
}

#[test]
fn cancelling_is_free_up_to_two_minutes_after_the_assignment() {
    given(&on_the_way())
        .after(2 * MINUTE)
        .when(rider_cancels())
        .then(rider_cancelled(Phase::Assigned, 0));
}

#[test]
fn later_it_costs_what_the_quote_said() {
    given(&on_the_way())
        .after(2 * MINUTE + SECOND)
        .when(rider_cancels())
        .then(rider_cancelled(Phase::Assigned, 4_000));
    given(&at_the_pickup())
        .after(3 * MINUTE)
        .when(rider_cancels())
        .then(rider_cancelled(Phase::Arrived, 4_000));
}

#[test]
fn the_two_minutes_count_from_the_driver_who_is_on_the_way_now() {
    let history =
        [on_the_way(), vec![unassigned(ANNA, TO_ANNA)], vec![offered(CEM, TO_CEM)]].concat();
    given(&history)
        .after(5 * MINUTE)
        .when(rider_cancels())
        .then(rider_cancelled(Phase::Matching, 0));
    let history = [history, vec![assigned(CEM, TO_CEM)]].concat();
    given(&history).after(MINUTE).when(rider_cancels()).then(rider_cancelled(Phase::Assigned, 0));
}

#[test]
fn a_ride_on_the_road_cannot_be_cancelled() {
    given(&on_the_road()).when(rider_cancels()).then_rejected(Rejection::Started);
    given(&on_the_road()).when(driver_cancels(ANNA)).then_rejected(Rejection::Started);
}

#[test]
fn cancelling_twice_is_cancelling_once() {
    let history = [on_the_way(), vec![rider_cancelled(Phase::Assigned, 0)]].concat();
    given(&history).when(rider_cancels()).then_nothing();
}

#[test]
fn what_ended_otherwise_cannot_be_cancelled() {
    given(&at_the_destination())
        .when(rider_cancels())
        .then_rejected(Rejection::Ended { phase: Phase::Completed });
    let by_driver = cancelled(Party::Driver, "other", Phase::Arrived, 0);
    given(&[at_the_pickup(), vec![by_driver]].concat())
        .when(rider_cancels())
        .then_rejected(Rejection::Ended { phase: Phase::Cancelled });
}

#[test]
fn nobody_cancels_another_riders_trip() {
    let stranger = || TripCommand::CancelByRider {
        rider: OTHER_RIDER,
        reason: reason("other"),
        asked_at: at(0),
    };
    for history in [matching(), on_the_way(), on_the_road(), at_the_destination()] {
        given(&history).when(stranger()).then_rejected(Rejection::NotYours);
    }
}

#[test]
fn a_driver_who_gives_the_trip_back_restarts_the_search() {
    let trip = given(&on_the_way())
        .after(SECOND)
        .when(driver_cancels(ANNA))
        .then(unassigned(ANNA, TO_ANNA));
    assert_eq!(trip.phase(), Some(Phase::Matching));
    assert!(trip.search().unwrap().excludes(ANNA));
}

#[test]
fn the_third_driver_who_gives_it_back_ends_the_trip() {
    given(&given_back_twice()).when(driver_cancels(CEM)).then(cancelled(
        Party::Driver,
        "vehicle_problem",
        Phase::Assigned,
        0,
    ));
}

#[test]
fn when_rider_and_driver_cancel_together_the_first_one_counts() {
    let rider_first = [on_the_way(), vec![rider_cancelled(Phase::Assigned, 0)]].concat();
    given(&rider_first)
        .when(driver_cancels(ANNA))
        .then_rejected(Rejection::Ended { phase: Phase::Cancelled });
    let driver_first = [on_the_way(), vec![unassigned(ANNA, TO_ANNA)]].concat();
    given(&driver_first).when(rider_cancels()).then(rider_cancelled(Phase::Matching, 0));
}

#[test]
fn a_driver_at_the_pickup_may_leave_for_a_reason_of_their_own() {
    let by_driver = cancelled(Party::Driver, "vehicle_problem", Phase::Arrived, 0);
    given(&at_the_pickup()).when(driver_cancels(ANNA)).then(by_driver.clone());
    given(&[at_the_pickup(), vec![by_driver]].concat()).when(driver_cancels(ANNA)).then_nothing();
}

#[test]
fn only_the_trips_driver_gives_it_back() {
    given(&on_the_way()).when(driver_cancels(BELA)).then_rejected(Rejection::NotYours);
    given(&matching()).when(driver_cancels(BELA)).then_rejected(Rejection::NotYours);
    given(&[]).when(driver_cancels(BELA)).then_rejected(Rejection::UnknownTrip);
    let given_back = [on_the_way(), vec![unassigned(ANNA, TO_ANNA)]].concat();
    given(&given_back).when(driver_cancels(ANNA)).then_rejected(Rejection::NotYours);
}

#[test]
fn a_driver_within_a_hundred_metres_has_arrived() {
    let position = away(99.0);
    let arrived = TripEvent::Arrived { position, forced: false, wait_until: at(3 + 300) };
    given(&on_the_way()).when(arrive(ANNA, position, false)).then(arrived.clone());
    given(&on_the_way()).when(arrive(ANNA, position, true)).then(arrived);
}

#[test]
fn a_driver_farther_away_has_not_unless_they_insist() {
    let position = away(250.0);
    given(&on_the_way())
        .when(arrive(ANNA, position, false))
        .then_rejected(Rejection::TooFarFromPickup { distance_m: 250 });
    given(&on_the_way()).when(arrive(ANNA, position, true)).then(TripEvent::Arrived {
        position,
        forced: true,
        wait_until: at(3 + 300),
    });
}

#[test]
fn arriving_twice_is_arriving_once_and_only_on_the_way() {
    given(&at_the_pickup()).when(arrive(ANNA, pickup(), false)).then_nothing();
    given(&on_the_way()).when(arrive(BELA, pickup(), false)).then_rejected(Rejection::NotYours);
    given(&on_the_road())
        .when(arrive(ANNA, pickup(), false))
        .then_rejected(Rejection::WrongPhase { phase: Phase::InProgress });
    given(&at_the_destination())
        .when(arrive(ANNA, pickup(), false))
        .then_rejected(Rejection::Ended { phase: Phase::Completed });
}

fn no_show() -> TripCommand {
    TripCommand::NoShow { driver: ANNA }
}

#[test]
fn a_driver_waits_five_minutes_for_the_rider() {
    given(&at_the_pickup())
        .after(4 * MINUTE)
        .when(no_show())
        .then_rejected(Rejection::WaitNotOver { until: at(304) });
}

#[test]
fn then_the_driver_may_leave_and_the_rider_pays_the_fee() {
    let event = cancelled(Party::Driver, "no_show", Phase::Arrived, 4_000);
    let over = [at_the_pickup(), vec![TripEvent::WaitOver]].concat();
    given(&over).when(no_show()).then(event.clone());
    given(&at_the_pickup()).after(5 * MINUTE).when(no_show()).then(event.clone());
    given(&[at_the_pickup(), vec![event]].concat()).when(no_show()).then_nothing();
}

#[test]
fn there_is_no_no_show_before_arriving_or_after_the_start() {
    given(&on_the_way())
        .when(no_show())
        .then_rejected(Rejection::WrongPhase { phase: Phase::Assigned });
    given(&on_the_road())
        .when(no_show())
        .then_rejected(Rejection::WrongPhase { phase: Phase::InProgress });
    given(&at_the_destination())
        .when(no_show())
        .then_rejected(Rejection::Ended { phase: Phase::Completed });
    given(&at_the_pickup())
        .when(TripCommand::NoShow { driver: BELA })
        .then_rejected(Rejection::NotYours);
}

#[test]
fn an_assignment_races_a_cancellation_and_the_first_one_counts() {
    let cancelled_first = [on_offer(), vec![rider_cancelled(Phase::Matching, 0)]].concat();
    given(&cancelled_first)
        .when(assign(ANNA, TO_ANNA))
        .then_rejected(Rejection::OfferClosed { why: crate::domain::OfferEnd::TripEnded });
    let assigned_first = [on_offer(), vec![assigned(ANNA, TO_ANNA), arrived()]].concat();
    given(&assigned_first).when(rider_cancels()).then(rider_cancelled(Phase::Arrived, 0));
}
