//! What is true of a trip.

use std::collections::BTreeSet;

use common::{
    contract::v1::{self, OfferEnd, OfferStatus, TripPhase},
    id::{DriverId, OfferId, RiderId},
};

use super::{Difference, compare};
use crate::audit::log::{driver_id, offer_id, rider_id};

/// An offer as its trip knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audit) struct OfferFact {
    /// Which.
    pub(in crate::audit) offer: OfferId,
    /// To whom.
    pub(in crate::audit) driver: DriverId,
    /// Open, assigned or closed.
    pub(in crate::audit) status: OfferStatus,
    /// How it was closed.
    pub(in crate::audit) why: OfferEnd,
}

/// What is true of a trip.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::audit) struct TripFacts {
    /// Where it stands.
    pub(in crate::audit) phase: TripPhase,
    /// Who asked.
    pub(in crate::audit) rider: Option<RiderId>,
    /// Who drives, by which offer.
    pub(in crate::audit) driver: Option<(DriverId, OfferId)>,
    /// Oldest first.
    pub(in crate::audit) offers: Vec<OfferFact>,
    /// Not to be asked again.
    pub(in crate::audit) excluded: BTreeSet<DriverId>,
    /// How often it lost its driver.
    pub(in crate::audit) unassigned: u32,
    /// What was promised.
    pub(in crate::audit) quoted: Option<v1::Money>,
    /// What it costs, once completed.
    pub(in crate::audit) fare: Option<v1::Money>,
    /// What the cancellation costs, once cancelled.
    pub(in crate::audit) fee: Option<v1::Money>,
    /// Stars by rider and by driver; zero = none.
    pub(in crate::audit) stars: (u32, u32),
    /// At the kerb: the rider had time enough to come.
    pub(in crate::audit) wait_over: bool,
    /// On the way: operations have to look at it.
    pub(in crate::audit) stalled: bool,
}

fn some_id<T>(bytes: &[u8], id: impl Fn(&[u8]) -> T) -> Option<T> {
    (!bytes.is_empty()).then(|| id(bytes))
}

impl TripFacts {
    /// As an event carries it.
    #[must_use]
    pub(in crate::audit) fn carried(state: &v1::TripState) -> Self {
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
            wait_over: state.wait_over,
            stalled: state.stalled,
        }
    }

    /// The offer that is neither assigned nor closed.
    #[must_use]
    pub(in crate::audit) fn open_offer(&self) -> Option<&OfferFact> {
        self.offers.iter().find(|fact| fact.status == OfferStatus::Open)
    }

    /// The timer that must run, so that the phase ends though nobody does anything. None, where it
    /// is over or where only people can go on.
    #[must_use]
    pub(in crate::audit) fn timer(&self) -> Option<&'static str> {
        match self.phase {
            TripPhase::Matching => Some("match_deadline"),
            TripPhase::Assigned => Some("pickup_watchdog"),
            TripPhase::Arrived if !self.wait_over => Some("no_show_wait"),
            TripPhase::InProgress if !self.stalled => Some("ride_watchdog"),
            TripPhase::Unspecified
            | TripPhase::Arrived
            | TripPhase::InProgress
            | TripPhase::Completed
            | TripPhase::Cancelled
            | TripPhase::Unfulfilled => None,
        }
    }

    /// Whether it is over.
    #[must_use]
    pub(in crate::audit) fn is_over(&self) -> bool {
        matches!(self.phase, TripPhase::Completed | TripPhase::Cancelled | TripPhase::Unfulfilled)
    }

    /// Who drives at the moment, by which offer.
    #[must_use]
    pub(in crate::audit) fn on_board(&self) -> Option<(DriverId, OfferId)> {
        self.driver.filter(|_| !self.is_over())
    }

    /// What one more event makes of it.
    pub(in crate::audit) fn fold(&mut self, event: &v1::TripEvent) {
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
            Kind::Arrived(_) => (self.phase, self.wait_over) = (TripPhase::Arrived, false),
            Kind::Started(_) => self.phase = TripPhase::InProgress,
            Kind::Completed(completed) => {
                self.end(TripPhase::Completed);
                self.fare = completed.fare.clone();
            }
            Kind::Rated(rated) => match rated.by() {
                v1::Party::Driver => self.stars.1 = rated.stars,
                _ => self.stars.0 = rated.stars,
            },
            Kind::WaitOver(_) => self.wait_over = true,
            Kind::Stalled(_) => self.stalled = true,
            Kind::PinRefused(_) | Kind::PinUnlocked(_) => {}
        }
    }

    fn end(&mut self, phase: TripPhase) {
        self.phase = phase;
        if let Some(offer) = self.open_offer().map(|fact| fact.offer) {
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
    pub(in crate::audit) fn differences(carried: &Self, folded: &Self) -> Vec<Difference> {
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
