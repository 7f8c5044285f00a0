//! Keys, receipts, attempts and projections.

use serde_json::json;

use super::town::{OTHER_TRIP, RIDER, TRIP, Town};
use crate::audit::{Book, BookViolation, Projection, Violation};

#[track_caller]
fn book(town: &Town) -> BookViolation {
    let Violation::Books(found) = town.violation() else { panic!("{:?}", town.violation()) };
    found
}

fn whole_city() -> Town {
    let mut town = Town::with_a_ride();
    town.evidence.is_whole_city = true;
    town
}

#[test]
fn a_key_that_is_answered_in_two_ways_is_found() {
    let mut town = Town::with_a_ride();
    town.promised(("rider", RIDER.0), "/v1/trips", 201, json!({"trip_id": TRIP}));
    assert_eq!(town.violations(), []);
    town.evidence.promises.last_mut().unwrap().body = "another".to_owned();
    assert!(matches!(book(&town), BookViolation::KeyAnsweredTwice { .. }));
}

#[test]
fn a_receipt_over_another_amount_is_found() {
    let mut town = Town::with_a_ride();
    town.evidence.receipts[0].amount_minor += 1;
    assert!(matches!(book(&town), BookViolation::ReceiptDiffers { trip: TRIP, .. }));
}

#[test]
fn a_receipt_for_a_charge_that_the_provider_calls_otherwise_is_found() {
    let mut town = Town::with_a_ride();
    town.evidence.receipts[0].provider_reference = Some("ch_2".to_owned());
    assert!(matches!(book(&town), BookViolation::ReferenceDiffers { book: Book::Receipt, .. }));
    let mut town = Town::with_a_ride();
    town.books().ledger.charges[0].settled_as = Some("ch_2".to_owned());
    assert!(matches!(book(&town), BookViolation::ReferenceDiffers { book: Book::Ledger, .. }));
}

#[test]
fn a_city_of_which_every_act_was_tried_has_no_violation() {
    assert_eq!(whole_city().violations(), []);
}

#[test]
fn a_trip_that_no_phone_has_asked_for_is_found() {
    let mut town = whole_city();
    town.requested(OTHER_TRIP);
    assert!(matches!(book(&town), BookViolation::NotAskedFor { asked: 1, trips: 2, .. }));
}

#[test]
fn a_trip_under_a_key_that_no_phone_has_sent_is_found() {
    let mut town = whole_city();
    town.books().keys[0].key = "key-2".to_owned();
    assert!(matches!(book(&town), BookViolation::NotAskedFor { trip: TRIP, .. }));
}

#[test]
fn an_arrival_that_no_phone_has_reported_is_found() {
    let mut town = whole_city();
    town.evidence.attempts.retain(|attempt| !attempt.path.ends_with("/arrive"));
    assert!(matches!(book(&town), BookViolation::NotAttempted { stream, .. } if stream == "TRIP"));
}

#[test]
fn an_acceptance_that_no_phone_has_sent_is_found() {
    let mut town = whole_city();
    town.evidence.attempts.retain(|attempt| !attempt.path.ends_with("/accept"));
    assert!(
        matches!(book(&town), BookViolation::NotAttempted { stream, .. } if stream == "DRIVER")
    );
}

#[test]
fn a_view_that_shows_something_else_or_nothing_or_more_is_found() {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, it)| ((*key).to_owned(), (*it).to_owned())).collect()
    };
    let differs = |shown: &[(&str, &str)]| {
        let mut town = Town::with_a_ride();
        let folded = pairs(&[("a", "1"), ("b", "2")]);
        let projection = Projection { name: "view".to_owned(), shown: pairs(shown), folded };
        town.evidence.projections.push(projection);
        let found = town.violations();
        let is_it = |it: &Violation| {
            matches!(it, Violation::Books(BookViolation::ProjectionDiffers { .. }))
        };
        assert!(found.iter().all(is_it));
        found.len()
    };
    assert_eq!(differs(&[("a", "1"), ("b", "2")]), 0);
    assert_eq!(differs(&[("a", "1"), ("b", "3")]), 1);
    assert_eq!(differs(&[("a", "1")]), 1);
    assert_eq!(differs(&[("a", "1"), ("b", "2"), ("c", "3")]), 1);
}
