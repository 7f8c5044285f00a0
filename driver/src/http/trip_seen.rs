//! What this service sees of a trip, and what the trip says of an offer that the driver accepted.

use common::{
    contract::{Malformed, v1},
    id::{DriverId, OfferId, TripId},
    trips,
};

/// A trip as its last event, or an answer, tells it.
#[derive(Debug, Clone)]
pub(crate) struct TripSeen {
    pub(crate) trip: TripId,
    pub(crate) version: u64,
    pub(crate) state: v1::TripState,
}

/// What a trip says of an offer that the driver accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// The trip is this driver's, by this offer.
    Assigned,
    /// It is not, and will not be by this offer.
    Withdrawn,
    /// The trip has not said yet.
    Open,
}

impl TripSeen {
    pub(crate) fn new(trip: TripId, snapshot: v1::TripSnapshot) -> Self {
        let state = snapshot.state.unwrap_or_default();
        Self { trip, version: snapshot.version, state }
    }

    /// Reads a live trip event. The driver orders these by version, so the sequence is of no use.
    pub(crate) fn from_event(trip: TripId, payload: &[u8]) -> Result<Self, Malformed> {
        trips::snapshot(trip, 0, payload).map(|snapshot| Self::new(trip, snapshot))
    }

    /// Whether the trip is this driver's, by this offer.
    pub(crate) fn confirms(&self, driver: DriverId, offer: OfferId) -> Confirmation {
        let state = &self.state;
        if state.driver_id == driver.0.as_bytes() && state.offer_id == offer.0.as_bytes() {
            return Confirmation::Assigned;
        }
        match state.offers.iter().find(|record| record.offer_id == offer.0.as_bytes()) {
            Some(record) if record.status() == v1::OfferStatus::Open => Confirmation::Open,
            // Closed; or assigned once, and the trip has moved on.
            Some(_) => Confirmation::Withdrawn,
            None if state.phase().is_end() => Confirmation::Withdrawn,
            None => Confirmation::Open,
        }
    }
}
