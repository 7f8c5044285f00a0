//! Answering an offer. Who accepts gets a yes only when the trip has said so.

use std::time::Duration;

use axum::{
    body::HttpBody as _,
    extract::{FromRequest, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use common::{
    auth::AsDriver,
    http::{IdempotencyKey, Json, KeyTaken, Path, cause},
    id::{DriverId, OfferId, TripId},
    problem::{Problem, ProblemBody},
};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::{
    Gateway,
    model::DriverView,
    problems,
    trip_seen::{Confirmation, TripSeen},
};
use crate::domain::{DriverCommand, Engaged, Pair};

/// How long the phone waits for the trip's word; after it, the answer is "confirming".
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);
const REASON_CHARS_MAX: usize = 64;

/// Accepted, but the trip has not confirmed yet. `GET /v1/driver/state` tells how it ended.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Confirming {
    #[schema(example = "confirming")]
    status: &'static str,
    trip_id: TripId,
}

/// Accept an offer.
#[utoipa::path(
    post,
    path = "/v1/driver/offers/{id}/accept",
    tag = "offers",
    params(("id" = uuid::Uuid, Path), KeyTaken),
    responses(
        (status = 200, body = DriverView, description = "the trip is assigned"),
        (status = 202, body = Confirming, description = "the trip has not said yet"),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn accept(
    State(gateway): State<Gateway>,
    AsDriver(driver): AsDriver,
    key: Option<IdempotencyKey>,
    Path(offer): Path<OfferId>,
) -> Result<Response, Problem> {
    let id = IdempotencyKey::command(key.as_ref(), driver.0);
    let outcome = gateway
        .drivers
        .execute(driver, id, &cause(id), &DriverCommand::Accept { offer })
        .await
        .map_err(problems::of_driver)?;
    // A repetition whose offer has ended meanwhile made an event once, but holds nothing now.
    let engaged = outcome.now.state.engaged().filter(|engaged| engaged.pair.offer == offer);
    let Some(Engaged { pair, .. }) = engaged else { return Err(problems::withdrawn()) };
    match confirmation(&gateway, driver, pair).await? {
        Confirmation::Assigned => {
            Ok(Json(gateway.view(driver, &outcome.now).await?).into_response())
        }
        Confirmation::Withdrawn => Err(problems::withdrawn()),
        Confirmation::Open => {
            let confirming = Confirming { status: "confirming", trip_id: pair.trip };
            Ok((StatusCode::ACCEPTED, Json(confirming)).into_response())
        }
    }
}

/// Waits for the trip's word on an accepted offer: listens, then looks, so that no word is missed
/// whether it was spoken before or comes later.
async fn confirmation(
    gateway: &Gateway,
    driver: DriverId,
    pair: Pair,
) -> Result<Confirmation, Problem> {
    let mut live = gateway.trips.live(pair.trip).await?;
    let spoken = async {
        let last = gateway.last_of(pair.trip).await.ok().flatten();
        let mut seen = last.map_or(Confirmation::Open, |trip| trip.confirms(driver, pair.offer));
        while seen == Confirmation::Open {
            let Some(message) = live.next().await else { break };
            if let Ok(trip) = TripSeen::from_event(pair.trip, &message.payload) {
                seen = trip.confirms(driver, pair.offer);
            }
        }
        seen
    };
    Ok(tokio::time::timeout(CONFIRM_WITHIN, spoken).await.unwrap_or(Confirmation::Open))
}

/// Why not.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
pub(super) struct DeclineRequest {
    /// For statistics; at most 64 characters.
    reason: Option<String>,
}

/// A body that may be left out altogether.
#[derive(Debug)]
pub(super) struct OrDefault<T>(T);

impl<T, S> FromRequest<S> for OrDefault<T>
where
    T: serde::de::DeserializeOwned + Default,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_empty = request.body().size_hint().exact() == Some(0);
        if is_empty && !request.headers().contains_key(header::CONTENT_TYPE) {
            return Ok(Self(T::default()));
        }
        Json::from_request(request, state).await.map(|Json(body)| Self(body))
    }
}

/// Decline an offer. Declining what one does not have any more is no error.
#[utoipa::path(
    post,
    path = "/v1/driver/offers/{id}/decline",
    tag = "offers",
    params(("id" = uuid::Uuid, Path), KeyTaken),
    request_body = Option<DeclineRequest>,
    responses(
        (status = 200, body = DriverView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn decline(
    State(gateway): State<Gateway>,
    AsDriver(driver): AsDriver,
    key: Option<IdempotencyKey>,
    Path(offer): Path<OfferId>,
    OrDefault(request): OrDefault<DeclineRequest>,
) -> Result<Json<DriverView>, Problem> {
    let reason = request.reason.unwrap_or_default();
    if reason.chars().count() > REASON_CHARS_MAX {
        return Err(Problem::invalid("/reason", format!("has over {REASON_CHARS_MAX} characters")));
    }
    let id = IdempotencyKey::command(key.as_ref(), driver.0);
    let outcome = gateway
        .drivers
        .execute(driver, id, &cause(id), &DriverCommand::Decline { offer, reason })
        .await
        .map_err(problems::of_driver)?;
    gateway.view(driver, &outcome.now).await.map(Json)
}
