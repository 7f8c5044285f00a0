//! What happened to a trip, and the timers that it started.

use common::{
    clock::Timestamp,
    geo::Point,
    id::{DriverId, OfferId, RiderId},
    money::Money,
};

use super::{OfferEnd, Party, Phase, Pin, Quote, Reason, Stars, Terms};

/// What happened.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and short-lived")]
pub enum TripEvent {
    /// A rider asked for a ride.
    Requested {
        /// Who.
        rider: RiderId,
        /// From.
        pickup: Point,
        /// To.
        dropoff: Point,
        /// What was promised.
        quote: Quote,
        /// What the rider will tell the driver.
        pin: Pin,
        /// How long to wait for what.
        terms: Terms,
        /// The search ends then.
        match_deadline: Timestamp,
    },
    /// One driver is asked.
    Offered {
        /// The name of the proposal.
        offer: OfferId,
        /// Whom.
        driver: DriverId,
        /// Estimated way to the pickup.
        pickup_eta_s: u32,
        /// Along the roads.
        pickup_distance_m: u32,
        /// The trip waits no longer than this.
        lease_until: Timestamp,
    },
    /// The driver has the trip.
    Assigned {
        /// Which proposal.
        offer: OfferId,
        /// Who.
        driver: DriverId,
        /// Estimated way to the pickup.
        pickup_eta_s: u32,
        /// The driver is late after this.
        watchdog: Timestamp,
    },
    /// The proposal came to nothing.
    OfferClosed {
        /// Which.
        offer: OfferId,
        /// To whom it was made.
        driver: DriverId,
        /// How it ended.
        why: OfferEnd,
    },
    /// Nobody was found in time. An open offer ended with it.
    Unfulfilled,
    /// It ended early. An open offer ended with it.
    Cancelled {
        /// By whom.
        by: Party,
        /// Why.
        reason: Reason,
        /// Where it stood; none = before it was requested.
        phase: Option<Phase>,
        /// What it costs the rider.
        fee: Money,
    },
    /// The driver gave it back, or was late; the search goes on.
    Unassigned {
        /// By whom.
        by: Party,
        /// Why.
        reason: Reason,
        /// Who had it.
        driver: DriverId,
        /// Which proposal that was.
        offer: OfferId,
        /// The new search ends then.
        match_deadline: Timestamp,
    },
    /// The driver is at the pickup.
    Arrived {
        /// Where.
        position: Point,
        /// Far from the pickup, but the driver insisted.
        forced: bool,
        /// The rider has so long.
        wait_until: Timestamp,
    },
    /// The driver may leave without the rider.
    WaitOver,
    /// A wrong PIN was told.
    PinRefused {
        /// Before it locks.
        tries_left: u32,
    },
    /// Operations gave new tries.
    PinUnlocked,
    /// The rider is in the car.
    Started {
        /// The ride counts as stalled after this.
        watchdog: Timestamp,
    },
    /// The rider is at the destination.
    Completed {
        /// Where; unknown when operations closed it.
        position: Option<Point>,
        /// As measured, or as quoted.
        distance_m: u32,
        /// Since the start.
        duration_s: u32,
        /// What is charged: the quoted price.
        fare: Money,
        /// Driver or operations.
        by: Party,
    },
    /// The ride takes far too long; operations should look.
    Stalled,
    /// One side rated the other.
    Rated {
        /// Rider or driver.
        by: Party,
        /// How it was.
        stars: Stars,
    },
}

/// The timers of a trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimerKind {
    /// The search ends.
    MatchDeadline,
    /// The open offer ends.
    OfferLease,
    /// The driver is late.
    PickupWatchdog,
    /// The rider had time enough to come.
    NoShowWait,
    /// The ride takes far too long.
    RideWatchdog,
}

impl TripEvent {
    /// The timer that this starts, and when it is due.
    #[must_use]
    pub fn starts(&self) -> Option<(TimerKind, Timestamp)> {
        match self {
            Self::Requested { match_deadline, .. } | Self::Unassigned { match_deadline, .. } => {
                Some((TimerKind::MatchDeadline, *match_deadline))
            }
            Self::Offered { lease_until, .. } => Some((TimerKind::OfferLease, *lease_until)),
            Self::Assigned { watchdog, .. } => Some((TimerKind::PickupWatchdog, *watchdog)),
            Self::Arrived { wait_until, .. } => Some((TimerKind::NoShowWait, *wait_until)),
            Self::Started { watchdog } => Some((TimerKind::RideWatchdog, *watchdog)),
            Self::OfferClosed { .. }
            | Self::Unfulfilled
            | Self::Cancelled { .. }
            | Self::WaitOver
            | Self::PinRefused { .. }
            | Self::PinUnlocked
            | Self::Completed { .. }
            | Self::Stalled
            | Self::Rated { .. } => None,
        }
    }

    /// Who did it.
    #[must_use]
    pub fn actor(&self) -> Party {
        match self {
            Self::Requested { .. } => Party::Rider,
            Self::Assigned { .. }
            | Self::Arrived { .. }
            | Self::PinRefused { .. }
            | Self::Started { .. } => Party::Driver,
            Self::OfferClosed { why, .. } if !why.is_unknown_to_the_driver() => Party::Driver,
            Self::Cancelled { by, .. }
            | Self::Unassigned { by, .. }
            | Self::Completed { by, .. }
            | Self::Rated { by, .. } => *by,
            Self::PinUnlocked => Party::Operations,
            Self::Offered { .. }
            | Self::OfferClosed { .. }
            | Self::Unfulfilled
            | Self::WaitOver
            | Self::Stalled => Party::System,
        }
    }
}
