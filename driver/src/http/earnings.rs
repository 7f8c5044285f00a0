//! What the driver earned.

use axum::extract::State;
use common::{
    auth::AsDriver,
    clock::Timestamp,
    http::{Json, Query},
    money::Money,
    problem::{Problem, ProblemBody},
};
use serde::{Deserialize, Serialize};

use super::Gateway;
use crate::earnings::Ride;

/// Which day; all that is remembered when left out.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub(super) struct EarningsQuery {
    /// `YYYY-MM-DD`, UTC.
    day: Option<String>,
}

/// Completed rides and their sum.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct EarningsView {
    day: Option<String>,
    trips: usize,
    total: Money,
    items: Vec<Ride>,
}

/// Completed rides of the driver, oldest first.
#[utoipa::path(
    get,
    path = "/v1/driver/earnings",
    tag = "earnings",
    params(EarningsQuery),
    responses(
        (status = 200, body = EarningsView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn earnings(
    State(gateway): State<Gateway>,
    AsDriver(driver): AsDriver,
    Query(EarningsQuery { day }): Query<EarningsQuery>,
) -> Result<Json<EarningsView>, Problem> {
    let start = day
        .as_deref()
        .map(|day| {
            format!("{day}T00:00:00Z")
                .parse::<Timestamp>()
                .map_err(|_| Problem::invalid("/day", "a day reads YYYY-MM-DD"))
        })
        .transpose()?;
    let items = gateway.earnings.of(driver, start);
    let currency = items.last().map(|ride| ride.fare.currency).unwrap_or_default();
    let total = items
        .iter()
        .try_fold(Money::zero(currency), |sum, ride| sum.checked_add(ride.fare))
        .ok_or_else(|| Problem::invalid("/day", "these rides have no common currency"))?;
    Ok(Json(EarningsView { day, trips: items.len(), total, items }))
}
