//! How far replays of dead letters have come.

use axum::extract::State;
use common::{
    auth::AsOperations,
    dead_letters::{self, Run},
    http::{Json, Path},
    problem::{Problem, ProblemBody},
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Gateway;

const RUNS_MAX: usize = 100;

/// Replays, the one that changed last first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Runs {
    items: Vec<Run>,
}

/// The replays of late.
#[utoipa::path(
    get,
    path = "/v1/ops/dlq/replays",
    tag = "operations",
    responses(
        (status = 200, body = Runs),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn list(
    _: AsOperations,
    State(gateway): State<Gateway>,
) -> Result<Json<Runs>, Problem> {
    let items = dead_letters::runs(&gateway.nats, RUNS_MAX).await?;
    Ok(Json(Runs { items }))
}

/// One replay.
#[utoipa::path(
    get,
    path = "/v1/ops/dlq/replays/{run}",
    tag = "operations",
    params(("run" = Uuid, Path)),
    responses(
        (status = 200, body = Run),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn show(
    _: AsOperations,
    State(gateway): State<Gateway>,
    Path(run): Path<Uuid>,
) -> Result<Json<Run>, Problem> {
    let found = dead_letters::last_run(&gateway.nats, run).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("not_found", "there is no such replay"))
}
