//! A trip as its rider knows it: what was asked for ([`Ride`]) and how it goes ([`Progress`]). The
//! rules of a trip's life are `trip`'s; nothing here decides about it.

use common::{
    clock::Timestamp,
    geo::Point,
    id::{DriverId, RiderId, TripId},
    money::Money,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a rider was promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// Names the promise.
    pub fare_id: Uuid,
    /// Which kind of ride.
    pub product: String,
    /// What it costs.
    pub fare: Money,
    /// Metres along roads.
    pub distance_m: u32,
    /// Seconds.
    pub duration_s: u32,
    /// 100 = none.
    pub surge_percent: u32,
    /// What a late cancellation costs.
    pub cancellation_fee: Money,
}

/// What a rider asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Ride {
    /// Its name.
    pub trip: TripId,
    /// Who asked.
    pub rider: RiderId,
    /// From where.
    pub pickup: Point,
    /// To where.
    pub dropoff: Point,
    /// At what price.
    pub quote: Quote,
    /// Four digits that the driver asks for at the door.
    pub pin: String,
    /// Broker time.
    pub requested_at: Timestamp,
}

/// Where a trip stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Looking for a driver.
    Matching,
    /// A driver is on the way.
    Assigned,
    /// The driver waits at the pickup.
    Arrived,
    /// Driving.
    InProgress,
    /// At the dropoff.
    Completed,
    /// Somebody cancelled it.
    Cancelled,
    /// No driver was found.
    Unfulfilled,
}

impl Phase {
    /// Its name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Matching => "matching",
            Self::Assigned => "assigned",
            Self::Arrived => "arrived",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Unfulfilled => "unfulfilled",
        }
    }

    /// Whether nothing more will happen but a rating and a charge.
    #[must_use]
    pub fn is_end(self) -> bool {
        match self {
            Self::Completed | Self::Cancelled | Self::Unfulfilled => true,
            Self::Matching | Self::Assigned | Self::Arrived | Self::InProgress => false,
        }
    }
}

/// How it goes, as of one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The event's place in the trip's history.
    pub version: u64,
    /// The event's place in the stream.
    pub sequence: u64,
    /// Where the trip stands.
    pub phase: Phase,
    /// From the assignment on.
    pub driver: Option<DriverId>,
    /// Seconds to the pickup, as estimated when the driver was assigned.
    pub pickup_eta_s: u32,
    /// Broker time, each once it has happened.
    pub assigned_at: Option<Timestamp>,
    /// The driver reached the pickup.
    pub arrived_at: Option<Timestamp>,
    /// The rider got in.
    pub started_at: Option<Timestamp>,
    /// The trip ended, one way or another.
    pub ended_at: Option<Timestamp>,
    /// What the ride costs, once completed.
    pub fare: Option<Money>,
    /// How it was cancelled, if it was.
    pub cancelled: Option<Cancelled>,
    /// What the rider gave, 1 to 5.
    pub stars_by_rider: Option<u8>,
}

/// Who did something to a trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// Who asked for it.
    Rider,
    /// Who drove it.
    Driver,
    /// A timer.
    System,
    /// Staff.
    Operations,
}

/// How a trip was cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Cancelled {
    /// By whom.
    pub by: Party,
    /// Why.
    pub reason: String,
    /// In which phase.
    pub phase: Phase,
    /// What it costs the rider.
    pub fee: Money,
}

/// A ride and how it goes. Progress is missing until the trip's first event is known here.
#[derive(Debug, Clone, PartialEq)]
pub struct Trip {
    /// What was asked for.
    pub ride: Ride,
    /// How it goes.
    pub progress: Option<Progress>,
}

impl Trip {
    /// Where it stands. A request that still waits in the outbox is being matched, for its rider.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.progress.as_ref().map_or(Phase::Matching, |progress| progress.phase)
    }
}
