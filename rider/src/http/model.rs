//! A trip as phones see it.

use common::{
    clock::Timestamp,
    contract::{self, v1},
    geo::Point,
    id::{DriverId, TripId},
    money::Money,
};
use serde::Serialize;

use crate::{
    domain::{
        cancellation::free_until,
        charge::ChargeState,
        trip::{Cancelled, Phase, Trip},
    },
    store::ledger::ChargeLine,
};

/// A trip.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = Trip)]
pub(super) struct TripResource {
    pub(super) trip_id: TripId,
    status: Phase,
    /// How many events the trip has; 0 while its request waits to be sent on.
    version: u64,
    /// Where the newest event is in its stream.
    sequence: u64,
    pickup: Point,
    dropoff: Point,
    /// As quoted.
    fare: Money,
    distance_m: u32,
    duration_in_ms: u64,
    /// The driver asks for it at the door.
    #[schema(example = "0427")]
    pin: String,
    driver: Option<DriverResource>,
    pickup_eta_in_ms: Option<u64>,
    requested_at: Timestamp,
    assigned_at: Option<Timestamp>,
    arrived_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    free_cancellation_ends_in_ms: Option<u64>,
    cancelled: Option<Cancelled>,
    /// What was collected.
    charged: Option<Money>,
    /// Stars that the rider gave.
    rating: Option<u8>,
}

/// Who drives.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = TripDriver)]
struct DriverResource {
    driver_id: DriverId,
    location: Option<DriverLocation>,
}

/// Where the driver is.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub(super) struct DriverLocation {
    lat: f64,
    lng: f64,
    /// Degrees, clockwise from north.
    heading: u32,
    age_in_ms: u64,
    /// Whether the phone has been silent for too long to trust this.
    stale: bool,
}

/// A position on an event stream.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub(super) struct PositionEvent {
    lat: f64,
    lng: f64,
    heading: u32,
    at: Timestamp,
    age_in_ms: u64,
}

/// A trip event on an event stream.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(super) struct TripEvent {
    /// What happened, such as `trip.assigned`.
    pub(super) kind: String,
    pub(super) trip: TripResource,
}

impl TripResource {
    pub(super) fn new(
        trip: &Trip,
        charge: Option<&ChargeLine>,
        location: Option<DriverLocation>,
        now: Timestamp,
    ) -> Self {
        let Trip { ride, progress } = trip;
        let progress = progress.as_ref();
        let driver = progress.and_then(|progress| progress.driver);
        Self {
            trip_id: ride.trip,
            status: trip.phase(),
            version: progress.map_or(0, |progress| progress.version),
            sequence: progress.map_or(0, |progress| progress.sequence),
            pickup: ride.pickup,
            dropoff: ride.dropoff,
            fare: ride.quote.fare,
            distance_m: ride.quote.distance_m,
            duration_in_ms: u64::from(ride.quote.duration_s) * 1000,
            pin: ride.pin.clone(),
            driver: driver.map(|driver_id| DriverResource { driver_id, location }),
            pickup_eta_in_ms: pickup_eta_in_ms(trip, now),
            requested_at: ride.requested_at,
            assigned_at: progress.and_then(|progress| progress.assigned_at),
            arrived_at: progress.and_then(|progress| progress.arrived_at),
            started_at: progress.and_then(|progress| progress.started_at),
            ended_at: progress.and_then(|progress| progress.ended_at),
            free_cancellation_ends_in_ms: free_until(trip).map(|until| until.in_ms(now)),
            cancelled: progress.and_then(|progress| progress.cancelled.clone()),
            charged: charge.filter(|charge| is_charged(charge)).map(|charge| charge.amount),
            rating: progress.and_then(|progress| progress.stars_by_rider),
        }
    }
}

fn is_charged(charge: &ChargeLine) -> bool {
    matches!(charge.state, ChargeState::Succeeded { .. })
}

/// What is left of the estimate that was made with the assignment.
fn pickup_eta_in_ms(trip: &Trip, now: Timestamp) -> Option<u64> {
    let progress = trip.progress.as_ref().filter(|progress| progress.phase == Phase::Assigned)?;
    let eta = std::time::Duration::from_secs(u64::from(progress.pickup_eta_s));
    Some(progress.assigned_at?.plus(eta).in_ms(now))
}

/// The driver of a trip that is not over yet.
pub(super) fn driver_under_way(trip: &Trip) -> Option<DriverId> {
    let progress = trip.progress.as_ref()?;
    match progress.phase {
        Phase::Assigned | Phase::Arrived | Phase::InProgress => progress.driver,
        Phase::Matching | Phase::Completed | Phase::Cancelled | Phase::Unfulfilled => None,
    }
}

impl DriverLocation {
    pub(super) fn new(reply: &v1::DriverPositionReply, now: Timestamp) -> Option<Self> {
        let stale = reply.liveness() != v1::Liveness::Live;
        let PositionEvent { lat, lng, heading, age_in_ms, .. } = PositionEvent::new(reply, now)?;
        Some(Self { lat, lng, heading, age_in_ms, stale })
    }
}

impl PositionEvent {
    /// Nothing, when the driver was never heard of.
    pub(super) fn new(reply: &v1::DriverPositionReply, now: Timestamp) -> Option<Self> {
        let position = contract::point("position", reply.position.as_ref()).ok()?;
        let at = contract::moment(reply.heard_at_us).filter(|_| reply.known)?;
        Some(Self {
            lat: position.lat(),
            lng: position.lng(),
            heading: reply.heading_deg,
            at,
            age_in_ms: now.in_ms(at),
        })
    }
}
