//! Which driver an event sets free.

use common::id::{DriverId, OfferId};

use super::{OfferEnd, OfferStatus, Trip, TripEvent};

/// A driver who is not needed any more, and the offer that bound them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// Who.
    pub driver: DriverId,
    /// From which proposal.
    pub offer: OfferId,
    /// Why, for the driver's history.
    pub why: &'static str,
}

/// The driver that this event sets free; `state` is what it led to. An offer that the driver's own
/// side ended needs no release: that event freed them.
#[must_use]
pub fn releases(event: &TripEvent, state: &Trip) -> Option<Release> {
    match event {
        TripEvent::OfferClosed { offer, driver, why } => why
            .is_unknown_to_the_driver()
            .then(|| Release { driver: *driver, offer: *offer, why: why.name() }),
        TripEvent::Unassigned { driver, offer, .. } => {
            Some(Release { driver: *driver, offer: *offer, why: "unassigned" })
        }
        TripEvent::Completed { .. } => assigned(state, "completed"),
        TripEvent::Cancelled { .. } => {
            assigned(state, "cancelled").or_else(|| ended_with_the_trip(state, "cancelled"))
        }
        TripEvent::Unfulfilled => ended_with_the_trip(state, "unfulfilled"),
        TripEvent::Requested { .. }
        | TripEvent::Offered { .. }
        | TripEvent::Assigned { .. }
        | TripEvent::Arrived { .. }
        | TripEvent::WaitOver
        | TripEvent::PinRefused { .. }
        | TripEvent::PinUnlocked
        | TripEvent::Started { .. }
        | TripEvent::Stalled
        | TripEvent::Rated { .. } => None,
    }
}

fn assigned(state: &Trip, why: &'static str) -> Option<Release> {
    let assignment = state.assignment()?;
    Some(Release { driver: assignment.driver, offer: assignment.offer, why })
}

/// A trip ends once, so at most one offer can have ended with it.
fn ended_with_the_trip(state: &Trip, why: &'static str) -> Option<Release> {
    let record = state
        .search()?
        .offers
        .iter()
        .find(|record| record.status == OfferStatus::Closed(OfferEnd::TripEnded))?;
    Some(Release { driver: record.driver, offer: record.offer, why })
}
