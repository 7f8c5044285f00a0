//! Charges in three books, and pings.

use super::town::{
    ANNA, FARE, FIRST, OTHER_TRIP, TRIP, Town, at_provider, cancelled, charged, released,
    went_online,
};
use crate::audit::{Book, BookViolation, Ledger, Violation};

#[test]
fn a_completed_ride_that_was_not_charged_is_found_in_each_book() {
    let mut town = Town::with_a_ride();
    town.evidence.log.riders.pop();
    town.books().outbox.pop();
    assert!(matches!(town.violation(), Violation::ChargeMissing { book: Book::Log, .. }));
    let mut town = Town::with_a_ride();
    town.books().ledger = Ledger::default();
    assert!(matches!(town.violation(), Violation::ChargeMissing { book: Book::Ledger, .. }));
    let mut town = Town::with_a_ride();
    town.evidence.provider.as_mut().unwrap().clear();
    assert!(matches!(town.violation(), Violation::ChargeMissing { book: Book::Provider, .. }));
}

#[test]
fn a_fare_that_was_charged_twice_is_found_in_each_book() {
    let mut town = Town::with_a_ride();
    town.rider(charged(TRIP, FARE));
    assert!(matches!(town.violation(), Violation::ChargedTwice { book: Book::Log, times: 2, .. }));
    let mut town = Town::with_a_ride();
    town.evidence.provider.as_mut().unwrap().push(at_provider(TRIP, "fare", FARE));
    let found = town.violation();
    assert!(matches!(found, Violation::ChargedTwice { book: Book::Provider, times: 2, .. }));
}

#[test]
fn a_wrong_amount_is_found_in_each_book() {
    let mut town = Town::with_a_ride();
    town.books().ledger.charges[0].amount_minor -= 1;
    assert!(town.has(|it| matches!(it, Violation::ChargedWrongly { book: Book::Ledger, .. })));
    assert!(town.has(|it| matches!(it, Violation::Books(BookViolation::PostingDiffers { .. }))));
    let mut town = Town::with_a_ride();
    town.evidence.provider.as_mut().unwrap()[0].currency = "EUR".to_owned();
    assert!(matches!(town.violation(), Violation::ChargedWrongly { book: Book::Provider, .. }));
}

#[test]
fn a_charge_for_which_nothing_is_owed_is_found() {
    let mut town = Town::with_a_ride();
    let charge = at_provider(OTHER_TRIP, "cancellation_fee", 500);
    town.evidence.provider.as_mut().unwrap().push(charge);
    assert!(matches!(town.violation(), Violation::ChargedForNothing { book: Book::Provider, .. }));
}

#[test]
fn a_late_cancellation_owes_its_fee_and_a_free_one_nothing() {
    let told = |fee| {
        let mut town = Town::default();
        town.driver(ANNA, went_online()).requested(TRIP).offered(TRIP, ANNA, FIRST);
        town.assigned(TRIP, ANNA, FIRST).trip(TRIP, cancelled(fee));
        town.driver(ANNA, released(TRIP, FIRST));
        town
    };
    assert_eq!(told(0).violations(), []);
    let found = told(5_000).violation();
    assert!(
        matches!(&found, Violation::ChargeMissing { purpose, .. } if purpose == "cancellation_fee"),
        "{found:#?}"
    );
}

#[test]
fn a_charge_that_is_still_pending_is_found() {
    let mut town = Town::with_a_ride();
    town.books().ledger.charges[0].settled_as = None;
    town.books().ledger.postings.truncate(2);
    assert!(matches!(town.violation(), Violation::ChargeUnsettled { trip: TRIP, .. }));
}

#[test]
fn a_ledger_that_does_not_sum_to_zero_is_found() {
    let mut town = Town::with_a_ride();
    town.books().ledger.postings[1].amount_minor += 7;
    assert_eq!(town.violation(), Violation::LedgerUnbalanced { sum: 7 });
}

#[test]
fn a_charge_that_was_posted_with_another_amount_is_found() {
    let mut town = Town::with_a_ride();
    for posting in &mut town.books().ledger.postings[2..] {
        posting.amount_minor *= 2;
    }
    let Violation::Books(BookViolation::PostingDiffers { step, posted, charged, .. }) =
        town.violation()
    else {
        panic!("{:?}", town.violation());
    };
    assert_eq!((step.as_str(), posted, charged), ("settled", 2 * FARE, FARE));
}

#[test]
fn a_lost_ping_and_an_invented_one_are_found() {
    let counted = |counted| {
        let mut town = Town::with_a_ride();
        town.evidence.pings.as_mut().unwrap().counted = counted;
        town.violations()
    };
    // 100 were accepted, and of 5 more nobody knows.
    assert_eq!(counted(100), []);
    assert_eq!(counted(105), []);
    assert!(matches!(counted(99).as_slice(), [Violation::PingsMiscounted { counted: 99, .. }]));
    assert!(matches!(counted(106).as_slice(), [Violation::PingsMiscounted { counted: 106, .. }]));
}
