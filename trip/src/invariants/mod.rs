//! The promises, held against what is in the log: a driver is on one trip at a time, a trip has one
//! driver, nothing follows an end, and every carried state is what the events fold to. It knows all
//! trips from their first event on and is fed by a view; no clock and no broker here.

mod watch;

use std::collections::{BTreeMap, HashMap, VecDeque};

use common::{
    clock::Timestamp,
    contract::{self, Malformed, v1},
    decider::Recorded,
    id::{DriverId, TripId},
};
use serde::Serialize;

pub(crate) use watch::{SharedInvariants, watch};

use crate::{
    domain::{Phase, Trip, TripEvent, evolve},
    record::TripDecider,
};

/// Ended trips that are kept for lists and late ratings.
const ENDED_KEPT_MAX: usize = 10_000;
/// Violations that are kept; all are counted.
const VIOLATIONS_KEPT_MAX: usize = 100;

/// What must never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rule {
    /// A driver was assigned while on another trip.
    DriverOnTwoTrips,
    /// A trip was assigned while it had a driver.
    TripWithTwoDrivers,
    /// A driver went from one engagement to another without being free in between.
    DriverEngagedTwice,
    /// Something other than a rating followed an end.
    EventAfterTheEnd,
    /// The state that an event carries is not what the events fold to.
    CarriedStateDiffers,
    /// A version is missing or was used twice.
    VersionGap,
    /// An event cannot be read.
    Unreadable,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub(crate) struct Violation {
    /// Which.
    pub(crate) rule: Rule,
    /// In which stream it showed.
    pub(crate) stream: &'static str,
    /// At which sequence.
    pub(crate) sequence: u64,
    /// Whose.
    pub(crate) trip_id: Option<TripId>,
    /// Whose.
    pub(crate) driver_id: Option<DriverId>,
    /// In words.
    pub(crate) detail: String,
}

/// A trip as its last event tells it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// What is true.
    pub(crate) state: Trip,
    /// How many events there are.
    pub(crate) version: u64,
    /// The last event's sequence.
    pub(crate) sequence: u64,
    /// When that was decided.
    pub(crate) at: Timestamp,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    trips: HashMap<TripId, Seen>,
    by_sequence: BTreeMap<u64, TripId>,
    ended: usize,
    on_trip: HashMap<DriverId, TripId>,
    engaged: HashMap<DriverId, TripId>,
    violations: VecDeque<Violation>,
    broken: BTreeMap<Rule, u64>,
    trip_events: u64,
    driver_events: u64,
}

/// How it stands.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct Standing {
    /// Whether no promise is broken.
    pub(crate) holds: bool,
    /// How often each was broken; those that never were are left out.
    pub(crate) broken: BTreeMap<String, u64>,
    /// The last broken ones, newest first.
    pub(crate) violations: Vec<Violation>,
    /// Trip events that were checked.
    pub(crate) trip_events: u64,
    /// Driver events that were checked.
    pub(crate) driver_events: u64,
    /// Known trips by phase; ended ones only while they are kept.
    pub(crate) trips: BTreeMap<&'static str, usize>,
    /// Drivers with a trip, by the trips' events.
    pub(crate) drivers_on_trips: usize,
    /// Drivers engaged, by the drivers' events.
    pub(crate) drivers_engaged: usize,
}

impl Invariants {
    /// Takes a trip's event in.
    pub(crate) fn see_trip(
        &mut self,
        trip: TripId,
        sequence: u64,
        recorded: Recorded<TripDecider>,
    ) {
        self.trip_events += 1;
        let Recorded { stamp, event, state } = recorded;
        let at = Timestamp::from_micros(stamp.at_us);
        let place = Place { stream: common::stream::TRIP, sequence, trip: Some(trip) };
        let before = self.forget(trip);
        let had = before
            .as_ref()
            .filter(|before| !before.state.is_over())
            .and_then(|before| before.state.assignment())
            .map(|assignment| assignment.driver);
        match (before, stamp.version) {
            (Some(before), version) => {
                self.check_step(place, &before, &event, version);
                self.check_fold(place, before.state, &event, at, &state);
            }
            (None, 1) => self.check_fold(place, Trip::Unknown, &event, at, &state),
            // Its beginning was forgotten long after its end: nothing to compare with.
            (None, _) => {}
        }
        self.note_driver(place, trip, had, &event, &state);
        self.ended += usize::from(state.is_over());
        self.by_sequence.insert(sequence, trip);
        self.trips.insert(trip, Seen { state, version: stamp.version, sequence, at });
        self.shrink();
    }

    fn forget(&mut self, trip: TripId) -> Option<Seen> {
        let before = self.trips.remove(&trip)?;
        self.by_sequence.remove(&before.sequence);
        self.ended -= usize::from(before.state.is_over());
        Some(before)
    }

    fn shrink(&mut self) {
        if self.ended <= ENDED_KEPT_MAX {
            return;
        }
        let is_over = |trip: &TripId| self.trips.get(trip).is_some_and(|seen| seen.state.is_over());
        let oldest = self.by_sequence.values().copied().find(is_over);
        if let Some(oldest) = oldest {
            self.forget(oldest);
        }
    }

    fn check_step(&mut self, place: Place, before: &Seen, event: &TripEvent, version: u64) {
        if version != before.version + 1 {
            let detail = format!("version {version} follows {}", before.version);
            self.broke(Rule::VersionGap, place, None, detail);
        }
        if before.state.is_over() && !matches!(event, TripEvent::Rated { .. }) {
            let detail = format!("{event:?} after the end");
            self.broke(Rule::EventAfterTheEnd, place, None, detail);
        }
    }

