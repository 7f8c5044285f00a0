//! How a trip ends for its rider: cancellation and what it would cost, receipt, rating.

use axum::{extract::State, http::StatusCode};
use common::{
    auth::AsRider,
    clock::Timestamp,
    contract::v1,
    http::{IdempotencyKey, Json, KeyTaken, Path, traceparent},
    id::{CommandId, RiderId, TripId},
    money::Money,
    problem::{Problem, ProblemBody},
    trips::{Answer, TripsError, Wanted},
};
use serde::{Deserialize, Serialize};

use super::{Gateway, model::TripResource};
use crate::{
    domain::{
        cancellation::preview,
        charge::{ChargeState, Ending, Purpose, owed},
        tariff::{Item, Line},
        trip::{Phase, Ride, Trip},
    },
    store::{StoreError, ledger::ChargeLine, trips},
    wire,
};

/// What a cancellation would do now.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CancellationPreview {
    allowed: bool,
    phase: Phase,
    fee: Money,
    /// Nothing where it is free without a limit, or not allowed.
    free_for_in_ms: Option<u64>,
}

/// Why a rider cancels.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct CancelRequest {
    reason: CancelReason,
}

#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum CancelReason {
    ChangeOfPlans,
    GotAnotherRide,
    DriverNotMoving,
    WaitTooLong,
    WrongLocation,
    Other,
}

impl CancelReason {
    fn name(self) -> &'static str {
        match self {
            Self::ChangeOfPlans => "change_of_plans",
            Self::GotAnotherRide => "got_another_ride",
            Self::DriverNotMoving => "driver_not_moving",
            Self::WaitTooLong => "wait_too_long",
            Self::WrongLocation => "wrong_location",
            Self::Other => "other",
        }
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct RatingRequest {
    #[schema(minimum = 1, maximum = 5)]
    stars: u32,
}

/// What a trip cost.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Receipt {
    trip_id: TripId,
    status: Phase,
    lines: Vec<Line>,
    total: Money,
    /// Whether the money was collected.
    charged: bool,
    /// What the charge is for; nothing when nothing is owed.
    purpose: Option<Purpose>,
    provider_reference: Option<String>,
    charged_at: Option<Timestamp>,
}

