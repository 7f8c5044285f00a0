//! Where a trip stands. Each phase holds what is true in it, and nothing else.

use common::{
    clock::Timestamp,
    geo::Point,
    id::{DriverId, OfferId, RiderId},
    money::Money,
};

use super::{Party, Pin, Quote, Reason, Search, Stars, Terms};

/// Where a trip stands.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Trip {
    /// Nothing happened yet.
    #[default]
    Unknown,
    /// Cancelled before the request came. It will not be requested any more.
    Withdrawn(Withdrawn),
    /// Looking for a driver.
    Matching(Matching),
    /// A driver is on the way.
    Assigned(Assigned),
    /// The driver waits at the pickup.
    Arrived(Arrived),
    /// On the road.
    InProgress(InProgress),
    /// Ended at the destination.
    Completed(Completed),
    /// Ended early.
    Cancelled(Cancelled),
    /// Ended without a driver.
    Unfulfilled(Unfulfilled),
}

/// What was asked for. It never changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Who asked.
    pub rider: RiderId,
    /// From.
    pub pickup: Point,
    /// To.
    pub dropoff: Point,
    /// What was promised.
    pub quote: Quote,
    /// What the rider tells the driver.
    pub pin: Pin,
    /// How long to wait for what.
    pub terms: Terms,
    /// When it was asked.
    pub at: Timestamp,
}

/// Who drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// Who.
    pub driver: DriverId,
    /// By which offer.
    pub offer: OfferId,
    /// Estimated way to the pickup, at the time of the offer.
    pub pickup_eta_s: u32,
    /// Since when.
    pub at: Timestamp,
}

/// The driver at the pickup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Since when.
    pub at: Timestamp,
    /// Far from the pickup, but the driver insisted.
    pub forced: bool,
    /// The rider has so long.
    pub wait_until: Timestamp,
    /// That time is over.
    pub wait_over: bool,
}

/// See [`Trip::Withdrawn`].
#[derive(Debug, Clone, PartialEq)]
pub struct Withdrawn {
    /// Why.
    pub reason: Reason,
    /// Nothing, but of some currency.
    pub fee: Money,
    /// When.
    pub at: Timestamp,
}

/// See [`Trip::Matching`].
#[derive(Debug, Clone, PartialEq)]
pub struct Matching {
    /// What was asked for.
    pub request: Request,
    /// What was done for it.
    pub search: Search,
    /// The search ends then.
    pub deadline: Timestamp,
}

/// See [`Trip::Assigned`].
#[derive(Debug, Clone, PartialEq)]
pub struct Assigned {
    /// What was asked for.
    pub request: Request,
    /// How the driver was found.
    pub search: Search,
    /// Who drives.
    pub assignment: Assignment,
}

/// See [`Trip::Arrived`].
#[derive(Debug, Clone, PartialEq)]
pub struct Arrived {
    /// What was asked for.
    pub request: Request,
    /// How the driver was found.
    pub search: Search,
    /// Who drives.
    pub assignment: Assignment,
    /// At the pickup.
    pub arrival: Arrival,
    /// Zero = locked.
    pub pin_tries_left: u32,
}

/// See [`Trip::InProgress`].
#[derive(Debug, Clone, PartialEq)]
pub struct InProgress {
    /// What was asked for.
    pub request: Request,
    /// How the driver was found.
    pub search: Search,
    /// Who drives.
    pub assignment: Assignment,
    /// At the pickup.
    pub arrival: Arrival,
    /// Since when.
    pub started_at: Timestamp,
    /// It takes far too long.
    pub stalled: bool,
}

/// See [`Trip::Completed`].
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    /// What was asked for.
    pub request: Request,
    /// How the driver was found.
    pub search: Search,
    /// Who drove.
    pub assignment: Assignment,
    /// At the pickup.
    pub arrival: Arrival,
    /// When the ride began.
    pub started_at: Timestamp,
    /// When it ended.
    pub at: Timestamp,
    /// As measured, or as quoted.
    pub distance_m: u32,
    /// Since the start.
    pub duration_s: u32,
    /// What is charged.
    pub fare: Money,
    /// What the two sides said of each other.
    pub ratings: Ratings,
}

/// Once each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ratings {
    /// Of the driver.
    pub by_rider: Option<Stars>,
    /// Of the rider.
    pub by_driver: Option<Stars>,
}

/// How far a cancelled trip came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// Without a driver.
    Matching,
    /// The driver was on the way.
    Assigned(Assignment),
    /// The driver was there.
    Arrived(Assignment, Arrival),
    /// On the road since then.
    InProgress(Assignment, Arrival, Timestamp),
}

/// See [`Trip::Cancelled`].
#[derive(Debug, Clone, PartialEq)]
pub struct Cancelled {
    /// What was asked for.
    pub request: Request,
    /// What was done for it.
    pub search: Search,
    /// How far it came.
    pub progress: Progress,
    /// By whom.
    pub by: Party,
    /// Why.
    pub reason: Reason,
    /// What it costs the rider.
    pub fee: Money,
    /// When.
    pub at: Timestamp,
}

/// See [`Trip::Unfulfilled`].
#[derive(Debug, Clone, PartialEq)]
pub struct Unfulfilled {
    /// What was asked for.
    pub request: Request,
    /// What was done for it.
    pub search: Search,
    /// When.
    pub at: Timestamp,
}
