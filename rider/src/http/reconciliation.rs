//! For operations: whether what was charged is what is owed.

use axum::{extract::State, http::StatusCode};
use common::{
    auth::AsOperations,
    dead_letters::Order,
    http::Json,
    problem::{Problem, ProblemBody},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Gateway, fresh};
use crate::reconciliation::{
    self,
    report::{self, Report},
};

const REASON_LEN_MAX: usize = 500;

/// Why it is wanted now.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// In words; up to 500 bytes. It is kept.
    reason: String,
}

/// It is going to be done.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Ordered {
    /// The report of this one has the same.
    run: Uuid,
}

/// What the last comparison of the ledger with the log found.
#[utoipa::path(
    get,
    path = "/v1/reconciliation",
    tag = "operations",
    responses(
        (status = 200, body = Report),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn last(
    _: AsOperations,
    State(gateway): State<Gateway>,
) -> Result<Json<Report>, Problem> {
    let found = report::last(&gateway.nats).await;
    let found = found.map_err(|err| Problem::unavailable(format!("{err:#}")))?;
    found.map(Json).ok_or_else(|| Problem::not_found("not_found", "nothing was compared yet"))
}

/// Send missed fares back and compare the ledger with the log now, rather than at night.
#[utoipa::path(
    post,
    path = "/v1/reconciliation",
    tag = "operations",
    request_body = Wanted,
    responses(
        (status = 202, body = Ordered),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn order(
    AsOperations(by): AsOperations,
    State(gateway): State<Gateway>,
    Json(wanted): Json<Wanted>,
) -> Result<(StatusCode, Json<Ordered>), Problem> {
    let reason = wanted.reason.trim();
    if reason.is_empty() || reason.len() > REASON_LEN_MAX {
        return Err(Problem::invalid("/reason", format!("1 to {REASON_LEN_MAX} bytes")));
    }
    let order = Order {
        by: by.to_string(),
        reason: reason.to_owned(),
        run: fresh(),
        at: gateway.nats.clock.now(),
    };
    let ordered = reconciliation::order(&gateway.nats, &order).await;
    ordered.map_err(|err| Problem::unavailable(format!("{err:#}")))?;
    Ok((StatusCode::ACCEPTED, Json(Ordered { run: order.run })))
}
