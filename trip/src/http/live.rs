//! Everything as it is stored, for the console (SSE). It begins with now: what was before is in
//! lists and timelines.

use std::convert::Infallible;

use async_nats::{Message, Subscriber};
use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use common::{
    auth::AsOperations,
    clock::Timestamp,
    contract::{self, Malformed, v1},
    decider::Recorder as _,
    envelope::Envelope,
    http::sse::{self, HEARTBEAT_EVERY, RETRY},
    id::{DriverId, TripId},
    problem::{Problem, ProblemBody},
    subject,
};
use futures_util::{
    Stream, StreamExt as _,
    stream::{self, Select},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Gateway, model::EventView};
use crate::record::TripDecider;

/// A trip's event, live.
#[derive(Debug, Serialize, ToSchema)]
struct LiveTrip {
    trip_id: TripId,
    #[serde(flatten)]
    event: EventView,
}

/// A driver's event, live.
#[derive(Debug, Serialize, ToSchema)]
struct LiveDriver {
    driver_id: DriverId,
    sequence: u64,
    version: u64,
    /// Such as `driver.offer_accepted`.
    kind: String,
    at: Timestamp,
    cause: Option<uuid::Uuid>,
    duty: &'static str,
    engagement: &'static str,
    trip_id: Option<TripId>,
}

/// What happens, as it is stored: `trip` and `driver` events.
#[utoipa::path(
    get,
    path = "/v1/ops/stream",
    tag = "operations",
    responses(
        (
            status = 200,
            body = LiveTrip,
            content_type = "text/event-stream",
            description = "`trip` (a LiveTrip) and `driver` (a LiveDriver) events"
        ),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn stream(
    _: AsOperations,
    State(gateway): State<Gateway>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let unavailable = |err: async_nats::SubscribeError| Problem::unavailable(err.to_string());
    let client = &gateway.nats.client;
    let trips = client.subscribe(subject::LIVE_TRIPS).await.map_err(unavailable)?;
    let drivers = client.subscribe(subject::LIVE_DRIVERS).await.map_err(unavailable)?;
    let live: Select<Subscriber, Subscriber> = stream::select(trips, drivers);
    let opening = stream::once(async { Ok(Event::default().retry(RETRY).comment("live")) });
    let events = live.take_until(gateway.shutdown.clone().cancelled_owned()).filter_map(
        |message| async move {
            match event(&message) {
                Ok(event) => Some(Ok(event)),
                Err(err) => {
                    tracing::warn!(subject = %message.subject, error = %err, "not shown");
                    None
                }
            }
        },
    );
    Ok(Sse::new(opening.chain(events)).keep_alive(KeepAlive::new().interval(HEARTBEAT_EVERY)))
}

fn event(message: &Message) -> Result<Event, Malformed> {
    let headers = message.headers.as_ref().ok_or_else(|| Malformed::missing("headers"))?;
    let envelope = Envelope::from_headers(headers)?;
    let sequence = sse::sequence(headers).unwrap_or(0);
    let event = if message.subject.starts_with("live.trip.") {
        let recorded = TripDecider::decode(&message.payload)?;
        let event = EventView::new(sequence, &envelope, &recorded, None);
        tracing::trace!(kind = event.kind(), sequence, "live");
        Event::default()
            .event("trip")
            .json_data(LiveTrip { trip_id: TripId(envelope.subject), event })
    } else {
        let driver = driver(sequence, envelope, &message.payload)?;
        Event::default().event("driver").json_data(driver)
    };
    event.map_err(|err| Malformed::new("live event", err))
}

fn driver(sequence: u64, envelope: Envelope, payload: &[u8]) -> Result<LiveDriver, Malformed> {
    use v1::engagement::Kind;
    let event: v1::DriverEvent = contract::decode("driver event", payload)?;
    let stamp = contract::required("stamp", event.stamp)?;
    let state = contract::required("state", event.state)?;
    let duty = match state.duty() {
        v1::Duty::Unspecified | v1::Duty::Offline => "offline",
        v1::Duty::Online => "online",
        v1::Duty::Finishing => "finishing",
    };
    let (engagement, trip) = match state.engagement.and_then(|engagement| engagement.kind) {
        None | Some(Kind::Idle(_)) => ("idle", None),
        Some(Kind::Offered(offered)) => ("offered", Some(offered.trip_id)),
        Some(Kind::Engaged(engaged)) => ("engaged", Some(engaged.trip_id)),
    };
    Ok(LiveDriver {
        driver_id: DriverId(envelope.subject),
        sequence,
        version: stamp.version,
        kind: envelope.kind,
        at: Timestamp::from_micros(stamp.at_us),
        cause: envelope.causation,
        duty,
        engagement,
        trip_id: trip.map(|trip| contract::id("trip_id", &trip)).transpose()?,
    })
}
