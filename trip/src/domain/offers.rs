//! The search for a driver: every offer that was made, and who is not to be asked again.

use common::{
    clock::Timestamp,
    id::{DriverId, OfferId},
};

use super::OfferEnd;

/// How many offers one trip may make. After that only its deadline or the rider ends the search.
pub const OFFERS_MAX: usize = 20;

/// One proposal of the trip to one driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfferRecord {
    /// Which offer.
    pub offer: OfferId,
    /// To whom.
    pub driver: DriverId,
    /// Estimated way to the pickup.
    pub pickup_eta_s: u32,
    /// Along the roads.
    pub pickup_distance_m: u32,
    /// Open, or its one end.
    pub status: OfferStatus,
}

/// An offer is open or has its one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfferStatus {
    /// The driver has not answered.
    Open {
        /// The trip waits no longer than this.
        lease_until: Timestamp,
    },
    /// It became an assignment, be it given back later.
    Assigned,
    /// It came to nothing.
    Closed(OfferEnd),
}

/// What the search has done so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Search {
    /// At most [`OFFERS_MAX`], oldest first; at most one is open.
    pub offers: Vec<OfferRecord>,
    /// Drivers not to be asked again.
    pub excluded: Vec<DriverId>,
    /// How often a driver, or the pickup watchdog, gave the trip back.
    pub unassignments: u32,
}

impl Search {
    /// The offer that waits for its driver's answer.
    #[must_use]
    pub fn open(&self) -> Option<&OfferRecord> {
        self.offers.iter().find(|record| matches!(record.status, OfferStatus::Open { .. }))
    }

    /// What became of an offer.
    #[must_use]
    pub fn record(&self, offer: OfferId) -> Option<&OfferRecord> {
        self.offers.iter().find(|record| record.offer == offer)
    }

    /// Whether this driver is not to be asked again.
    #[must_use]
    pub fn excludes(&self, driver: DriverId) -> bool {
        self.excluded.contains(&driver)
    }

    pub(super) fn with(mut self, record: OfferRecord) -> Self {
        self.offers.push(record);
        self
    }

    pub(super) fn assigned(self, offer: OfferId) -> Self {
        self.ended(offer, OfferStatus::Assigned)
    }

    pub(super) fn closed(self, offer: OfferId, why: OfferEnd) -> Self {
        let driver = self.record(offer).map(|record| record.driver);
        let search = self.ended(offer, OfferStatus::Closed(why));
        match driver {
            Some(driver) if why.excludes() => search.excluding(driver),
            Some(_) | None => search,
        }
    }

    /// The trip ends: an open offer ends with it.
    pub(super) fn over(self) -> Self {
        match self.open().map(|record| record.offer) {
            Some(offer) => self.closed(offer, OfferEnd::TripEnded),
            None => self,
        }
    }

    pub(super) fn excluding(mut self, driver: DriverId) -> Self {
        if !self.excludes(driver) {
            self.excluded.push(driver);
        }
        self
    }

    /// Only an open offer can end: the first end is the only one.
    fn ended(mut self, offer: OfferId, end: OfferStatus) -> Self {
        let open = self.offers.iter_mut().find(|record| {
            record.offer == offer && matches!(record.status, OfferStatus::Open { .. })
        });
        if let Some(record) = open {
            record.status = end;
        }
        self
    }
}
