//! A rider's trips, one and many.

use axum::extract::State;
use common::{
    auth::AsRider,
    http::{Json, Path, Query},
    id::TripId,
    problem::{Problem, ProblemBody},
};
use serde::{Deserialize, Serialize};

use super::{Gateway, model::TripResource};
use crate::store::{StoreError, ledger, trips};

const PAGE_DEFAULT: u32 = 20;
const PAGE_MAX: u32 = 100;

/// Which part of the list.
#[derive(Debug, Deserialize)]
pub(super) struct PageRequest {
    cursor: Option<String>,
    #[serde(default = "default_limit")]
    limit: u32,
}

fn default_limit() -> u32 {
    PAGE_DEFAULT
}

/// A part of the list, the newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct TripPage {
    items: Vec<TripResource>,
    /// Gives the next part; nothing after the last.
    next_cursor: Option<String>,
}

/// One trip, now.
#[utoipa::path(
    get,
    path = "/v1/trips/{id}",
    tag = "trips",
    params(("id" = TripId, Path)),
    responses(
        (status = 200, body = TripResource),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn get(
    State(gateway): State<Gateway>,
    AsRider(rider): AsRider,
    Path(trip): Path<TripId>,
) -> Result<Json<TripResource>, Problem> {
    let (trip, charge) = gateway.trip(rider, trip).await?;
    Ok(Json(gateway.resource(&trip, charge.as_ref()).await))
}

/// The caller's trips, the newest first.
#[utoipa::path(
    get,
    path = "/v1/trips",
    tag = "trips",
    params(
        ("cursor" = Option<String>, Query, description = "As the part before gave it"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100)
    ),
    responses(
        (status = 200, body = TripPage),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(gateway): State<Gateway>,
    AsRider(rider): AsRider,
    Query(page): Query<PageRequest>,
) -> Result<Json<TripPage>, Problem> {
    if !(1..=PAGE_MAX).contains(&page.limit) {
        return Err(Problem::invalid("/limit", format!("a page has 1 to {PAGE_MAX} trips")));
    }
    let before: Option<TripId> = page
        .cursor
        .map(|cursor| cursor.parse())
        .transpose()
        .map_err(|_| Problem::invalid("/cursor", "this is no cursor of ours"))?;
    let wanted = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let mut found = gateway
        .store
        .read::<_, StoreError, _>(move |tx| {
            let trips = trips::page(tx, rider, before, page.limit + 1)?;
            let with_charge = |trip: crate::domain::trip::Trip| {
                let charge = ledger::charge_of(tx, trip.ride.trip)?;
                Ok((trip, charge))
            };
            trips.into_iter().map(with_charge).collect::<Result<Vec<_>, StoreError>>()
        })
        .await?;
    let has_more = found.len() > wanted;
    found.truncate(wanted);
    let last = found.last().map(|(trip, _)| trip.ride.trip.to_string());
    let now = gateway.now();
    let items = found
        .iter()
        .map(|(trip, charge)| TripResource::new(trip, charge.as_ref(), None, now))
        .collect();
    Ok(Json(TripPage { items, next_cursor: last.filter(|_| has_more) }))
}
