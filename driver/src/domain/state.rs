//! What is true of a driver, and how each event changes it. Folding cannot fail: an event that does
//! not fit the state leaves it as it is.

use std::collections::VecDeque;

use common::{
    clock::Timestamp,
    id::{OfferId, TripId},
};

use super::{DriverEvent, OfferEnd, OfferTerms, Pair};

/// How many closed offers a driver's state remembers.
pub const CLOSED_OFFERS_MAX: usize = 16;

/// A driver. The default has never been online.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Driver {
    pub duty: Duty,
    pub closed: ClosedOffers,
}

/// Whether the driver works; only who works can be engaged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Duty {
    #[default]
    Offline,
    Online(Engagement),
    /// On duty until this trip ends.
    Finishing(Engaged),
}

/// What keeps an online driver busy. At most one thing at a time, by construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engagement {
    Idle { since: Timestamp },
    Offered(Offered),
    Engaged(Engaged),
}

/// An offer in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    pub pair: Pair,
    pub expires_at: Timestamp,
    pub terms: OfferTerms,
}

/// An accepted offer; the trip may not have confirmed it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engaged {
    pub pair: Pair,
    pub since: Timestamp,
}

impl Driver {
    /// The offer in hand.
    #[must_use]
    pub fn offered(&self) -> Option<&Offered> {
        match &self.duty {
            Duty::Online(Engagement::Offered(offered)) => Some(offered),
            Duty::Online(Engagement::Idle { .. } | Engagement::Engaged(_))
            | Duty::Offline
            | Duty::Finishing(_) => None,
        }
    }

    /// The accepted offer.
    #[must_use]
    pub fn engaged(&self) -> Option<Engaged> {
        match &self.duty {
            Duty::Online(Engagement::Engaged(engaged)) | Duty::Finishing(engaged) => Some(*engaged),
            Duty::Online(Engagement::Idle { .. } | Engagement::Offered(_)) | Duty::Offline => None,
        }
    }

    /// The trip and offer that hold the driver, in hand or accepted.
    #[must_use]
    pub fn pair(&self) -> Option<Pair> {
        self.offered()
            .map(|offered| offered.pair)
            .or_else(|| self.engaged().map(|engaged| engaged.pair))
    }

    /// The trip that holds the driver, in hand or accepted.
    #[must_use]
    pub fn trip(&self) -> Option<TripId> {
        self.pair().map(|pair| pair.trip)
    }
}

/// Offers that must not come (again), with the reason; the oldest is forgotten first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClosedOffers(VecDeque<ClosedOffer>);

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedOffer {
    pub offer: OfferId,
    pub why: OfferEnd,
}

impl ClosedOffers {
    /// Why that offer is closed, if it is.
    #[must_use]
    pub fn get(&self, offer: OfferId) -> Option<OfferEnd> {
        self.0.iter().find(|closed| closed.offer == offer).map(|closed| closed.why)
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = ClosedOffer> + '_ {
        self.0.iter().copied()
    }

    fn close(&mut self, offer: OfferId, why: OfferEnd) {
        if self.get(offer).is_some() {
            return;
        }
        if self.0.len() == CLOSED_OFFERS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(ClosedOffer { offer, why });
    }
}

impl FromIterator<ClosedOffer> for ClosedOffers {
    fn from_iter<T: IntoIterator<Item = ClosedOffer>>(closed: T) -> Self {
        let mut all = Self::default();
        for ClosedOffer { offer, why } in closed {
            all.close(offer, why);
        }
        all
    }
}

/// The driver after an event that was decided `at` that time.
#[must_use]
pub fn evolve(driver: Driver, event: &DriverEvent, at: Timestamp) -> Driver {
    let Driver { duty, mut closed } = driver;
    if let Some((pair, why)) = event.ended_offer() {
        closed.close(pair.offer, why);
    }
    let idle = || Duty::Online(Engagement::Idle { since: at });
    let duty = match event {
        DriverEvent::WentOnline => match duty {
            Duty::Offline => idle(),
            Duty::Online(engagement) => Duty::Online(engagement),
            Duty::Finishing(engaged) => Duty::Online(Engagement::Engaged(engaged)),
        },
        DriverEvent::Finishing => match duty {
            Duty::Online(Engagement::Engaged(engaged)) => Duty::Finishing(engaged),
            Duty::Online(Engagement::Idle { .. } | Engagement::Offered(_))
            | Duty::Offline
            | Duty::Finishing(_) => duty,
        },
        DriverEvent::WentOffline { .. } => Duty::Offline,
        DriverEvent::Offered { pair, expires_at, terms } => {
            let offered = Offered { pair: *pair, expires_at: *expires_at, terms: *terms };
            Duty::Online(Engagement::Offered(offered))
        }
        DriverEvent::OfferRefused { .. } => duty,
        DriverEvent::OfferAccepted { pair } => {
            Duty::Online(Engagement::Engaged(Engaged { pair: *pair, since: at }))
        }
        DriverEvent::OfferDeclined { .. }
        | DriverEvent::OfferLapsed { .. }
        | DriverEvent::Lost { .. } => idle(),
        DriverEvent::Released { pair, .. } => {
            closed.close(pair.offer, OfferEnd::Released);
            released(duty, *pair, at)
        }
    };
    Driver { duty, closed }
}

/// Frees the driver of this pair, and of no other.
fn released(duty: Duty, pair: Pair, at: Timestamp) -> Duty {
    let is_held = match &duty {
        Duty::Offline | Duty::Online(Engagement::Idle { .. }) => false,
        Duty::Online(Engagement::Offered(offered)) => offered.pair == pair,
        Duty::Online(Engagement::Engaged(engaged)) | Duty::Finishing(engaged) => {
            engaged.pair == pair
        }
    };
    match duty {
        Duty::Finishing(_) if is_held => Duty::Offline,
        Duty::Online(_) if is_held => Duty::Online(Engagement::Idle { since: at }),
        Duty::Offline | Duty::Online(_) | Duty::Finishing(_) => duty,
    }
}
