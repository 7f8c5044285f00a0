//! The rules of a driver's duty and engagement: pure functions. Whether the phone is heard
//! (liveness) is judged by `location` and is not here.

mod decide;
mod state;
#[cfg(test)]
mod tests;

use common::{
    clock::Timestamp,
    id::{OfferId, TripId},
    money::Money,
};

pub use decide::{ACCEPT_GRACE, IDLE_BEFORE_OFFLINE, OFFER_TIME, decide};
pub use state::{
    CLOSED_OFFERS_MAX, ClosedOffer, ClosedOffers, Driver, Duty, Engaged, Engagement, Offered,
    evolve,
};

/// Which trip, by which offer. What does not equal the driver's own pair changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    pub trip: TripId,
    pub offer: OfferId,
}

/// What a phone shows before the driver decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfferTerms {
    pub pickup_eta_s: u32,
    pub pickup_distance_m: u32,
    pub fare: Money,
    pub trip_distance_m: u32,
    pub trip_duration_s: u32,
}

/// Why an offer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfferEnd {
    /// The driver said no.
    Declined,
    /// The driver said nothing.
    Lapsed,
    /// The driver had another offer or trip.
    Busy,
    /// The phone fell silent.
    Lost,
    /// The driver went, or was, offline.
    Offline,
    /// The trip withdrew it, or the ride is over.
    Released,
}

/// What somebody wants of a driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverCommand {
    /// The driver wants rides.
    GoOnline,
    /// The driver wants no ride after the current one.
    Finish,
    /// The driver goes home.
    GoOffline,
    /// The saga proposes a trip.
    Offer { pair: Pair, terms: OfferTerms },
    /// The driver takes the offer.
    Accept { offer: OfferId },
    /// The driver does not want the offer.
    Decline { offer: OfferId, reason: String },
    /// The saga sets the driver free of a trip.
    Release { pair: Pair, why: String },
    /// `location` has not heard the phone for so long; too long even for an idle driver, or not.
    MarkLost { silent_s: u32, ends_duty: bool },
    /// The time to answer an offer is over.
    LapseOffer,
}

/// What happened to a driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverEvent {
    WentOnline,
    /// On duty until the current trip ends.
    Finishing,
    /// `silent`: nobody asked, the phone was not heard. `ended`: the offer that ended with it.
    WentOffline {
        silent: bool,
        ended: Option<Pair>,
    },
    Offered {
        pair: Pair,
        expires_at: Timestamp,
        terms: OfferTerms,
    },
    OfferRefused {
        pair: Pair,
        why: OfferEnd,
    },
    OfferAccepted {
        pair: Pair,
    },
    OfferDeclined {
        pair: Pair,
        reason: String,
    },
    OfferLapsed {
        pair: Pair,
    },
    /// The phone fell silent with an offer in hand.
    Lost {
        pair: Pair,
        silent_s: u32,
    },
    /// `early`: the offer had not come yet; it is refused when it does.
    Released {
        pair: Pair,
        why: String,
        early: bool,
    },
}

impl DriverEvent {
    /// The offer that this event ended, which is what the trip reacts to. A release is not among
    /// them: the trip said it itself.
    #[must_use]
    pub fn ended_offer(&self) -> Option<(Pair, OfferEnd)> {
        match self {
            Self::WentOffline { ended, silent: _ } => ended.map(|pair| (pair, OfferEnd::Offline)),
            Self::OfferRefused { pair, why } => Some((*pair, *why)),
            Self::OfferDeclined { pair, reason: _ } => Some((*pair, OfferEnd::Declined)),
            Self::OfferLapsed { pair } => Some((*pair, OfferEnd::Lapsed)),
            Self::Lost { pair, silent_s: _ } => Some((*pair, OfferEnd::Lost)),
            Self::WentOnline
            | Self::Finishing
            | Self::Offered { .. }
            | Self::OfferAccepted { .. }
            | Self::Released { .. } => None,
        }
    }

    /// The trip that the event is about, if any.
    #[must_use]
    pub fn trip(&self) -> Option<TripId> {
        match self {
            Self::WentOffline { ended, silent: _ } => ended.map(|pair| pair.trip),
            Self::Offered { pair, .. }
            | Self::OfferRefused { pair, .. }
            | Self::OfferAccepted { pair }
            | Self::OfferDeclined { pair, .. }
            | Self::OfferLapsed { pair }
            | Self::Lost { pair, .. }
            | Self::Released { pair, .. } => Some(pair.trip),
            Self::WentOnline | Self::Finishing => None,
        }
    }
}

/// The fact that stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The driver is on a trip.
    OnTrip { trip: TripId },
    /// The driver has never had such an offer (or it is long forgotten).
    OfferUnknown,
    /// The offer is over: taken back, declined, or gone with the driver's duty.
    OfferWithdrawn,
    /// The time to answer is over.
    OfferLapsed,
    /// The offer is closed here and was proposed late or again.
    OfferClosed,
}
