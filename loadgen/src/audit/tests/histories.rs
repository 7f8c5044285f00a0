//! Histories by themselves, and drivers' time.

use common::contract::v1::{self, TripPhase};

use super::town::{
    ANNA, BO, FARE, FIRST, OTHER_TRIP, SECOND, THIRD, TRIP, Town, TripKind, accepted, completed,
    driver_offered, released, requested, trip_assigned, trip_offered, went_online,
};
use crate::audit::{History, Unreadable, Violation};

#[test]
fn a_message_that_is_no_event_is_found() {
    let mut town = Town::with_a_ride();
    let why = "malformed".to_owned();
    let message = Unreadable { stream: "TRIP".to_owned(), sequence: 7, why };
    town.evidence.log.unreadable.push(message);
    assert!(matches!(town.violation(), Violation::Unreadable { sequence: 7, .. }));
}

#[test]
fn a_lost_event_leaves_a_gap() {
    let mut town = Town::with_a_ride();
    // The arrival.
    town.evidence.log.trips.get_mut(&TRIP).unwrap().remove(5);
    let found = town.violations();
    let gap = Violation::VersionGap { history: History::Trip(TRIP), after: 5, found: 7 };
    assert!(found.contains(&gap), "{found:#?}");
}

#[test]
fn a_driver_s_lost_event_leaves_a_gap() {
    let mut town = Town::with_a_ride();
    town.evidence.log.drivers.get_mut(&BO).unwrap().remove(0);
    let gap = Violation::VersionGap { history: History::Driver(BO), after: 0, found: 2 };
    assert!(town.violations().contains(&gap));
}

#[test]
fn nothing_but_a_rating_may_follow_the_end() {
    let mut town = Town::with_a_ride();
    let rated = v1::TripRated { by: v1::Party::Rider.into(), stars: 5 };
    town.trip(TRIP, TripKind::Rated(rated));
    assert_eq!(town.violations(), []);
    town.trip(TRIP, TripKind::PinUnlocked(v1::TripPinUnlocked {}));
    assert!(matches!(town.violation(), Violation::EventAfterEnd { version: 10, .. }));
}

#[test]
fn a_ride_cannot_begin_before_the_driver_is_there() {
    let mut town = Town::default();
    town.driver(ANNA, went_online()).requested(TRIP).offered(TRIP, ANNA, FIRST);
    town.assigned(TRIP, ANNA, FIRST).trip(TRIP, TripKind::Started(v1::TripStarted::default()));
    assert!(matches!(town.violation(), Violation::OutOfOrder { version: 4, .. }));
}

#[test]
fn a_carried_state_that_its_history_does_not_lead_to_is_found() {
    let mut town = Town::with_a_ride();
    let entry = town.evidence.log.trips.get_mut(&TRIP).unwrap().last_mut().unwrap();
    entry.event.state.as_mut().unwrap().unassigned_count = 1;
    let Violation::StateDiffers { history, version, field, carried, folded } = town.violation()
    else {
        panic!("{:?}", town.violation());
    };
    assert_eq!((history, version, field.as_str()), (History::Trip(TRIP), 8, "unassigned"));
    assert_eq!((carried.as_str(), folded.as_str()), ("1", "0"));
}

#[test]
fn a_wrong_phase_in_the_middle_is_found_though_the_end_is_right() {
    let mut town = Town::with_a_ride();
    let entry = &mut town.evidence.log.trips.get_mut(&TRIP).unwrap()[2];
    entry.event.state.as_mut().unwrap().phase = TripPhase::Assigned.into();
    let found = town.violations();
    let is_it = |it: &Violation| matches!(it, Violation::StateDiffers { version: 3, field, .. } if field == "phase");
    assert!(found.iter().any(is_it), "{found:#?}");
}

#[test]
fn a_driver_s_state_is_folded_as_well() {
    let mut town = Town::with_a_ride();
    let entry = town.evidence.log.drivers.get_mut(&BO).unwrap().last_mut().unwrap();
    entry.event.state.as_mut().unwrap().duty = v1::Duty::Finishing.into();
    let found = town.violation();
    assert!(
        matches!(&found, Violation::StateDiffers { history: History::Driver(BO), field, .. } if field == "duty"),
        "{found:?}"
    );
}

#[test]
fn a_second_driver_on_a_trip_is_found() {
    let mut town = Town::default();
    town.driver(ANNA, went_online()).driver(BO, went_online()).requested(TRIP);
    town.offered(TRIP, ANNA, FIRST).assigned(TRIP, ANNA, FIRST);
    town.offered(TRIP, BO, SECOND).assigned(TRIP, BO, SECOND);
    let found = town.violations();
    let two = Violation::TwoDrivers { trip: TRIP, first: ANNA, second: BO };
    assert!(found.contains(&two), "{found:#?}");
}

#[test]
fn a_driver_on_two_trips_is_found() {
    let mut town = Town::default();
    town.driver(ANNA, went_online()).requested(TRIP).requested(OTHER_TRIP);
    town.offered(TRIP, ANNA, FIRST).assigned(TRIP, ANNA, FIRST);
    town.trip(OTHER_TRIP, trip_offered(ANNA, SECOND));
    town.trip(OTHER_TRIP, trip_assigned(ANNA, SECOND));
    let two = Violation::TwoTrips { driver: ANNA, first: TRIP, second: OTHER_TRIP };
    assert!(town.violations().contains(&two));
}

