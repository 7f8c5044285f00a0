//! From the PIN to the rating, and what operations may do.

use std::time::Duration;

use super::given::{
    ANNA, BELA, OTHER_RIDER, RIDER, at, at_the_destination, at_the_pickup, cancelled, close,
    complete, dropoff, given, matching, money, on_the_road, on_the_way, stars, start, started,
};
use crate::domain::{Party, Phase, Rejection, Trip, TripCommand, TripEvent, refusal};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn the_riders_pin_starts_the_ride() {
    let trip = given(&at_the_pickup()).after(SECOND).when(start("0417")).then(started());
    assert_eq!(trip.phase(), Some(Phase::InProgress));
    given(&on_the_road()).when(start("0417")).then_nothing();
}

#[test]
fn a_wrong_pin_is_remembered_and_refused() {
    let trip =
        given(&at_the_pickup()).when(start("0000")).then(TripEvent::PinRefused { tries_left: 4 });
    assert_eq!(refusal(&start("0000"), &trip), Some(Rejection::PinInvalid { tries_left: 4 }));
    assert_eq!(refusal(&start("0417"), &given(&on_the_road()).trip), None);
    assert_eq!(refusal(&complete(ANNA), &trip), None);
}

#[test]
fn a_wrong_pin_stays_refused_whatever_became_of_the_trip() {
    let phase = Phase::Cancelled;
    let over = [with_wrong_pins(1), vec![cancelled(Party::Rider, "other", Phase::Arrived, 0)]];
    let trip = given(&over.concat()).trip;
    assert_eq!(refusal(&start("0000"), &trip), Some(Rejection::Ended { phase }));
    // Another try was right: the ride began, which is what was wanted.
    assert_eq!(refusal(&start("0000"), &given(&on_the_road()).trip), None);
}

fn with_wrong_pins(count: u32) -> Vec<TripEvent> {
    let wrong = (0..count).map(|tries| TripEvent::PinRefused { tries_left: 4 - tries });
    at_the_pickup().into_iter().chain(wrong).collect()
}

#[test]
fn the_fifth_wrong_pin_locks_and_then_even_the_right_one_is_refused() {
    given(&with_wrong_pins(4)).when(start("0000")).then(TripEvent::PinRefused { tries_left: 0 });
    given(&with_wrong_pins(5)).when(start("0417")).then_rejected(Rejection::PinLocked);
}

#[test]
fn operations_unlock_the_pin() {
    given(&with_wrong_pins(5)).when(TripCommand::UnlockPin).then(TripEvent::PinUnlocked);
    let unlocked = [with_wrong_pins(5), vec![TripEvent::PinUnlocked]].concat();
    given(&unlocked).when(TripCommand::UnlockPin).then_nothing();
    given(&unlocked).when(start("0000")).then(TripEvent::PinRefused { tries_left: 4 });
    given(&on_the_way())
        .when(TripCommand::UnlockPin)
        .then_rejected(Rejection::WrongPhase { phase: Phase::Assigned });
    given(&[]).when(TripCommand::UnlockPin).then_rejected(Rejection::UnknownTrip);
    given(&at_the_destination())
        .when(TripCommand::UnlockPin)
        .then_rejected(Rejection::Ended { phase: Phase::Completed });
}

#[test]
fn only_an_arrived_driver_starts() {
    given(&on_the_way())
        .when(start("0417"))
        .then_rejected(Rejection::WrongPhase { phase: Phase::Assigned });
    given(&matching()).when(start("0417")).then_rejected(Rejection::NotYours);
    given(&at_the_destination())
        .when(start("0417"))
        .then_rejected(Rejection::Ended { phase: Phase::Completed });
}

#[test]
fn a_completed_ride_costs_what_was_quoted_whatever_the_way() {
    given(&on_the_road()).after(25 * MINUTE).when(complete(ANNA)).then(TripEvent::Completed {
        position: Some(dropoff()),
        distance_m: 3_600,
        duration_s: 25 * 60,
        fare: money(12_500),
        by: Party::Driver,
    });
}

#[test]
fn without_a_measured_way_the_quoted_one_counts() {
    let unmeasured = TripCommand::Complete { driver: ANNA, position: dropoff(), distance_m: 0 };
    let event = given(&on_the_road()).when(unmeasured).event();
    assert!(matches!(event, TripEvent::Completed { distance_m: 3_500, .. }));
}

