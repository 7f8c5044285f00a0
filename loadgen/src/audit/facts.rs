//! What is true of a trip or a driver, twice: as the last event carries it, and as the audit itself
//! folds it from the events. Only what matters is here; the services' own fold is not used.

use std::collections::BTreeSet;

use common::{
    contract::v1::{self, OfferEnd, OfferStatus, TripPhase},
    id::{DriverId, OfferId, RiderId, TripId},
};

use super::log::{driver_id, offer_id, rider_id, trip_id};

/// How many closed offers a driver's state remembers: part of the contract.
const CLOSED_OFFERS_MAX: usize = 16;

/// A difference between two states: field, carried, folded.
pub(super) type Difference = (&'static str, String, String);

/// An offer as its trip knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OfferFact {
    /// Which.
    pub(super) offer: OfferId,
    /// To whom.
    pub(super) driver: DriverId,
    /// Open, assigned or closed.
    pub(super) status: OfferStatus,
    /// How it was closed.
    pub(super) why: OfferEnd,
}

/// What is true of a trip.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TripFacts {
    /// Where it stands.
    pub(super) phase: TripPhase,
    /// Who asked.
    pub(super) rider: Option<RiderId>,
    /// Who drives, by which offer.
    pub(super) driver: Option<(DriverId, OfferId)>,
    /// Oldest first.
    pub(super) offers: Vec<OfferFact>,
    /// Not to be asked again.
    pub(super) excluded: BTreeSet<DriverId>,
    /// How often it lost its driver.
    pub(super) unassigned: u32,
    /// What was promised.
    pub(super) quoted: Option<v1::Money>,
    /// What it costs, once completed.
    pub(super) fare: Option<v1::Money>,
    /// What the cancellation costs, once cancelled.
    pub(super) fee: Option<v1::Money>,
    /// Stars by rider and by driver; zero = none.
    pub(super) stars: (u32, u32),
}

fn some_id<T>(bytes: &[u8], id: impl Fn(&[u8]) -> T) -> Option<T> {
    (!bytes.is_empty()).then(|| id(bytes))
}

impl TripFacts {
    /// As an event carries it.
    #[must_use]
    pub(super) fn carried(state: &v1::TripState) -> Self {
        let driver = some_id(&state.driver_id, driver_id);
        Self {
            phase: state.phase(),
            rider: some_id(&state.rider_id, rider_id),
            driver: driver.map(|driver| (driver, offer_id(&state.offer_id))),
            offers: state
                .offers
                .iter()
                .map(|record| OfferFact {
                    offer: offer_id(&record.offer_id),
                    driver: driver_id(&record.driver_id),
                    status: record.status(),
                    why: record.why(),
                })
                .collect(),
            excluded: state.excluded.iter().map(|bytes| driver_id(bytes)).collect(),
            unassigned: state.unassigned_count,
            quoted: state.quote.as_ref().and_then(|quote| quote.fare.clone()),
            fare: state.fare.clone(),
            fee: state.cancelled.as_ref().and_then(|cancelled| cancelled.fee.clone()),
            stars: (state.stars_by_rider, state.stars_by_driver),
        }
    }

