//! Going online and offline, and seeing where one stands.

use axum::extract::State;
use common::{
    auth::AsDriver,
    http::{IdempotencyKey, Json, KeyTaken, cause},
    problem::{Problem, ProblemBody},
};
use serde::Deserialize;

use super::{
    Gateway,
    model::{DriverView, DutyName},
    problems,
};
use crate::domain::DriverCommand;

/// What the driver wants to be.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct DutyRequest {
    duty: DutyName,
}

/// Go online, offline, or home after the current trip.
#[utoipa::path(
    put,
    path = "/v1/driver/status",
    tag = "duty",
    params(KeyTaken),
    request_body = DutyRequest,
    responses(
        (status = 200, body = DriverView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn set_duty(
    State(gateway): State<Gateway>,
    AsDriver(driver): AsDriver,
    key: Option<IdempotencyKey>,
    Json(request): Json<DutyRequest>,
) -> Result<Json<DriverView>, Problem> {
    let command = match request.duty {
        DutyName::Online => DriverCommand::GoOnline,
        DutyName::Finishing => DriverCommand::Finish,
        DutyName::Offline => DriverCommand::GoOffline,
    };
    let id = IdempotencyKey::command(key.as_ref(), driver.0);
    let outcome = gateway
        .drivers
        .execute(driver, id, &cause(id), &command)
        .await
        .map_err(problems::of_driver)?;
    gateway.view(driver, &outcome.now).await.map(Json)
}

/// Where the driver stands: what a phone that was restarted begins with.
#[utoipa::path(
    get,
    path = "/v1/driver/state",
    tag = "duty",
    responses(
        (status = 200, body = DriverView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn state(
    State(gateway): State<Gateway>,
    AsDriver(driver): AsDriver,
) -> Result<Json<DriverView>, Problem> {
    let loaded = gateway.drivers.load(driver).await.map_err(problems::of_driver)?;
    gateway.view(driver, &loaded).await.map(Json)
}
