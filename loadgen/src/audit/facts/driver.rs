//! What is true of a driver.

use common::{
    contract::v1::{self, OfferEnd},
    id::{OfferId, TripId},
};

use super::{Difference, compare};
use crate::audit::log::{offer_id, trip_id};

/// How many closed offers a driver's state remembers: part of the contract.
const CLOSED_OFFERS_MAX: usize = 16;

/// What binds a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::audit) enum Bond {
    /// Nothing.
    #[default]
    Idle,
    /// An offer in hand.
    Offered(TripId, OfferId),
    /// An accepted one.
    Engaged(TripId, OfferId),
}

impl Bond {
    /// The trip and offer, in hand or accepted.
    #[must_use]
    pub(in crate::audit) fn pair(self) -> Option<(TripId, OfferId)> {
        match self {
            Self::Idle => None,
            Self::Offered(trip, offer) | Self::Engaged(trip, offer) => Some((trip, offer)),
        }
    }
}

/// What is true of a driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::audit) struct DriverFacts {
    /// Unspecified counts as offline.
    pub(in crate::audit) duty: v1::Duty,
    /// What binds the driver.
    pub(in crate::audit) bond: Bond,
    /// Offers that must not come again, oldest first.
    pub(in crate::audit) closed: Vec<(OfferId, OfferEnd)>,
}

impl Default for DriverFacts {
    fn default() -> Self {
        Self { duty: v1::Duty::Offline, bond: Bond::Idle, closed: Vec::new() }
    }
}

impl DriverFacts {
    /// As an event carries it.
    #[must_use]
    pub(in crate::audit) fn carried(state: &v1::DriverState) -> Self {
        use v1::engagement::Kind;
        let kind = state.engagement.as_ref().and_then(|engagement| engagement.kind.as_ref());
        let bond = match kind {
            None | Some(Kind::Idle(_)) => Bond::Idle,
            Some(Kind::Offered(held)) => {
                Bond::Offered(trip_id(&held.trip_id), offer_id(&held.offer_id))
            }
            Some(Kind::Engaged(held)) => {
                Bond::Engaged(trip_id(&held.trip_id), offer_id(&held.offer_id))
            }
        };
        let duty = match state.duty() {
            v1::Duty::Unspecified => v1::Duty::Offline,
            duty => duty,
        };
        let closed = state.closed_offers.iter();
        let closed = closed.map(|closed| (offer_id(&closed.offer_id), closed.why())).collect();
        Self { duty, bond, closed }
    }

    /// What one more event makes of it.
    pub(in crate::audit) fn fold(&mut self, event: &v1::DriverEvent) {
        use v1::driver_event::Kind;
        if let Some(ended) = &event.ended_offer {
            self.close(offer_id(&ended.offer_id), ended.why());
        }
        let Some(kind) = &event.kind else { return };
        match kind {
            Kind::WentOnline(_) => self.duty = v1::Duty::Online,
            Kind::Finishing(_) => self.duty = v1::Duty::Finishing,
            Kind::WentOffline(_) => (self.duty, self.bond) = (v1::Duty::Offline, Bond::Idle),
            Kind::Offered(held) => {
                self.bond = Bond::Offered(trip_id(&held.trip_id), offer_id(&held.offer_id));
            }
            Kind::OfferAccepted(held) => {
                self.bond = Bond::Engaged(trip_id(&held.trip_id), offer_id(&held.offer_id));
            }
            Kind::OfferDeclined(_) | Kind::OfferLapsed(_) | Kind::Lost(_) => self.bond = Bond::Idle,
            Kind::OfferRefused(_) => {}
            Kind::Released(released) => {
                let pair = (trip_id(&released.trip_id), offer_id(&released.offer_id));
                self.close(pair.1, OfferEnd::Released);
                self.release(pair);
            }
        }
    }

    fn release(&mut self, pair: (TripId, OfferId)) {
        if self.bond.pair() == Some(pair) {
            self.bond = Bond::Idle;
            if self.duty == v1::Duty::Finishing {
                self.duty = v1::Duty::Offline;
            }
        }
    }

    fn close(&mut self, offer: OfferId, why: OfferEnd) {
        if self.closed.iter().any(|(closed, _)| *closed == offer) {
            return;
        }
        if self.closed.len() == CLOSED_OFFERS_MAX {
            self.closed.remove(0);
        }
        self.closed.push((offer, why));
    }

    /// Where the carried state is not the folded one.
    #[must_use]
    pub(in crate::audit) fn differences(carried: &Self, folded: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        compare(&mut found, "duty", &carried.duty, &folded.duty);
        compare(&mut found, "engagement", &carried.bond, &folded.bond);
        compare(&mut found, "closed offers", &carried.closed, &folded.closed);
        found
    }
}
