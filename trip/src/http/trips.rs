//! Trips: lists, timelines, and what operations may do to them.

use axum::extract::State;
use common::{
    auth::AsOperations,
    decider::Recorder as _,
    http::{IdempotencyKey, Json, KeyTaken, Path, Query, cause},
    id::TripId,
    problem::{Problem, ProblemBody},
    scan::{Scan, ScanSpec},
    stream, subject,
    view::{Start, Stored},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Gateway,
    model::{EventView, TripView},
    problems,
};
use crate::{
    archive,
    domain::{Phase, Reason, TripCommand},
    record::TripDecider,
};

const TRIPS_LIMIT_DEFAULT: usize = 100;
const TRIPS_LIMIT_MAX: usize = 1_000;
/// More events than any one trip can have: offers are limited, and so are tries and ratings.
const EVENTS_MAX: usize = 256;

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    phase: Option<Phase>,
    limit: Option<usize>,
}

/// Trips, the one that changed last first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TripList {
    items: Vec<TripView>,
}

/// The trips that changed last.
#[utoipa::path(
    get,
    path = "/v1/ops/trips",
    tag = "operations",
    params(
        ("phase" = Option<Phase>, Query, description = "only trips in this phase"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000)
    ),
    responses(
        (status = 200, body = TripList),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    _: AsOperations,
    State(gateway): State<Gateway>,
    Query(query): Query<ListQuery>,
) -> Json<TripList> {
    let limit = query.limit.unwrap_or(TRIPS_LIMIT_DEFAULT).clamp(1, TRIPS_LIMIT_MAX);
    let last = gateway.invariants.with(|invariants| invariants.last(query.phase, limit));
    let items = last.iter().map(|(trip, seen)| TripView::seen(*trip, seen)).collect();
    Json(TripList { items })
}

/// All that happened to a trip.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Timeline {
    trip_id: TripId,
    /// It has left the log: this is what the archive says.
    archived: bool,
    events: Vec<EventView>,
}

/// All that happened to a trip, read from its own history, or from the archive.
#[utoipa::path(
    get,
    path = "/v1/ops/trips/{trip_id}/timeline",
    tag = "operations",
    params(("trip_id" = TripId, Path)),
    responses(
        (status = 200, body = Timeline),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn timeline(
    _: AsOperations,
    State(gateway): State<Gateway>,
    Path(trip_id): Path<TripId>,
) -> Result<Json<Timeline>, Problem> {
    let filter = subject::TRIP.history(gateway.nats.partitions, trip_id.0);
    let spec = ScanSpec {
        stream: stream::TRIP,
        filters: vec![filter],
        start: Start::After(0),
        headers_only: false,
    };
    let read = async { Scan::open(&gateway.nats, spec).await?.collect(EVENTS_MAX).await };
    let mut messages = read.await.map_err(|err| Problem::unavailable(format!("{err:#}")))?;
    let archived = messages.is_empty();
    if archived {
        messages = gateway.archived(trip_id).await?;
    }
    let mut events: Vec<EventView> = Vec::with_capacity(messages.len());
    for message in messages {
        let corrupt = |err: common::contract::Malformed| Problem::unavailable(err.to_string());
        let envelope = message.envelope().map_err(corrupt)?;
        let recorded = TripDecider::decode(&message.payload).map_err(corrupt)?;
        let before = events.last().map(EventView::at);
        events.push(EventView::new(message.sequence, &envelope, &recorded, before));
    }
    if events.is_empty() {
        return Err(problems::unknown_trip());
    }
    Ok(Json(Timeline { trip_id, archived, events }))
}

/// How a ride that nobody else ends is ended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CloseRequest {
    /// At its destination, at the quoted fare; else it is cancelled and costs nothing.
    completed: bool,
    /// Why, in a few words.
    #[schema(example = "the driver's phone died")]
    reason: String,
}

/// Ends a ride that is on the road.
#[utoipa::path(
    post,
    path = "/v1/ops/trips/{trip_id}/close",
    tag = "operations",
    params(("trip_id" = TripId, Path), KeyTaken),
    request_body = CloseRequest,
    responses(
        (status = 200, body = TripView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn close(
    _: AsOperations,
    State(gateway): State<Gateway>,
    Path(trip_id): Path<TripId>,
    key: Option<IdempotencyKey>,
    Json(request): Json<CloseRequest>,
) -> Result<Json<TripView>, Problem> {
    let reason: Reason = request
        .reason
        .parse()
        .map_err(|err: crate::domain::NotAReason| Problem::invalid("/reason", err.to_string()))?;
    let command = TripCommand::Close { completed: request.completed, reason };
    gateway.carry_out(trip_id, key.as_ref(), &command).await
}

/// Gives the driver new tries for the rider's PIN.
#[utoipa::path(
    post,
    path = "/v1/ops/trips/{trip_id}/unlock-pin",
    tag = "operations",
    params(("trip_id" = TripId, Path), KeyTaken),
    responses(
        (status = 200, body = TripView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn unlock_pin(
    _: AsOperations,
    State(gateway): State<Gateway>,
    Path(trip_id): Path<TripId>,
    key: Option<IdempotencyKey>,
) -> Result<Json<TripView>, Problem> {
    gateway.carry_out(trip_id, key.as_ref(), &TripCommand::UnlockPin).await
}

impl Gateway {
    /// What the archive says of a trip, if there is an archive.
    async fn archived(&self, trip: TripId) -> Result<Vec<Stored>, Problem> {
        let Some(dir) = self.archive.clone().filter(|dir| dir.exists()) else {
            return Ok(Vec::new());
        };
        let read = move || archive::contents(&dir)?.history(trip);
        let unreadable = |err: &dyn std::fmt::Display| Problem::unavailable(err.to_string());
        let history = tokio::task::spawn_blocking(read).await.map_err(|err| unreadable(&err))?;
        history.map_err(|err| unreadable(&err))
    }

    async fn carry_out(
        &self,
        trip: TripId,
        key: Option<&IdempotencyKey>,
        command: &TripCommand,
    ) -> Result<Json<TripView>, Problem> {
        let command_id = IdempotencyKey::command(key, trip.0);
        let outcome = self
            .store
            .execute(trip, command_id, &cause(command_id), command)
            .await
            .map_err(problems::of)?;
        Ok(Json(TripView::loaded(trip, &outcome.now)))
    }
}
