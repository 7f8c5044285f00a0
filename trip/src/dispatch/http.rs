//! The match inspector for operations.

use std::sync::Arc;

use axum::extract::{FromRef, State};
use common::{
    auth::{AsOperations, Verifier},
    http::{Json, Query},
    problem::Problem,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
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

#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Limit {
    /// How many batches, from 1 to 32; the newest come first.
    #[param(minimum = 1, maximum = 32)]
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
    responses((status = 200, body = Batches))
)]
async fn matching(
    _: AsOperations,
    State(inspector): State<Inspector>,
    query: Query<Limit>,
) -> Result<Json<Batches>, Problem> {
    let limit = query.0.limit.unwrap_or(1).clamp(1, BATCHES_MAX);
    Ok(Json(Batches { batches: inspector.last(limit) }))
}