/// What cancelling would cost now.
#[utoipa::path(
    get,
    path = "/v1/trips/{id}/cancellation",
    tag = "trips",
    params(("id" = TripId, Path)),
    responses(
        (status = 200, body = CancellationPreview),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn preview_cancellation(
    State(gateway): State<Gateway>,
    AsRider(rider): AsRider,
    Path(trip): Path<TripId>,
) -> Result<Json<CancellationPreview>, Problem> {
    let (trip, _) = gateway.trip(rider, trip).await?;
    let now = gateway.now();
    let preview = preview(&trip, now);
    Ok(Json(CancellationPreview {
        allowed: preview.allowed,
        phase: preview.phase,
        fee: preview.fee,
        free_for_in_ms: preview.free_until.map(|until| until.in_ms(now)),
    }))
}

/// Cancel a trip that has not begun.
#[utoipa::path(
    post,
    path = "/v1/trips/{id}/cancel",
    tag = "trips",
    params(("id" = TripId, Path), KeyTaken),
    request_body = CancelRequest,
    responses(
        (status = 200, body = TripResource),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn cancel(
    State(gateway): State<Gateway>,
    AsRider(rider): AsRider,
    Path(trip): Path<TripId>,
    key: Option<IdempotencyKey>,
    Json(request): Json<CancelRequest>,
) -> Result<Json<TripResource>, Problem> {
    let reason = request.reason.name().to_owned();
    let id = IdempotencyKey::command(key.as_ref(), rider.0);
    let command = |ride: &Ride| {
        let asked_at_us = ride.requested_at.micros();
        v1::trip_command::Kind::CancelByRider(v1::CancelByRider { reason, asked_at_us })
    };
    gateway.command(rider, trip, id, command).await.map(Json)
}

/// Rate a trip that was completed.
#[utoipa::path(
    post,
    path = "/v1/trips/{id}/rating",
    tag = "trips",
    params(("id" = TripId, Path), KeyTaken),
    request_body = RatingRequest,
    responses(
        (status = 201, body = TripResource),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn rate(
    State(gateway): State<Gateway>,
    AsRider(rider): AsRider,
    Path(trip): Path<TripId>,
    key: Option<IdempotencyKey>,
    Json(request): Json<RatingRequest>,
) -> Result<(StatusCode, Json<TripResource>), Problem> {
    if !(1..=5).contains(&request.stars) {
        return Err(Problem::invalid("/stars", "stars go from 1 to 5"));
    }
    let rating = v1::Rate { by: v1::Party::Rider.into(), stars: request.stars };
    let command = |_: &Ride| v1::trip_command::Kind::Rate(rating);
    let id = IdempotencyKey::command(key.as_ref(), rider.0);
    let rated = gateway.command(rider, trip, id, command).await?;
    Ok((StatusCode::CREATED, Json(rated)))
}

/// What a trip cost, once it has ended.
#[utoipa::path(
    get,
    path = "/v1/trips/{id}/receipt",
    tag = "trips",
    params(("id" = TripId, Path)),
    responses(
        (status = 200, body = Receipt),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn receipt(
    State(gateway): State<Gateway>,
    AsRider(rider): AsRider,
    Path(trip): Path<TripId>,
) -> Result<Json<Receipt>, Problem> {
    let (trip, charge) = gateway.trip(rider, trip).await?;
    if !trip.phase().is_end() {
        return Err(Problem::not_found("receipt_not_ready", "the trip has not ended yet"));
    }
    Ok(Json(receipt_of(&trip, charge.as_ref())))
}

fn receipt_of(trip: &Trip, charge: Option<&ChargeLine>) -> Receipt {
    let progress = trip.progress.as_ref();
    let fare = progress.and_then(|progress| progress.fare).map(Ending::Completed);
    let fee = progress
        .and_then(|progress| progress.cancelled.as_ref())
        .map(|cancelled| Ending::Cancelled(cancelled.fee));
    let owed = fee.or(fare).and_then(owed);
    let line = |(purpose, amount)| {
        let item = match purpose {
            Purpose::Fare => Item::Fare,
            Purpose::CancellationFee => Item::CancellationFee,
        };
        Line { item, amount }
    };
    let (provider_reference, charged_at) = match charge.map(|charge| &charge.state) {
        Some(ChargeState::Succeeded { provider_reference, at }) => {
            (Some(provider_reference.clone()), Some(*at))
        }
        Some(ChargeState::Pending { .. }) | None => (None, None),
    };
    let none = Money::zero(trip.ride.quote.fare.currency);
    Receipt {
        trip_id: trip.ride.trip,
        status: trip.phase(),
        lines: owed.map(line).into_iter().collect(),
        total: owed.map_or(none, |(_, amount)| amount),
        charged: charged_at.is_some(),
        purpose: owed.map(|(purpose, _)| purpose),
        provider_reference,
        charged_at,
    }
}

impl Gateway {
    /// Sends a command to the caller's trip and answers with the trip as it is afterwards.
    async fn command(
        &self,
        rider: RiderId,
        trip: TripId,
        id: CommandId,
        kind: impl FnOnce(&Ride) -> v1::trip_command::Kind,
    ) -> Result<TripResource, Problem> {
        let (known, charge) = self.trip(rider, trip).await?;
        // The client would keep the command and send it when the broker is back.
        if !self.nats.is_connected() {
            return Err(TripsError::NotDone("the broker is away".to_owned()).into());
        }
        let traceparent = traceparent(id);
        let kind = kind(&known.ride);
        let wanted = Wanted { trip, id, actor: rider.0, kind, traceparent };
        let snapshot = match self.trips.command(wanted).await? {
            Answer::Done(snapshot) => snapshot,
            Answer::Rejected(rejection) => return Err(rejected(&rejection, &known)),
        };
        let trip = wire::trip(known.ride, Some(&snapshot)).map_err(TripsError::Malformed)?;
        if snapshot.sequence > 0 {
            // The caller may look at once, or ask for the next ride.
            self.store
                .try_write::<_, StoreError, _>(move |tx| trips::apply(tx, &snapshot))
                .await
                .unwrap_or_else(|err| tracing::debug!(error = %err, "left to the view"));
        }
        Ok(self.resource(&trip, charge.as_ref()).await)
    }
}

fn rejected(rejection: &v1::TripRejection, known: &Trip) -> Problem {
    if rejection.code == "trip_not_found" && known.phase().is_end() {
        // It has left the log for the archive: nothing more can happen to it.
        let problem = Problem::conflict("trip_ended", "the trip ended long ago");
        return problem.with("current_status", known.phase().name());
    }
    let code = match rejection.code.as_str() {
        "trip_started" => "trip_started",
        "trip_ended" => "trip_ended",
        "already_rated" => "already_rated",
        "rating_closed" => "rating_closed",
        "wrong_phase" => "wrong_phase",
        "not_your_trip" | "trip_not_found" => {
            return Problem::not_found("trip_not_found", "there is no such trip");
        }
        other => {
            tracing::warn!(code = other, "a trip refused with a code that riders do not know");
            "wrong_phase"
        }
    };
    let problem = Problem::conflict(code, rejection.detail.clone());
    let current = rejection.current.as_ref().and_then(|current| current.state.as_ref());
    match current.and_then(|state| wire::phase(state.phase()).ok()) {
        Some(phase) => problem.with("current_status", phase.name()),
        None => problem,
    }
}
