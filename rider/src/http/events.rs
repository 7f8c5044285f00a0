//! `GET /v1/trips/{id}/events`: a trip as it happens, for a phone that may lose its connection.

use std::convert::Infallible;

use axum::{
    extract::State,
    http::HeaderMap,
    response::sse::{Event, Sse},
};
use common::{
    auth::AsRider,
    http::Path,
    id::TripId,
    problem::{Problem, ProblemBody},
};
use futures_util::{Stream, stream};

use super::{
    Gateway,
    feed::Feed,
    model::{PositionEvent, TripEvent, TripResource},
};

const LAST_EVENT_ID: &str = "last-event-id";

/// Follow a trip: `snapshot` first (a Trip), then `trip` for each event (the event's sequence is its
/// id) and `position` while a driver is under way. With `Last-Event-ID`, what was missed comes first.
#[utoipa::path(
    get,
    path = "/v1/trips/{id}/events",
    tag = "trips",
    params(("id" = TripId, Path), ("Last-Event-ID" = Option<u64>, Header)),
    responses(
        (status = 200, content_type = "text/event-stream",
         body = inline(Events), description = "Server-sent events"),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn follow(
    State(gateway): State<Gateway>,
    AsRider(rider): AsRider,
    Path(trip): Path<TripId>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let (trip, charge) = gateway.trip(rider, trip).await?;
    let seen = headers
        .get(LAST_EVENT_ID)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.trim().parse().ok());
    let feed = Feed::open(gateway, trip, charge, seen).await?;
    let events = stream::unfold(feed, |mut feed| async {
        let event = feed.next().await?;
        Some((Ok(event), feed))
    });
    Ok(Sse::new(events))
}

/// The JSON of each kind of event.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "only for the document")]
enum Events {
    Snapshot(TripResource),
    Trip(TripEvent),
    Position(PositionEvent),
}