#[test]
fn a_driver_may_drive_one_trip_after_the_other() {
    let mut town = Town::with_a_ride();
    town.requested(OTHER_TRIP).offered(OTHER_TRIP, ANNA, THIRD);
    town.assigned(OTHER_TRIP, ANNA, THIRD);
    assert_eq!(town.violations(), []);
}

#[test]
fn an_engaged_driver_who_is_offered_another_trip_is_found() {
    let mut town = Town::default();
    town.driver(ANNA, went_online()).requested(TRIP).requested(OTHER_TRIP);
    town.offered(TRIP, ANNA, FIRST).assigned(TRIP, ANNA, FIRST);
    town.trip(OTHER_TRIP, trip_offered(ANNA, SECOND));
    town.driver(ANNA, driver_offered(OTHER_TRIP, SECOND));
    let overlap = Violation::EngagementsOverlap { driver: ANNA, first: TRIP, second: OTHER_TRIP };
    assert!(town.violations().contains(&overlap));
}

#[test]
fn an_acceptance_of_what_was_never_offered_is_found() {
    let mut town = Town::default();
    town.driver(ANNA, went_online()).requested(TRIP).trip(TRIP, trip_offered(ANNA, FIRST));
    town.driver(ANNA, accepted(TRIP, FIRST)).trip(TRIP, trip_assigned(ANNA, FIRST));
    let unoffered = Violation::AcceptedUnoffered { driver: ANNA, trip: TRIP, offer: FIRST };
    assert_eq!(town.violation(), unoffered);
}

#[test]
fn going_offline_on_a_trip_is_found() {
    let mut town = Town::default();
    town.driver(ANNA, went_online()).requested(TRIP).offered(TRIP, ANNA, FIRST);
    town.assigned(TRIP, ANNA, FIRST);
    town.driver(ANNA, v1::driver_event::Kind::WentOffline(v1::DriverWentOffline::default()));
    let offline = Violation::OfflineOnTrip { driver: ANNA, trip: TRIP };
    assert!(town.violations().contains(&offline));
}

#[test]
fn a_trip_that_nobody_asked_for_is_found() {
    let mut town = Town::with_a_ride();
    town.trip(OTHER_TRIP, requested());
    assert_eq!(town.violation(), Violation::RequestedTimes { trip: OTHER_TRIP, times: 0 });
}

#[test]
fn a_ride_that_was_asked_for_twice_is_found() {
    let mut town = Town::with_a_ride();
    town.rider(super::town::asked(TRIP));
    assert_eq!(town.violation(), Violation::RequestedTimes { trip: TRIP, times: 2 });
}

#[test]
fn a_request_that_led_to_nothing_is_found() {
    let mut town = Town::with_a_ride();
    town.rider(super::town::asked(OTHER_TRIP));
    assert_eq!(town.violation(), Violation::RequestIgnored { trip: OTHER_TRIP });
}

#[test]
fn a_driver_who_was_never_released_is_found() {
    let mut town = Town::default();
    town.driver(ANNA, went_online()).requested(TRIP).offered(TRIP, ANNA, FIRST);
    town.assigned(TRIP, ANNA, FIRST);
    town.trip(TRIP, super::town::cancelled(0));
    let forgotten = Violation::NotReleased { trip: TRIP, driver: ANNA, offer: FIRST };
    assert_eq!(town.violation(), forgotten);
    town.driver(ANNA, released(TRIP, FIRST));
    assert_eq!(town.violations(), []);
}

#[test]
fn a_driver_who_believes_in_a_trip_of_another_is_a_ghost_ride() {
    let mut town = Town::default();
    town.driver(ANNA, went_online()).requested(TRIP).offered(TRIP, ANNA, FIRST);
    town.driver(ANNA, accepted(TRIP, FIRST));
    let found = town.violation();
    assert!(matches!(found, Violation::GhostRide { driver: ANNA, .. }), "{found:?}");
}

#[test]
fn a_driver_bound_by_a_trip_that_does_not_exist_is_a_ghost_ride() {
    let mut town = Town::default();
    town.driver(ANNA, went_online()).driver(ANNA, driver_offered(TRIP, FIRST));
    let found = town.violations();
    assert!(found.iter().any(|it| matches!(it, Violation::GhostRide { .. })), "{found:#?}");
    assert!(found.iter().any(|it| matches!(it, Violation::OfferFromNowhere { .. })));
}

#[test]
fn a_trip_whose_driver_does_not_know_of_it_is_found() {
    let mut town = Town::default();
    town.driver(ANNA, went_online()).requested(TRIP).offered(TRIP, ANNA, FIRST);
    town.assigned(TRIP, ANNA, FIRST).driver(ANNA, released(TRIP, FIRST));
    let found = town.violation();
    assert!(matches!(found, Violation::DriverNotEngaged { driver: ANNA, .. }), "{found:?}");
}

#[test]
fn a_fare_that_is_not_the_quoted_one_is_found() {
    let mut town = Town::default();
    town.driver(ANNA, went_online()).requested(TRIP).offered(TRIP, ANNA, FIRST);
    town.assigned(TRIP, ANNA, FIRST)
        .trip(TRIP, TripKind::Arrived(v1::TripArrived::default()))
        .trip(TRIP, TripKind::Started(v1::TripStarted::default()))
        .trip(TRIP, completed(FARE + 1))
        .driver(ANNA, released(TRIP, FIRST))
        .rider(super::town::charged(TRIP, FARE + 1));
    assert!(matches!(town.violation(), Violation::FareNotAsQuoted { trip: TRIP, .. }));
}
