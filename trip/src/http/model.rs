//! Trips and their events as operations see them. Never the PIN.

use common::{
    clock::Timestamp,
    decider::{Recorded, Recorder as _},
    envelope::Envelope,
    event_store::Loaded,
    geo::Point,
    id::{DriverId, OfferId, RiderId, TripId},
    money::Money,
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    domain::{
        Arrival, Arrived, Cancelled, Completed, InProgress, OfferRecord, OfferStatus, Party, Phase,
        Progress, Trip, TripEvent, Unfulfilled, Withdrawn,
    },
    invariants::Seen,
    record::TripDecider,
};

/// A trip as operations see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct TripView {
    trip_id: TripId,
    version: u64,
    sequence: u64,
    /// When its last event was decided.
    at: Timestamp,
    #[serde(flatten)]
    state: StateView,
}

/// What is true of a trip.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct StateView {
    status: Option<Phase>,
    rider_id: Option<RiderId>,
    pickup: Option<Point>,
    dropoff: Option<Point>,
    fare: Option<Money>,
    driver_id: Option<DriverId>,
    offers: Vec<OfferView>,
    /// Drivers not to be asked again.
    excluded: Vec<DriverId>,
    unassigned_count: u32,
    requested_at: Option<Timestamp>,
    assigned_at: Option<Timestamp>,
    arrived_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    /// Zero = locked.
    pin_tries_left: Option<u32>,
    stalled: bool,
    cancelled: Option<CancellationView>,
}

/// An offer and its end.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct OfferView {
    offer_id: OfferId,
    driver_id: DriverId,
    pickup_eta_in_ms: u64,
    /// `open`, `assigned` or how it ended.
    status: &'static str,
}

/// How it was cancelled.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct CancellationView {
    by: Party,
    reason: String,
    phase: Option<Phase>,
    fee: Money,
}

impl TripView {
    pub(super) fn seen(trip_id: TripId, seen: &Seen) -> Self {
        let Seen { state, version, sequence, at } = seen;
        let state = state.into();
        Self { trip_id, version: *version, sequence: *sequence, at: *at, state }
    }

    pub(super) fn loaded(trip_id: TripId, loaded: &Loaded<TripDecider>) -> Self {
        let Loaded { state, version, sequence, at, .. } = loaded;
        let state = state.into();
        Self { trip_id, version: *version, sequence: *sequence, at: *at, state }
    }
}

impl From<&Trip> for StateView {
    fn from(trip: &Trip) -> Self {
        let (request, search) = (trip.request(), trip.search());
        let assignment = trip.assignment();
        let times = Times::of(trip);
        Self {
            status: trip.phase(),
            rider_id: request.map(|request| request.rider),
            pickup: request.map(|request| request.pickup),
            dropoff: request.map(|request| request.dropoff),
            fare: request.map(|request| request.quote.fare),
            driver_id: assignment.map(|assignment| assignment.driver),
            offers: search
                .map(|search| search.offers.iter().map(Into::into).collect())
                .unwrap_or_default(),
            excluded: search.map(|search| search.excluded.clone()).unwrap_or_default(),
            unassigned_count: search.map_or(0, |search| search.unassignments),
            requested_at: request.map(|request| request.at),
            assigned_at: assignment.map(|assignment| assignment.at),
            arrived_at: times.arrival.map(|arrival| arrival.at),
            started_at: times.started,
            ended_at: times.ended,
            pin_tries_left: if let Trip::Arrived(Arrived { pin_tries_left, .. }) = trip {
                Some(*pin_tries_left)
            } else {
                None
            },
            stalled: matches!(trip, Trip::InProgress(InProgress { stalled: true, .. })),
            cancelled: cancellation(trip),
        }
    }
}

#[derive(Default)]
struct Times<'a> {
    arrival: Option<&'a Arrival>,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
}

impl<'a> Times<'a> {
    fn of(trip: &'a Trip) -> Self {
        let none = Self::default();
        match trip {
            Trip::Unknown | Trip::Matching(_) | Trip::Assigned(_) => none,
            Trip::Withdrawn(Withdrawn { at, .. }) | Trip::Unfulfilled(Unfulfilled { at, .. }) => {
                Self { ended: Some(*at), ..none }
            }
            Trip::Arrived(Arrived { arrival, .. }) => Self { arrival: Some(arrival), ..none },
            Trip::InProgress(InProgress { arrival, started_at, .. }) => {
                Self { arrival: Some(arrival), started: Some(*started_at), ..none }
            }
            Trip::Completed(Completed { arrival, started_at, at, .. }) => {
                Self { arrival: Some(arrival), started: Some(*started_at), ended: Some(*at) }
            }
            Trip::Cancelled(Cancelled { progress, at, .. }) => {
                let ended = Some(*at);
                match progress {
                    Progress::Matching | Progress::Assigned(_) => Self { ended, ..none },
                    Progress::Arrived(_, arrival) => Self { arrival: Some(arrival), ended, ..none },
                    Progress::InProgress(_, arrival, started_at) => {
                        Self { arrival: Some(arrival), started: Some(*started_at), ended }
                    }
                }
            }
        }
    }
}

