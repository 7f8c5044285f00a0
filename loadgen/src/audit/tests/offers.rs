//! Offers on both sides.

use common::contract::v1::OfferEnd;

use super::town::{
    ANNA, BO, FIRST, SECOND, TRIP, Town, accepted, cancelled, closed, declined, driver_offered,
    lapsed, released, reopen, trip_assigned, trip_offered, went_online,
};
use crate::audit::Violation;

fn with_an_offer() -> Town {
    let mut town = Town::default();
    town.driver(ANNA, went_online()).requested(TRIP).offered(TRIP, ANNA, FIRST);
    town
}

#[test]
fn an_offer_that_is_open_while_the_trip_goes_on_is_no_violation() {
    assert_eq!(with_an_offer().violations(), []);
}

#[test]
fn an_offer_left_open_by_a_trip_that_is_over_is_found() {
    let mut town = with_an_offer();
    town.trip(TRIP, cancelled(0)).driver(ANNA, released(TRIP, FIRST));
    assert_eq!(town.violations(), []);
    let last = town.evidence.log.trips.get_mut(&TRIP).unwrap().last_mut().unwrap();
    reopen(last.event.state.as_mut().unwrap());
    let open =
        |it: &Violation| matches!(it, Violation::OfferWithoutEnd { side, .. } if side == "trip");
    assert!(town.violations().iter().any(open));
}

#[test]
fn an_offer_that_the_driver_never_heard_the_end_of_is_found() {
    let mut town = Town::default();
    town.driver(ANNA, went_online()).requested(TRIP).trip(TRIP, trip_offered(ANNA, FIRST));
    town.trip(TRIP, closed(ANNA, FIRST, OfferEnd::LeaseOver));
    let found = town.violation();
    assert!(
        matches!(&found, Violation::OfferWithoutEnd { side, .. } if side == "driver"),
        "{found:?}"
    );
}

#[test]
fn an_offer_that_ended_twice_for_the_trip_is_found() {
    let mut town = with_an_offer();
    town.driver(ANNA, declined(TRIP, FIRST)).trip(TRIP, closed(ANNA, FIRST, OfferEnd::Declined));
    town.trip(TRIP, closed(ANNA, FIRST, OfferEnd::Declined));
    let twice = |it: &Violation| matches!(it, Violation::OfferEndedTwice { offer: FIRST, .. });
    assert!(town.violations().iter().any(twice));
}

#[test]
fn an_offer_that_ended_twice_for_the_driver_is_found() {
    let mut town = with_an_offer();
    town.driver(ANNA, declined(TRIP, FIRST)).driver(ANNA, lapsed(TRIP, FIRST));
    town.trip(TRIP, closed(ANNA, FIRST, OfferEnd::Declined));
    let found = town.violations();
    assert!(found.iter().any(|it| matches!(it, Violation::OfferEndedTwice { ends: 2, .. })));
}

#[test]
fn an_assignment_by_an_offer_that_was_never_made_is_found() {
    let mut town = Town::default();
    town.driver(BO, went_online()).requested(TRIP);
    town.driver(BO, driver_offered(TRIP, SECOND)).driver(BO, accepted(TRIP, SECOND));
    town.trip(TRIP, trip_assigned(BO, SECOND));
    let nowhere = Violation::OfferFromNowhere { trip: TRIP, driver: BO, offer: SECOND };
    assert!(town.violations().contains(&nowhere));
}

#[test]
fn an_offer_that_is_declined_here_and_lapsed_there_is_found() {
    let mut town = with_an_offer();
    town.driver(ANNA, declined(TRIP, FIRST)).trip(TRIP, closed(ANNA, FIRST, OfferEnd::Lapsed));
    assert!(matches!(town.violation(), Violation::OfferEndsDiffer { offer: FIRST, .. }));
}

#[test]
fn an_assignment_that_the_driver_never_accepted_is_found() {
    let mut town = with_an_offer();
    town.trip(TRIP, trip_assigned(ANNA, FIRST)).driver(ANNA, released(TRIP, FIRST));
    let found = town.violations();
    assert!(found.iter().any(|it| matches!(it, Violation::OfferEndsDiffer { .. })), "{found:#?}");
}

#[test]
fn a_driver_who_accepts_as_the_rider_cancels_is_released_and_all_is_well() {
    let mut town = with_an_offer();
    town.driver(ANNA, accepted(TRIP, FIRST)).trip(TRIP, cancelled(0));
    town.driver(ANNA, released(TRIP, FIRST));
    assert_eq!(town.violations(), []);
}

#[test]
fn a_driver_who_declines_as_the_rider_cancels_needs_no_release() {
    let mut town = with_an_offer();
    town.driver(ANNA, declined(TRIP, FIRST)).trip(TRIP, cancelled(0));
    assert_eq!(town.violations(), []);
}
