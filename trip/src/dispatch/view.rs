//! The trips that look for a driver, as their events tell, and the drivers who are not to be asked
//! just now. In memory: it can be read anew from the log in a moment. No clock and no broker here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use common::{
    clock::Timestamp,
    contract::{self, Malformed, v1},
    event_store::Cause,
    geo::Point,
    id::{DriverId, TripId},
};

use super::config::DispatchConfig;
use crate::domain::OFFERS_MAX;

/// A trip that looks for a driver and has no open offer.
#[derive(Debug, Clone)]
pub struct OpenTrip {
    /// Which.
    pub trip: TripId,
    /// The version that this is true of. The offer made on it is named after it.
    pub version: u64,
    /// Where the rider waits.
    pub pickup: Point,
    /// Since when.
    pub requested_at: Timestamp,
    /// Drivers who are not to be asked again.
    pub excluded: BTreeSet<DriverId>,
    /// How many offers to a driver came to nothing.
    pub failed_offers: BTreeMap<DriverId, u32>,
    /// Rounds in which nobody was found.
    pub failed_rounds: u32,
    /// The event that opened it: the offer will name it as its cause.
    pub cause: Cause,
}

/// A trip in the search, whether an offer is open or not.
#[derive(Debug)]
struct Search {
    open: OpenTrip,
    deadline: Timestamp,
    /// Who has the open offer.
    asked: Option<DriverId>,
    /// Another offer would be refused.
    is_exhausted: bool,
    /// How often a driver was found and gave the trip back: each time begins a new search.
    unassigned_count: u32,
    /// When the present round began.
    round_began: Timestamp,
    /// Not to be tried before.
    due: Timestamp,
}

impl Search {
    /// Whether an offer may be made, now or later.
    fn is_open(&self) -> bool {
        self.asked.is_none() && !self.is_exhausted
    }
}

/// See the module.
#[derive(Debug)]
pub struct OpenTrips {
    searches: BTreeMap<TripId, Search>,
    held: HashMap<DriverId, Timestamp>,
    hold: Duration,
    retry: Duration,
    round: Duration,
}

impl OpenTrips {
    /// Nothing known yet.
    #[must_use]
    pub fn new(config: &DispatchConfig) -> Self {
        Self {
            searches: BTreeMap::new(),
            held: HashMap::new(),
            hold: config.hold(),
            retry: config.retry(),
            round: Duration::from_millis(config.cap.round_ms),
        }
    }

    /// Takes note of an event. Says whether the trip may be offered now.
    ///
    /// # Errors
    /// When the state that it carries cannot be read.
    pub fn apply(
        &mut self,
        trip: TripId,
        event: &v1::TripEvent,
        cause: Cause,
        now: Timestamp,
    ) -> Result<bool, Malformed> {
        let version = contract::required("stamp", event.stamp.as_ref())?.version;
        let state = contract::required("state", event.state.as_ref())?;
        if self.searches.get(&trip).is_some_and(|search| version <= search.open.version) {
            return Ok(false);
        }
        let before = self.searches.remove(&trip);
        if let Some(driver) = before.as_ref().and_then(|search| search.asked) {
            self.answered(driver, state, now);
        }
        if state.phase() != v1::TripPhase::Matching {
            return Ok(false);
        }
        let mut search = read(trip, version, state, cause, now)?;
        if let Some(before) = before
            && before.unassigned_count == search.unassigned_count
        {
            search.open.failed_rounds = before.open.failed_rounds;
            search.round_began = before.round_began;
        }
        if let Some(driver) = search.asked {
            self.held.insert(driver, now.plus(self.hold));
        }
        let is_open = search.is_open();
        self.searches.insert(trip, search);
        Ok(is_open)
    }

    /// The offer to this driver ended. After a yes or no of the driver `location` knows better than
    /// we do whether to ask again; in all other cases give the news the time to spread.
    fn answered(&mut self, driver: DriverId, state: &v1::TripState, now: Timestamp) {
        let record = state.offers.iter().rev().find(|record| record.driver_id == driver.to_vec());
        match record.map(v1::OfferRecord::why) {
            Some(v1::OfferEnd::Declined | v1::OfferEnd::Lapsed) => {
                self.held.remove(&driver);
            }
            _ => {
                self.held.insert(driver, now.plus(self.hold));
            }
        }
    }