fn cancellation(trip: &Trip) -> Option<CancellationView> {
    match trip {
        Trip::Cancelled(Cancelled { by, reason, fee, progress, .. }) => Some(CancellationView {
            by: *by,
            reason: reason.as_str().to_owned(),
            phase: Some(progress.phase()),
            fee: *fee,
        }),
        Trip::Withdrawn(Withdrawn { reason, fee, .. }) => Some(CancellationView {
            by: Party::Rider,
            reason: reason.as_str().to_owned(),
            phase: None,
            fee: *fee,
        }),
        Trip::Unknown
        | Trip::Matching(_)
        | Trip::Assigned(_)
        | Trip::Arrived(_)
        | Trip::InProgress(_)
        | Trip::Completed(_)
        | Trip::Unfulfilled(_) => None,
    }
}

impl From<&OfferRecord> for OfferView {
    fn from(record: &OfferRecord) -> Self {
        Self {
            offer_id: record.offer,
            driver_id: record.driver,
            pickup_eta_in_ms: u64::from(record.pickup_eta_s) * 1_000,
            status: match record.status {
                OfferStatus::Open { .. } => "open",
                OfferStatus::Assigned => "assigned",
                OfferStatus::Closed(why) => why.name(),
            },
        }
    }
}

/// One thing that happened to a trip.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct EventView {
    /// In the stream of all trips.
    sequence: u64,
    /// In the trip's own history.
    version: u64,
    /// Such as `trip.assigned`.
    kind: &'static str,
    at: Timestamp,
    /// Since the event before it; absent for the first and for live ones.
    gap_in_ms: Option<u64>,
    actor: Party,
    /// The event's id.
    event_id: Uuid,
    /// The message or request that caused it.
    cause: Option<Uuid>,
    /// What the kind alone does not say.
    #[schema(value_type = Object)]
    detail: Value,
    /// What is true since.
    state: StateView,
}

impl EventView {
    pub(super) fn new(
        sequence: u64,
        envelope: &Envelope,
        recorded: &Recorded<TripDecider>,
        before: Option<Timestamp>,
    ) -> Self {
        let at = Timestamp::from_micros(recorded.stamp.at_us);
        Self {
            sequence,
            version: recorded.stamp.version,
            kind: TripDecider::kind(&recorded.event),
            at,
            gap_in_ms: before.map(|before| at.in_ms(before)),
            actor: recorded.event.actor(),
            event_id: envelope.id.0,
            cause: envelope.causation,
            detail: detail(&recorded.event),
            state: (&recorded.state).into(),
        }
    }

    pub(super) fn at(&self) -> Timestamp {
        self.at
    }

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }
}

fn detail(event: &TripEvent) -> Value {
    match event {
        TripEvent::Requested { quote, match_deadline, .. } => {
            json!({ "product": quote.product, "fare": quote.fare, "match_deadline": match_deadline })
        }
        TripEvent::Offered { offer, driver, pickup_eta_s, pickup_distance_m, lease_until } => {
            json!({
                "offer_id": offer, "driver_id": driver,
                "pickup_eta_in_ms": u64::from(*pickup_eta_s) * 1_000,
                "pickup_distance_m": pickup_distance_m, "lease_until": lease_until,
            })
        }
        TripEvent::Assigned { offer, driver, watchdog, .. } => {
            json!({ "offer_id": offer, "driver_id": driver, "late_at": watchdog })
        }
        TripEvent::OfferClosed { offer, driver, why } => {
            json!({ "offer_id": offer, "driver_id": driver, "why": why })
        }
        TripEvent::Cancelled { reason, phase, fee, .. } => {
            json!({ "reason": reason.as_str(), "phase": phase, "fee": fee })
        }
        TripEvent::Unassigned { reason, driver, offer, match_deadline, .. } => json!({
            "reason": reason.as_str(), "driver_id": driver, "offer_id": offer,
            "match_deadline": match_deadline,
        }),
        TripEvent::Arrived { position, forced, wait_until } => {
            json!({ "position": position, "forced": forced, "wait_until": wait_until })
        }
        TripEvent::PinRefused { tries_left } => json!({ "tries_left": tries_left }),
        TripEvent::Started { watchdog } => json!({ "stalled_at": watchdog }),
        TripEvent::Completed { position, distance_m, duration_s, fare, .. } => json!({
            "position": position, "distance_m": distance_m,
            "duration_in_ms": u64::from(*duration_s) * 1_000, "fare": fare,
        }),
        TripEvent::Rated { stars, .. } => json!({ "stars": u32::from(*stars) }),
        TripEvent::Unfulfilled
        | TripEvent::WaitOver
        | TripEvent::PinUnlocked
        | TripEvent::Stalled => json!({}),
    }
}
