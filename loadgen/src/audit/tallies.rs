//! The numbers of an audit: how much evidence there was, so that an empty run cannot pass for a
//! clean one.

use common::contract::v1::TripPhase;
use serde::Serialize;

use super::{evidence::Evidence, facts::TripFacts};

/// How much was audited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tallies {
    /// Events in the log.
    pub events: u64,
    /// Trips with a history.
    pub trips: u64,
    /// Drivers with a history.
    pub drivers: u64,
    /// Trips of this run that ended at their destination.
    pub completed: u64,
    /// Trips of this run that were cancelled.
    pub cancelled: u64,
    /// Trips of this run for which nobody was found.
    pub unfulfilled: u64,
    /// Trips that go on.
    pub open: u64,
    /// 2xx answers of commands.
    pub promises: u64,
    /// Charges at the provider.
    pub charges: u64,
    /// Minor units that the provider collected.
    pub charged_minor: i64,
    /// Pings that were accepted.
    pub pings_accepted: u64,
    /// Pings that were counted.
    pub pings_counted: u64,
}

impl Tallies {
    /// Counts the evidence.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let mut tallies = Self {
            events: count(evidence.log.len()),
            trips: count(evidence.log.trips.len()),
            drivers: count(evidence.log.drivers.len()),
            promises: count(evidence.promises.len()),
            charges: evidence.provider.as_ref().map_or(0, |charges| count(charges.len())),
            charged_minor: evidence.provider.iter().flatten().map(|it| it.amount_minor).sum(),
            pings_accepted: evidence.pings.map_or(0, |pings| pings.answered.accepted),
            pings_counted: evidence.pings.map_or(0, |pings| pings.counted),
            ..Self::default()
        };
        let of_this_run =
            evidence.log.trips.iter().filter(|(trip, _)| !evidence.earlier.contains(trip));
        for (_, entries) in of_this_run {
            let state = entries.last().and_then(|entry| entry.event.state.as_ref());
            match state.map(TripFacts::carried).unwrap_or_default().phase {
                TripPhase::Completed => tallies.completed += 1,
                TripPhase::Cancelled => tallies.cancelled += 1,
                TripPhase::Unfulfilled => tallies.unfulfilled += 1,
                TripPhase::Unspecified
                | TripPhase::Matching
                | TripPhase::Assigned
                | TripPhase::Arrived
                | TripPhase::InProgress => tallies.open += 1,
            }
        }
        tallies
    }
}