    /// The trips to match now, those waiting longest first, at most so many.
    #[must_use]
    pub fn due(&self, now: Timestamp, max: usize) -> Vec<OpenTrip> {
        let is_due =
            |search: &&Search| search.is_open() && search.due <= now && now < search.deadline;
        let mut due: Vec<OpenTrip> =
            self.searches.values().filter(is_due).map(|search| search.open.clone()).collect();
        due.sort_by_key(|open| (open.requested_at, open.trip));
        due.truncate(max);
        due
    }

    /// When the next trip is to be tried; `None` while there is nothing to do.
    #[must_use]
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let open = self.searches.values().filter(|search| search.is_open());
        open.filter(|search| now < search.deadline).map(|search| search.due).min()
    }

    /// Drivers who are not to be asked just now.
    pub fn held(&mut self, now: Timestamp) -> BTreeSet<DriverId> {
        self.held.retain(|_, until| now < *until);
        self.held.keys().copied().collect()
    }

    /// This driver is about to be asked for this trip: neither is to be matched again until the
    /// trip's event tells, or, if it never does, the hold is over.
    pub fn proposed(&mut self, open: &OpenTrip, driver: DriverId, now: Timestamp) {
        let until = now.plus(self.hold);
        self.held.insert(driver, until);
        self.put_off(open, until);
    }

    /// The proposal was not made after all: the driver may be asked for another trip, and this trip
    /// is tried again.
    pub fn not_made(&mut self, open: &OpenTrip, driver: DriverId, now: Timestamp) {
        self.free(driver);
        self.put_off(open, now.plus(self.retry));
    }

    /// This driver was not asked.
    pub fn free(&mut self, driver: DriverId) {
        self.held.remove(&driver);
    }

    /// Nobody was found for it: later again, and after a whole round a little farther.
    pub fn found_nobody(&mut self, open: &OpenTrip, now: Timestamp) {
        self.put_off(open, now.plus(self.retry));
        let round = self.round;
        if let Some(search) = self.searches.get_mut(&open.trip)
            && search.open.version == open.version
            && search.round_began.plus(round) <= now
        {
            search.open.failed_rounds = search.open.failed_rounds.saturating_add(1);
            search.round_began = now;
        }
    }

    /// It could not be found out who is near: later again.
    pub fn not_answered(&mut self, open: &OpenTrip, now: Timestamp) {
        self.put_off(open, now.plus(self.retry));
    }

    fn put_off(&mut self, open: &OpenTrip, until: Timestamp) {
        if let Some(search) = self.searches.get_mut(&open.trip)
            && search.open.version == open.version
        {
            search.due = until;
        }
    }
}

fn read(
    trip: TripId,
    version: u64,
    state: &v1::TripState,
    cause: Cause,
    now: Timestamp,
) -> Result<Search, Malformed> {
    let excluded = state.excluded.iter().map(|id| contract::id("excluded", id));
    let open_offer = state.offers.iter().find(|record| record.status() == v1::OfferStatus::Open);
    let asked =
        open_offer.map(|record| contract::id("driver_id", &record.driver_id)).transpose()?;
    let mut failed_offers = BTreeMap::new();
    for record in &state.offers {
        if record.status() == v1::OfferStatus::Closed {
            *failed_offers.entry(contract::id("driver_id", &record.driver_id)?).or_insert(0) += 1;
        }
    }
    Ok(Search {
        open: OpenTrip {
            trip,
            version,
            pickup: contract::point("pickup", state.pickup.as_ref())?,
            requested_at: Timestamp::from_micros(state.requested_at_us),
            excluded: excluded.collect::<Result<_, _>>()?,
            failed_offers,
            failed_rounds: 0,
            cause,
        },
        deadline: Timestamp::from_micros(state.match_deadline_us),
        asked,
        is_exhausted: state.offers.len() >= OFFERS_MAX,
        unassigned_count: state.unassigned_count,
        round_began: now,
        due: now,
    })
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
