//! What cancelling would cost now. A preview: the trip itself decides when the command arrives.

use std::time::Duration;

use common::{clock::Timestamp, money::Money};

use super::trip::{Phase, Trip};

/// From the assignment on, this long a rider may think again for free.
pub const FREE_CANCELLATION: Duration = Duration::from_secs(120);

/// What a cancellation would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preview {
    /// Whether the trip can still be cancelled.
    pub allowed: bool,
    /// Where it stands.
    pub phase: Phase,
    /// What it would cost.
    pub fee: Money,
    /// Until when it is free; nothing while no driver is assigned, when it is free without a limit,
    /// and once it is not allowed.
    pub free_until: Option<Timestamp>,
}

/// What a cancellation at `now` would do.
#[must_use]
pub fn preview(trip: &Trip, now: Timestamp) -> Preview {
    let phase = trip.phase();
    let late = trip.ride.quote.cancellation_fee;
    let none = Money::zero(late.currency);
    let free_until = free_until(trip);
    let (allowed, fee) = match phase {
        Phase::Matching => (true, none),
        Phase::Assigned | Phase::Arrived => {
            (true, if free_until.is_some_and(|until| now <= until) { none } else { late })
        }
        Phase::InProgress | Phase::Completed | Phase::Cancelled | Phase::Unfulfilled => {
            (false, none)
        }
    };
    Preview { allowed, phase, fee, free_until }
}

/// Until when a cancellation is free, where that has a limit.
#[must_use]
pub fn free_until(trip: &Trip) -> Option<Timestamp> {
    match trip.phase() {
        Phase::Assigned | Phase::Arrived => {
            Some(trip.progress.as_ref()?.assigned_at?.plus(FREE_CANCELLATION))
        }
        Phase::Matching
        | Phase::InProgress
        | Phase::Completed
        | Phase::Cancelled
        | Phase::Unfulfilled => None,
    }
}