#[test]
fn only_the_trips_driver_completes_it_and_only_on_the_road() {
    given(&on_the_road()).when(complete(BELA)).then_rejected(Rejection::NotYours);
    given(&at_the_destination()).when(complete(ANNA)).then_nothing();
    given(&at_the_pickup())
        .when(complete(ANNA))
        .then_rejected(Rejection::WrongPhase { phase: Phase::Arrived });
    let cancelled = cancelled(Party::Rider, "other", Phase::Assigned, 0);
    given(&[on_the_way(), vec![cancelled]].concat())
        .when(complete(ANNA))
        .then_rejected(Rejection::Ended { phase: Phase::Cancelled });
}

#[test]
fn operations_close_a_ride_as_completed_or_cancelled() {
    given(&on_the_road()).after(MINUTE).when(close(true)).then(TripEvent::Completed {
        position: None,
        distance_m: 3_500,
        duration_s: 60,
        fare: money(12_500),
        by: Party::Operations,
    });
    let cancelled = cancelled(Party::Operations, "phone died", Phase::InProgress, 0);
    given(&on_the_road()).when(close(false)).then(cancelled.clone());
    given(&[on_the_road(), vec![cancelled.clone()]].concat()).when(close(false)).then_nothing();
    given(&[on_the_road(), vec![cancelled]].concat())
        .when(close(true))
        .then_rejected(Rejection::Ended { phase: Phase::Cancelled });
    given(&at_the_destination()).when(close(true)).then_nothing();
}

#[test]
fn operations_cancel_a_trip_that_is_left_at_the_kerb() {
    given(&at_the_pickup()).when(close(false)).then(cancelled(
        Party::Operations,
        "phone died",
        Phase::Arrived,
        0,
    ));
    given(&at_the_pickup())
        .when(close(true))
        .then_rejected(Rejection::WrongPhase { phase: Phase::Arrived });
}

#[test]
fn operations_close_nothing_before_the_pickup() {
    given(&matching())
        .when(close(false))
        .then_rejected(Rejection::WrongPhase { phase: Phase::Matching });
    given(&[]).when(close(true)).then_rejected(Rejection::UnknownTrip);
}

fn rider_rates(count: u32) -> TripCommand {
    TripCommand::RateByRider { rider: RIDER, stars: stars(count) }
}

fn driver_rates(count: u32) -> TripCommand {
    TripCommand::RateByDriver { driver: ANNA, stars: stars(count) }
}

#[test]
fn both_sides_rate_once() {
    let rated = TripEvent::Rated { by: Party::Rider, stars: stars(5) };
    given(&at_the_destination()).when(rider_rates(5)).then(rated.clone());
    let history = [at_the_destination(), vec![rated]].concat();
    given(&history).when(rider_rates(5)).then_nothing();
    given(&history).when(rider_rates(1)).then_rejected(Rejection::AlreadyRated);
    let trip = given(&history)
        .when(driver_rates(4))
        .then(TripEvent::Rated { by: Party::Driver, stars: stars(4) });
    let Trip::Completed(completed) = trip else { panic!("{trip:?}") };
    assert_eq!(completed.ratings.by_rider, Some(stars(5)));
    assert_eq!(completed.ratings.by_driver, Some(stars(4)));
}

#[test]
fn ratings_close_after_seven_days() {
    given(&at_the_destination())
        .after(7 * DAY)
        .when(rider_rates(5))
        .then(TripEvent::Rated { by: Party::Rider, stars: stars(5) });
    given(&at_the_destination())
        .after(7 * DAY + SECOND)
        .when(rider_rates(5))
        .then_rejected(Rejection::RatingClosed { at: at(6).plus(7 * DAY) });
}

#[test]
fn only_a_completed_ride_is_rated_and_only_by_its_own_people() {
    given(&on_the_road())
        .when(rider_rates(5))
        .then_rejected(Rejection::WrongPhase { phase: Phase::InProgress });
    let cancelled = cancelled(Party::Rider, "other", Phase::Assigned, 0);
    given(&[on_the_way(), vec![cancelled]].concat())
        .when(rider_rates(5))
        .then_rejected(Rejection::Ended { phase: Phase::Cancelled });
    given(&at_the_destination())
        .when(TripCommand::RateByRider { rider: OTHER_RIDER, stars: stars(1) })
        .then_rejected(Rejection::NotYours);
    given(&at_the_destination())
        .when(TripCommand::RateByDriver { driver: BELA, stars: stars(1) })
        .then_rejected(Rejection::NotYours);
    given(&[]).when(rider_rates(5)).then_rejected(Rejection::UnknownTrip);
}
