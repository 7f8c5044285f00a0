//! The rules of a trip, as pure functions: [`decide`] says what happens when somebody wants
//! something, [`evolve`] what is true afterwards. No clock, no chance, no broker in here.

#![deny(clippy::wildcard_enum_match_arm)]

mod command;
mod decide;
mod event;
mod evolve;
mod offers;
mod questions;
mod release;
mod state;
mod terms;
mod values;

#[cfg(test)]
pub(crate) mod tests;

pub use command::{Rejection, TripCommand};
pub use decide::{decide, refusal};
pub use event::{TimerKind, TripEvent};
pub use evolve::evolve;
pub use offers::{OFFERS_MAX, OfferRecord, OfferStatus, Search};
pub use release::{Release, releases};
pub use state::{
    Arrival, Arrived, Assigned, Assignment, Cancelled, Completed, InProgress, Matching, Progress,
    Ratings, Request, Trip, Unfulfilled, Withdrawn,
};
pub use terms::{ARRIVAL_RADIUS_M, PIN_TRIES_MAX, Terms, UNASSIGNMENTS_MAX};
pub use values::{
    NotAPin, NotAReason, NotStars, OfferEnd, Party, Phase, Pin, Quote, Reason, Stars,
};
