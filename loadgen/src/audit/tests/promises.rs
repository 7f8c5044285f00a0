//! What phones were promised.

use serde_json::json;

use super::town::{
    ANNA, BO, FIRST, OTHER_TRIP, RIDER, SECOND, TRIP, Town, answer, cancelled, lapsed, step,
};
use crate::audit::Violation;

/// Whether the audit misses something of the promise.
#[track_caller]
fn lost(town: &Town) -> String {
    let Violation::PromiseLost { missing, .. } = town.violation() else {
        panic!("{:?}", town.violation());
    };
    missing
}

#[test]
fn a_ride_that_was_promised_and_is_not_in_the_log_is_found() {
    let mut town = Town::with_a_ride();
    town.evidence.promises.clear();
    town.promised(("rider", RIDER.0), "/v1/trips", 201, json!({"trip_id": OTHER_TRIP}));
    assert_eq!(lost(&town), "the log has no such request");
}

#[test]
fn a_ride_that_belongs_to_another_rider_is_found() {
    let mut town = Town::with_a_ride();
    town.evidence.promises.clear();
    town.promised(("rider", BO.0), "/v1/trips", 201, json!({"trip_id": TRIP}));
    assert!(lost(&town).starts_with("the log has it from rider"));
}

#[test]
fn one_key_that_made_two_trips_is_found() {
    let mut town = Town::with_a_ride();
    town.requested(OTHER_TRIP).trip(OTHER_TRIP, cancelled(0));
    town.promised(("rider", RIDER.0), "/v1/trips", 201, json!({"trip_id": OTHER_TRIP}));
    assert!(matches!(town.violation(), Violation::KeyMadeTwo { second: OTHER_TRIP, .. }));
}

#[test]
fn the_same_answer_to_a_double_tap_is_no_violation() {
    let mut town = Town::with_a_ride();
    town.promised(("rider", RIDER.0), "/v1/trips", 201, json!({"trip_id": TRIP}));
    assert_eq!(town.violations(), []);
}

#[test]
fn a_cancellation_that_was_promised_and_did_not_happen_is_found() {
    let mut town = Town::with_a_ride();
    town.promised(("rider", RIDER.0), &format!("/v1/trips/{TRIP}/cancel"), 200, json!({}));
    assert_eq!(lost(&town), "the trip's history has no `cancel`");
}

#[test]
fn a_rating_that_was_promised_and_is_not_there_is_found() {
    let mut town = Town::with_a_ride();
    town.promised(("rider", RIDER.0), &format!("/v1/trips/{TRIP}/rating"), 201, json!({}));
    assert_eq!(lost(&town), "the trip's history has no `rating`");
}

#[test]
fn a_step_of_the_ride_that_was_promised_and_is_not_there_is_found() {
    let mut town = Town::with_a_ride();
    town.promised(("driver", ANNA.0), &step(TRIP, "no-show"), 200, json!({}));
    assert_eq!(lost(&town), "the trip's history has no `no-show`");
}

#[test]
fn an_acceptance_that_was_promised_and_is_not_there_is_found() {
    let mut town = Town::with_a_ride();
    town.promised(("driver", BO.0), &answer(FIRST, "accept"), 202, json!({}));
    assert_eq!(lost(&town), "the driver's history has no acceptance");
}

#[test]
fn an_assignment_that_was_promised_and_never_came_is_found() {
    let mut town = Town::default();
    let online = super::town::went_online();
    town.driver(ANNA, online).requested(TRIP).offered(TRIP, ANNA, SECOND);
    town.driver(ANNA, super::town::accepted(TRIP, SECOND)).trip(TRIP, cancelled(0));
    town.driver(ANNA, super::town::released(TRIP, SECOND));
    town.promised(("driver", ANNA.0), &answer(SECOND, "accept"), 202, json!({}));
    assert_eq!(town.violations(), []);
    town.promised(("driver", ANNA.0), &answer(SECOND, "accept"), 200, json!({}));
    assert_eq!(lost(&town), "the trip was never assigned by that offer");
}

#[test]
fn a_decline_is_kept_however_the_offer_ended() {
    let mut town = Town::default();
    town.driver(BO, super::town::went_online()).requested(TRIP).offered(TRIP, BO, FIRST);
    town.promised(("driver", BO.0), &answer(FIRST, "decline"), 200, json!({}));
    assert_eq!(lost(&town), "the offer has no end in the driver's history");
    let end = super::town::closed(BO, FIRST, common::contract::v1::OfferEnd::Lapsed);
    town.driver(BO, lapsed(TRIP, FIRST)).trip(TRIP, end);
    assert_eq!(town.violations(), []);
}

#[test]
fn a_version_that_was_told_and_does_not_exist_is_found() {
    let mut town = Town::with_a_ride();
    let told = json!({"trip_id": TRIP, "version": 9, "status": "completed"});
    town.promised(("driver", ANNA.0), &step(TRIP, "complete"), 200, told);
    assert_eq!(lost(&town), "the trip's history has no version 9");
}

#[test]
fn a_status_that_was_told_and_is_not_in_the_log_is_found() {
    let mut town = Town::with_a_ride();
    let told = json!({"trip_id": TRIP, "version": 6, "status": "in_progress"});
    town.promised(("driver", ANNA.0), &step(TRIP, "arrive"), 200, told);
    assert_eq!(lost(&town), "at version 6 the trip is arrived, not in_progress");
}

#[test]
fn a_duty_that_was_told_and_is_not_in_the_log_is_found() {
    let mut town = Town::with_a_ride();
    let told = json!({"driver_id": ANNA, "version": 1, "duty": "offline", "engagement": "idle"});
    town.promised(("driver", ANNA.0), "/v1/driver/status", 200, told);
    assert!(lost(&town).starts_with("at version 1 the driver is"));
}
