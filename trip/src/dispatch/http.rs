//! The match inspector for operations.

use std::sync::Arc;

use axum::extract::{FromRef, State};
use common::{
    auth::{AsOperations, Verifier},
    http::{Json, Query},
    problem::Problem,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::inspect::{BATCHES_MAX, BatchReport, Inspector};

#[derive(Clone, FromRef)]
struct Shared {
    inspector: Inspector,
    verifier: Verifier,
}

/// The routes of the match inspector.
pub fn routes(inspector: Inspector, verifier: Verifier) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(matching)).with_state(Shared { inspector, verifier })
}

/// How many batches are asked for.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Count {
    limit: Option<usize>,
}

/// The last batches, newest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Batches {
    #[schema(value_type = Vec<BatchReport>)]
    batches: Vec<Arc<BatchReport>>,
}

/// The last batches: trips, candidates, costs, chosen pairs, and what the greedy rule would give.
#[utoipa::path(
    get,
    path = "/v1/ops/matching",
    tag = "operations",
    params(("limit" = Option<usize>, Query, description = "One when left out", minimum = 1, maximum = 32)),
    responses((status = 200, body = Batches))
)]
async fn matching(
    _: AsOperations,
    State(inspector): State<Inspector>,
    Query(Count { limit }): Query<Count>,
) -> Result<Json<Batches>, Problem> {
    let limit = limit.unwrap_or(1);
    if !(1..=BATCHES_MAX).contains(&limit) {
        return Err(Problem::invalid(
            "/limit",
            format!("from 1 to {BATCHES_MAX} batches are shown"),
        ));
    }
    Ok(Json(Batches { batches: inspector.last(limit) }))
}