    fn check_fold(
        &mut self,
        place: Place,
        before: Trip,
        event: &TripEvent,
        at: Timestamp,
        carried: &Trip,
    ) {
        let folded = evolve(before, event, at);
        if folded != *carried {
            let detail = format!("folded {:?}, carried {:?}", folded.phase(), carried.phase());
            self.broke(Rule::CarriedStateDiffers, place, None, detail);
        }
    }

    fn note_driver(
        &mut self,
        place: Place,
        trip: TripId,
        had: Option<DriverId>,
        event: &TripEvent,
        state: &Trip,
    ) {
        if let TripEvent::Assigned { driver, .. } = event {
            if let Some(other) = had {
                let detail = format!("driver {other} had it");
                self.broke(Rule::TripWithTwoDrivers, place, Some(*driver), detail);
            }
            if let Some(other) = self.on_trip.insert(*driver, trip).filter(|other| *other != trip) {
                let detail = format!("the driver was on trip {other}");
                self.broke(Rule::DriverOnTwoTrips, place, Some(*driver), detail);
            }
        }
        let left = match event {
            TripEvent::Unassigned { driver, .. } => Some(*driver),
            TripEvent::Completed { .. } | TripEvent::Cancelled { .. } => {
                state.assignment().map(|assignment| assignment.driver)
            }
            TripEvent::Requested { .. }
            | TripEvent::Offered { .. }
            | TripEvent::Assigned { .. }
            | TripEvent::OfferClosed { .. }
            | TripEvent::Unfulfilled
            | TripEvent::Arrived { .. }
            | TripEvent::WaitOver
            | TripEvent::PinRefused { .. }
            | TripEvent::PinUnlocked
            | TripEvent::Started { .. }
            | TripEvent::Stalled
            | TripEvent::Rated { .. } => None,
        };
        if let Some(driver) = left
            && self.on_trip.get(&driver) == Some(&trip)
        {
            self.on_trip.remove(&driver);
        }
    }

    /// Takes a driver's event in.
    ///
    /// # Errors
    /// When it carries no state that can be read.
    pub(crate) fn see_driver(
        &mut self,
        driver: DriverId,
        sequence: u64,
        event: &v1::DriverEvent,
    ) -> Result<(), Malformed> {
        use v1::engagement::Kind;
        self.driver_events += 1;
        let state = contract::required("state", event.state.as_ref())?;
        let now: Option<TripId> =
            match state.engagement.as_ref().and_then(|engagement| engagement.kind.as_ref()) {
                Some(Kind::Engaged(engaged)) => Some(contract::id("trip_id", &engaged.trip_id)?),
                Some(Kind::Idle(_) | Kind::Offered(_)) | None => None,
            };
        let before = match now {
            Some(trip) => self.engaged.insert(driver, trip),
            None => self.engaged.remove(&driver),
        };
        if let (Some(before), Some(now)) = (before, now)
            && before != now
        {
            let place = Place { stream: common::stream::DRIVER, sequence, trip: Some(now) };
            let detail = format!("the driver was engaged by trip {before}");
            self.broke(Rule::DriverEngagedTwice, place, Some(driver), detail);
        }
        Ok(())
    }

    /// An event of this stream could not be read.
    pub(crate) fn unreadable(&mut self, stream: &'static str, sequence: u64, err: &Malformed) {
        let place = Place { stream, sequence, trip: None };
        self.broke(Rule::Unreadable, place, None, err.to_string());
    }

    fn broke(&mut self, rule: Rule, place: Place, driver: Option<DriverId>, detail: String) {
        let Place { stream, sequence, trip } = place;
        tracing::error!(?rule, stream, sequence, detail, "a promise is broken");
        *self.broken.entry(rule).or_default() += 1;
        self.violations.truncate(VIOLATIONS_KEPT_MAX - 1);
        let violation =
            Violation { rule, stream, sequence, trip_id: trip, driver_id: driver, detail };
        self.violations.push_front(violation);
    }

    /// How it stands.
    #[must_use]
    pub(crate) fn standing(&self) -> Standing {
        let mut trips = BTreeMap::new();
        for phase in self.trips.values().filter_map(|seen| seen.state.phase()) {
            *trips.entry(phase.name()).or_default() += 1;
        }
        Standing {
            holds: self.broken.is_empty(),
            broken: self.broken.iter().map(|(rule, count)| (rule.name(), *count)).collect(),
            violations: self.violations.iter().cloned().collect(),
            trip_events: self.trip_events,
            driver_events: self.driver_events,
            trips,
            drivers_on_trips: self.on_trip.len(),
            drivers_engaged: self.engaged.len(),
        }
    }

    /// The trips that changed last, newest first; of one phase, if one is named.
    #[must_use]
    pub(crate) fn last(&self, phase: Option<Phase>, limit: usize) -> Vec<(TripId, Seen)> {
        self.by_sequence
            .values()
            .rev()
            .filter_map(|trip| self.trips.get(trip).map(|seen| (*trip, seen)))
            .filter(|(_, seen)| phase.is_none() || seen.state.phase() == phase)
            .take(limit)
            .map(|(trip, seen)| (trip, seen.clone()))
            .collect()
    }
}

#[derive(Clone, Copy)]
struct Place {
    stream: &'static str,
    sequence: u64,
    trip: Option<TripId>,
}

impl Rule {
    fn name(self) -> String {
        format!("{self:?}")
            .char_indices()
            .flat_map(|(at, letter)| {
                let gap = (letter.is_uppercase() && 0 < at).then_some('_');
                gap.into_iter().chain(letter.to_lowercase())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
