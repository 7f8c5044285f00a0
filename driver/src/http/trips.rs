//! A driver's steps on a trip, passed on to the trip service and answered when they are stored.

use axum::extract::State;
use common::{
    auth::AsDriver,
    contract::v1::{self, trip_command::Kind},
    geo::{Point, RawPoint},
    http::{IdempotencyKey, Json, KeyTaken, Path, traceparent},
    id::{DriverId, TripId},
    problem::{Problem, ProblemBody},
    trips::{Answer, Wanted},
};
use serde::Deserialize;

use super::{Gateway, model::DriverTrip, problems, trip_seen::TripSeen};

const PIN_DIGITS: usize = 4;

/// Where the driver says to be.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct ArriveRequest {
    position: RawPoint,
    /// Arrive although the pickup is farther away than it should be. It is noted.
    #[serde(default)]
    forced: bool,
}

/// The rider's word.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct StartRequest {
    /// Four digits, from the rider.
    pin: String,
}

/// Where the ride ended.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct CompleteRequest {
    position: RawPoint,
    /// As the phone measured it; the quoted distance when left out.
    distance_m: Option<u32>,
}

/// Why the driver gives the trip back.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct CancelRequest {
    reason: CancelReason,
}

/// The reasons that a driver can have.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum CancelReason {
    RiderNotFound,
    VehicleProblem,
    Emergency,
    Other,
}

impl CancelReason {
    fn name(self) -> &'static str {
        match self {
            Self::RiderNotFound => "rider_not_found",
            Self::VehicleProblem => "vehicle_problem",
            Self::Emergency => "emergency",
            Self::Other => "other",
        }
    }
}

/// The driver is at the pickup.
#[utoipa::path(
    post, path = "/v1/driver/trips/{id}/arrive", tag = "trips",
    params(("id" = uuid::Uuid, Path), KeyTaken), request_body = ArriveRequest,
    responses(
        (status = 200, body = DriverTrip),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn arrive(
    State(gateway): State<Gateway>,
    AsDriver(driver): AsDriver,
    key: Option<IdempotencyKey>,
    Path(trip): Path<TripId>,
    Json(request): Json<ArriveRequest>,
) -> Result<Json<DriverTrip>, Problem> {
    let position = point(request.position)?;
    let kind = Kind::Arrive(v1::Arrive { position: Some(position.into()), forced: request.forced });
    pass_on(&gateway, driver, key.as_ref(), trip, kind, Some(position)).await
}

/// The rider is in the car and has said the PIN.
#[utoipa::path(
    post, path = "/v1/driver/trips/{id}/start", tag = "trips",
    params(("id" = uuid::Uuid, Path), KeyTaken), request_body = StartRequest,
    responses(
        (status = 200, body = DriverTrip),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn start(
    State(gateway): State<Gateway>,
    AsDriver(driver): AsDriver,
    key: Option<IdempotencyKey>,
    Path(trip): Path<TripId>,
    Json(request): Json<StartRequest>,
) -> Result<Json<DriverTrip>, Problem> {
    let StartRequest { pin } = request;
    // What cannot be a PIN is a slip of the phone, and costs none of the tries.
    if pin.len() != PIN_DIGITS || !pin.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(Problem::invalid("/pin", "a PIN has four digits"));
    }
    pass_on(&gateway, driver, key.as_ref(), trip, Kind::Start(v1::Start { pin }), None).await
}

/// The ride is over.
#[utoipa::path(
    post, path = "/v1/driver/trips/{id}/complete", tag = "trips",
    params(("id" = uuid::Uuid, Path), KeyTaken), request_body = CompleteRequest,
    responses(
        (status = 200, body = DriverTrip),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn complete(
    State(gateway): State<Gateway>,
    AsDriver(driver): AsDriver,
    key: Option<IdempotencyKey>,
    Path(trip): Path<TripId>,
    Json(request): Json<CompleteRequest>,
) -> Result<Json<DriverTrip>, Problem> {
    let position = point(request.position)?;
    let kind = Kind::Complete(v1::Complete {
        position: Some(position.into()),
        distance_m: request.distance_m.unwrap_or(0),
    });
    pass_on(&gateway, driver, key.as_ref(), trip, kind, Some(position)).await
}

/// The driver gives the trip back.
#[utoipa::path(
    post, path = "/v1/driver/trips/{id}/cancel", tag = "trips",
    params(("id" = uuid::Uuid, Path), KeyTaken), request_body = CancelRequest,
    responses(
        (status = 200, body = DriverTrip),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(
    State(gateway): State<Gateway>,
    AsDriver(driver): AsDriver,
    key: Option<IdempotencyKey>,
    Path(trip): Path<TripId>,
    Json(request): Json<CancelRequest>,
) -> Result<Json<DriverTrip>, Problem> {
    let reason = request.reason.name().to_owned();
    let kind = Kind::CancelByDriver(v1::CancelByDriver { reason });
    pass_on(&gateway, driver, key.as_ref(), trip, kind, None).await
}

/// The rider did not come.
#[utoipa::path(
    post, path = "/v1/driver/trips/{id}/no-show", tag = "trips",
    params(("id" = uuid::Uuid, Path), KeyTaken),
    responses(
        (status = 200, body = DriverTrip),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn no_show(
    State(gateway): State<Gateway>,
    AsDriver(driver): AsDriver,
    key: Option<IdempotencyKey>,
    Path(trip): Path<TripId>,
) -> Result<Json<DriverTrip>, Problem> {
    pass_on(&gateway, driver, key.as_ref(), trip, Kind::NoShow(v1::NoShow {}), None).await
}

fn point(raw: RawPoint) -> Result<Point, Problem> {
    Point::try_from(raw).map_err(|err| Problem::invalid("/position", err.to_string()))
}

async fn pass_on(
    gateway: &Gateway,
    driver: DriverId,
    key: Option<&IdempotencyKey>,
    trip: TripId,
    kind: Kind,
    position: Option<Point>,
) -> Result<Json<DriverTrip>, Problem> {
    let id = IdempotencyKey::command(key, driver.0);
    let wanted = Wanted { trip, id, actor: driver.0, kind, traceparent: traceparent(id) };
    let answer = gateway.trips.command(wanted).await?;
    let now = gateway.nats.clock.now();
    match answer {
        Answer::Done(snapshot) => {
            Ok(Json(DriverTrip::assigned(driver, &TripSeen::new(trip, snapshot), now)))
        }
        Answer::Rejected(rejection) => Err(problems::of_trip(&rejection, position, now)),
    }
}
