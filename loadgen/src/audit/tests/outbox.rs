//! The outbox and the log, both ways.

use super::town::Town;
use crate::audit::{BookViolation, Violation};

#[track_caller]
fn book(town: &Town) -> BookViolation {
    let Violation::Books(found) = town.violation() else { panic!("{:?}", town.violation()) };
    found
}

#[test]
fn a_row_that_never_became_an_event_is_found() {
    let mut town = Town::with_a_ride();
    let mut row = town.books().outbox[0].clone();
    (row.row, row.event) = (3, uuid::Uuid::from_u128(99));
    town.books().outbox.push(row);
    assert!(matches!(book(&town), BookViolation::RowWithoutEvent { row: 3, .. }));
}

#[test]
fn an_event_that_no_row_asked_for_is_found() {
    let mut town = Town::with_a_ride();
    town.books().outbox.remove(0);
    assert!(matches!(book(&town), BookViolation::EventWithoutRow { .. }));
}

#[test]
fn an_event_that_says_something_else_than_its_row_is_found() {
    let mut town = Town::with_a_ride();
    town.books().outbox[0].says.at_us += 1;
    assert!(matches!(book(&town), BookViolation::RowDiffers { row: 1, .. }));
    let mut town = Town::with_a_ride();
    town.books().outbox[0].published = None;
    assert!(matches!(book(&town), BookViolation::RowDiffers { field, .. } if field == "sequence"));
}

#[test]
fn events_that_are_not_in_the_order_of_their_rows_are_found() {
    let mut town = Town::with_a_ride();
    town.books().outbox.swap(0, 1);
    assert!(matches!(book(&town), BookViolation::RowsOutOfOrder { row: 1, .. }));
}
