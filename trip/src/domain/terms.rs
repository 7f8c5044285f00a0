//! How long a trip waits for what, and the other figures of its rules.

use std::time::Duration;

use common::{clock::Timestamp, money::Money};

use super::{Assignment, Request};

/// How far from the pickup a driver may be and still have arrived without insisting.
pub const ARRIVAL_RADIUS_M: u32 = 100;
/// How often a driver, or the pickup watchdog, may give a trip back. The next time ends it.
pub const UNASSIGNMENTS_MAX: u32 = 2;
/// How many wrong PINs lock a trip.
pub const PIN_TRIES_MAX: u32 = 5;

/// For so long a request may be on its way. What comes later does not become a trip: there may have
/// been one, and it may be in the archive by now.
pub(super) const ASKED_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A pickup may take so many times its estimate, and the grace, before the driver is late.
const PICKUP_FACTOR: u32 = 2;
/// A ride may take so many times its estimate, and the grace, before it counts as stalled.
const RIDE_FACTOR: u32 = 3;

/// The waiting times of one trip, fixed when it is requested: a change of settings does not reach
/// rides under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// For a driver to be found.
    pub match_deadline: Duration,
    /// For an open offer to be answered.
    pub offer_lease: Duration,
    /// Beyond twice the estimated way to the pickup.
    pub pickup_grace: Duration,
    /// At the pickup, before the driver may leave without the rider.
    pub no_show_wait: Duration,
    /// Beyond thrice the estimated ride.
    pub ride_grace: Duration,
    /// In which an assigned trip may be cancelled for nothing.
    pub free_cancellation: Duration,
    /// After the end, in which both sides may rate.
    pub rating_window: Duration,
}

impl Terms {
    /// What holds unless a deployment says otherwise.
    pub const STANDARD: Self = Self {
        match_deadline: Duration::from_secs(120),
        offer_lease: Duration::from_secs(30),
        pickup_grace: Duration::from_secs(5 * 60),
        no_show_wait: Duration::from_secs(5 * 60),
        ride_grace: Duration::from_secs(30 * 60),
        free_cancellation: Duration::from_secs(2 * 60),
        rating_window: Duration::from_secs(7 * 24 * 60 * 60),
    };

    /// When a driver who needs `eta_s` to the pickup counts as late.
    #[must_use]
    pub fn pickup_watchdog(&self, eta_s: u32, now: Timestamp) -> Timestamp {
        now.plus(Duration::from_secs(eta_s.into()) * PICKUP_FACTOR + self.pickup_grace)
    }

    /// When a ride of this estimate counts as stalled.
    #[must_use]
    pub fn ride_watchdog(&self, duration_s: u32, now: Timestamp) -> Timestamp {
        now.plus(Duration::from_secs(duration_s.into()) * RIDE_FACTOR + self.ride_grace)
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self::STANDARD
    }
}

/// What it costs the rider to cancel now.
pub(super) fn cancellation_fee(
    request: &Request,
    assignment: Option<&Assignment>,
    now: Timestamp,
) -> Money {
    let free = Money::zero(request.quote.cancellation_fee.currency);
    match assignment {
        Some(assignment) if now > assignment.at.plus(request.terms.free_cancellation) => {
            request.quote.cancellation_fee
        }
        Some(_) | None => free,
    }
}

const _: () = assert!(
    Terms::STANDARD.offer_lease.as_secs() < Terms::STANDARD.match_deadline.as_secs(),
    "an offer must be able to end before the search does"
);

const _: () = assert!(
    ASKED_MAX.as_secs() < common::stream::FACTS_KEPT_MIN.as_secs(),
    "a trip must outlast every request that could begin it again"
);