    /// Whether it is over.
    #[must_use]
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, TripPhase::Completed | TripPhase::Cancelled | TripPhase::Unfulfilled)
    }

    /// Who drives at the moment, by which offer.
    #[must_use]
    pub(super) fn on_board(&self) -> Option<(DriverId, OfferId)> {
        self.driver.filter(|_| !self.is_over())
    }

    /// What one more event makes of it.
    pub(super) fn fold(&mut self, event: &v1::TripEvent) {
        use v1::trip_event::Kind;
        let Some(kind) = &event.kind else { return };
        match kind {
            Kind::Requested(requested) => {
                self.phase = TripPhase::Matching;
                self.rider = some_id(&requested.rider_id, rider_id);
                self.quoted = requested.quote.as_ref().and_then(|quote| quote.fare.clone());
            }
            Kind::Offered(offered) => self.offers.push(OfferFact {
                offer: offer_id(&offered.offer_id),
                driver: driver_id(&offered.driver_id),
                status: OfferStatus::Open,
                why: OfferEnd::Unspecified,
            }),
            Kind::Assigned(assigned) => {
                let (driver, offer) =
                    (driver_id(&assigned.driver_id), offer_id(&assigned.offer_id));
                self.phase = TripPhase::Assigned;
                self.driver = Some((driver, offer));
                self.end_offer(offer, OfferStatus::Assigned, OfferEnd::Unspecified);
            }
            Kind::OfferClosed(closed) => {
                self.end_offer(offer_id(&closed.offer_id), OfferStatus::Closed, closed.why());
                // Who had the choice and did not take it is not asked again.
                if matches!(closed.why(), OfferEnd::Declined | OfferEnd::Lapsed) {
                    self.excluded.insert(driver_id(&closed.driver_id));
                }
            }
            Kind::Unfulfilled(_) => self.end(TripPhase::Unfulfilled),
            Kind::Cancelled(cancelled) => {
                self.end(TripPhase::Cancelled);
                self.fee = cancelled.fee.clone();
            }
            Kind::Unassigned(unassigned) => {
                self.phase = TripPhase::Matching;
                self.driver = None;
                self.unassigned += 1;
                self.excluded.insert(driver_id(&unassigned.driver_id));
            }
            Kind::Arrived(_) => self.phase = TripPhase::Arrived,
            Kind::Started(_) => self.phase = TripPhase::InProgress,
            Kind::Completed(completed) => {
                self.end(TripPhase::Completed);
                self.fare = completed.fare.clone();
            }
            Kind::Rated(rated) => match rated.by() {
                v1::Party::Driver => self.stars.1 = rated.stars,
                _ => self.stars.0 = rated.stars,
            },
            Kind::WaitOver(_) | Kind::PinRefused(_) | Kind::PinUnlocked(_) | Kind::Stalled(_) => {}
        }
    }

    fn end(&mut self, phase: TripPhase) {
        self.phase = phase;
        let open = self.offers.iter().find(|fact| fact.status == OfferStatus::Open);
        if let Some(offer) = open.map(|fact| fact.offer) {
            self.end_offer(offer, OfferStatus::Closed, OfferEnd::TripEnded);
        }
    }

    fn end_offer(&mut self, offer: OfferId, status: OfferStatus, why: OfferEnd) {
        let open = self
            .offers
            .iter_mut()
            .find(|fact| fact.offer == offer && fact.status == OfferStatus::Open);
        if let Some(fact) = open {
            (fact.status, fact.why) = (status, why);
        }
    }

    /// Where the carried state is not the folded one.
    #[must_use]
    pub(super) fn differences(carried: &Self, folded: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        compare(&mut found, "phase", &carried.phase, &folded.phase);
        compare(&mut found, "rider", &carried.rider, &folded.rider);
        compare(&mut found, "driver", &carried.driver, &folded.driver);
        compare(&mut found, "offers", &carried.offers, &folded.offers);
        compare(&mut found, "excluded", &carried.excluded, &folded.excluded);
        compare(&mut found, "unassigned", &carried.unassigned, &folded.unassigned);
        compare(&mut found, "quoted", &carried.quoted, &folded.quoted);
        compare(&mut found, "fare", &carried.fare, &folded.fare);
        compare(&mut found, "fee", &carried.fee, &folded.fee);
        compare(&mut found, "stars", &carried.stars, &folded.stars);
        found
    }
}

/// What binds a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Bond {
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
    pub(super) fn pair(self) -> Option<(TripId, OfferId)> {
        match self {
            Self::Idle => None,
            Self::Offered(trip, offer) | Self::Engaged(trip, offer) => Some((trip, offer)),
        }
    }
}

/// What is true of a driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DriverFacts {
    /// Unspecified counts as offline.
    pub(super) duty: v1::Duty,
    /// What binds the driver.
    pub(super) bond: Bond,
    /// Offers that must not come again, oldest first.
    pub(super) closed: Vec<(OfferId, OfferEnd)>,
}

impl Default for DriverFacts {
    fn default() -> Self {
        Self { duty: v1::Duty::Offline, bond: Bond::Idle, closed: Vec::new() }
    }
}

impl DriverFacts {
    /// As an event carries it.
    #[must_use]
    pub(super) fn carried(state: &v1::DriverState) -> Self {
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
    pub(super) fn fold(&mut self, event: &v1::DriverEvent) {
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
    pub(super) fn differences(carried: &Self, folded: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        compare(&mut found, "duty", &carried.duty, &folded.duty);
        compare(&mut found, "engagement", &carried.bond, &folded.bond);
        compare(&mut found, "closed offers", &carried.closed, &folded.closed);
        found
    }
}

fn compare<T: PartialEq + std::fmt::Debug>(
    found: &mut Vec<Difference>,
    field: &'static str,
    carried: &T,
    folded: &T,
) {
    if carried != folded {
        found.push((field, format!("{carried:?}"), format!("{folded:?}")));
    }
}

/// The ids of the pair that a driver's event is about, if it is about one.
#[must_use]
pub(super) fn pair_of(event: &v1::DriverEvent) -> Option<(TripId, OfferId)> {
    use v1::driver_event::Kind;
    let pair = |trip: &[u8], offer: &[u8]| Some((trip_id(trip), offer_id(offer)));
    if let Some(ended) = &event.ended_offer {
        return pair(&ended.trip_id, &ended.offer_id);
    }
    match event.kind.as_ref()? {
        Kind::Offered(of) => pair(&of.trip_id, &of.offer_id),
        Kind::OfferRefused(of) => pair(&of.trip_id, &of.offer_id),
        Kind::OfferAccepted(of) => pair(&of.trip_id, &of.offer_id),
        Kind::OfferDeclined(of) => pair(&of.trip_id, &of.offer_id),
        Kind::OfferLapsed(of) => pair(&of.trip_id, &of.offer_id),
        Kind::Released(of) => pair(&of.trip_id, &of.offer_id),
        Kind::WentOnline(_) | Kind::Finishing(_) | Kind::WentOffline(_) | Kind::Lost(_) => None,
    }
}
