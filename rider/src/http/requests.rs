//! `POST /v1/trips`: a ride is taken up in one local transaction and answered. It works while the
//! broker is away; the relay carries it there.

use std::time::Duration;

use aws_lc_rs::digest;
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use common::{
    auth::AsRider,
    event_store::Cause,
    http::{IdempotencyKey, Json, KeyNeeded, traceparent},
    id::{CommandId, RiderId, TripId},
    log::LogPort,
    problem::{Problem, ProblemBody},
    room::Load,
};
use serde::Deserialize;

use super::{Gateway, fresh, model::TripResource};
use crate::{
    domain::{
        idempotency::{Answer, Fingerprint},
        trip::{Ride, Trip},
    },
    fare::{Fare, FareError},
    orders,
    store::{
        StoreError,
        requests::{Accepted, NoRide, OrderError, RideOrder, answered},
        trips,
    },
};

/// How long the log may take to say that a rider's trip has ended already.
const LOOK_DEADLINE: Duration = Duration::from_millis(500);
const REPLAYED: &str = "idempotent-replayed";
const PINS: u64 = 10_000;

/// Which fare to take.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct TripRequest {
    fare_id: String,
}

/// Ask for a ride. The same key asks for the same ride, however often it is sent.
#[utoipa::path(
    post,
    path = "/v1/trips",
    tag = "trips",
    params(KeyNeeded),
    request_body = TripRequest,
    responses(
        (status = 201, body = TripResource),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn request_trip(
    State(gateway): State<Gateway>,
    AsRider(rider): AsRider,
    key: IdempotencyKey,
    Json(request): Json<TripRequest>,
) -> Result<Response, Problem> {
    let now = gateway.now();
    let ride = match gateway.fares.verify(&request.fare_id, rider, now) {
        Ok(fare) => match gateway.room.admit(Load::Rides) {
            Ok(()) => Ok(ride(fare, now)?),
            Err(full) => Err(NoRide::NoRoom(full)),
        },
        Err(err) => Err(NoRide::Fare(err)),
    };
    let fingerprint = fingerprint(&request.fare_id);
    let cause = Cause { id: None, traceparent: traceparent(CommandId::fresh()) };
    let key = key.into_string();
    let order = RideOrder { rider, key, fingerprint, now, cause, ride };
    match gateway.place(order.clone()).await {
        Err(OrderError::TripInProgress(trip)) => {
            if !gateway.has_ended(rider, trip).await {
                return Err(OrderError::TripInProgress(trip).into());
            }
            respond(gateway.place(order).await?)
        }
        placed => respond(placed?),
    }
}

impl Gateway {
    async fn place(&self, order: RideOrder) -> Result<Accepted, OrderError> {
        if self.backlog.is_full() {
            let before = self.store.read(move |tx| answered(tx, &order)).await?;
            return before.ok_or(OrderError::Store(StoreError::Overloaded));
        }
        orders::place(&self.store, &self.bell, &LogPort::from(&self.nats), order).await
    }

    /// Whether the log knows that a trip is over which the view still shows as open. A rider whose
    /// trip has just ended must not be sent away because the view lags.
    async fn has_ended(&self, rider: RiderId, trip: TripId) -> bool {
        if !self.nats.is_connected() {
            return false;
        }
        let looked = tokio::time::timeout(LOOK_DEADLINE, self.look(trip)).await;
        match looked {
            Ok(Ok(has_ended)) => has_ended,
            Ok(Err(err)) => {
                tracing::debug!(rider.id = %rider, trip.id = %trip, error = %err, "not looked up");
                false
            }
            Err(_) => false,
        }
    }

    async fn look(&self, trip: TripId) -> anyhow::Result<bool> {
        let Some(snapshot) = self.trips.last(trip).await? else { return Ok(false) };
        let has_ended = snapshot.state.as_ref().is_some_and(|state| state.phase().is_end());
        if has_ended {
            self.store.write::<_, StoreError, _>(move |tx| trips::apply(tx, &snapshot)).await?;
        }
        Ok(has_ended)
    }
}

fn ride(fare: Fare, now: common::clock::Timestamp) -> Result<(Ride, Answer), Problem> {
    let ride = Ride {
        trip: TripId::fresh(),
        rider: fare.rider,
        pickup: fare.pickup,
        dropoff: fare.dropoff,
        quote: fare.quote,
        // From an id of its own: the driver knows the trip's, and must not be able to tell the pin.
        pin: format!("{:04}", fresh().as_u64_pair().1 % PINS),
        requested_at: now,
    };
    let trip = Trip { ride, progress: None };
    let body = serde_json::to_string(&TripResource::new(&trip, None, None, now))
        .map_err(|err| Problem::unavailable(err.to_string()))?;
    Ok((trip.ride, Answer { status: StatusCode::CREATED.as_u16(), body }))
}

fn fingerprint(fare_id: &str) -> Fingerprint {
    let mut asked = digest::Context::new(&digest::SHA256);
    asked.update(b"POST /v1/trips\n");
    asked.update(fare_id.as_bytes());
    let mut fingerprint = [0; 32];
    for (byte, hashed) in fingerprint.iter_mut().zip(asked.finish().as_ref()) {
        *byte = *hashed;
    }
    fingerprint
}

fn respond(accepted: Accepted) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Named {
        trip_id: TripId,
    }
    let Answer { status, body } = accepted.answer;
    let unreadable = |why: String| Problem::unavailable(why);
    let named: Named = serde_json::from_str(&body).map_err(|err| unreadable(err.to_string()))?;
    let status = StatusCode::from_u16(status).map_err(|err| unreadable(err.to_string()))?;
    let location = format!("/v1/trips/{}", named.trip_id);
    let headers =
        [(header::CONTENT_TYPE, "application/json".to_owned()), (header::LOCATION, location)];
    let mut response = (status, headers, body).into_response();
    if accepted.is_replay {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

impl From<OrderError> for Problem {
    fn from(err: OrderError) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let detail = err.to_string();
        match err {
            OrderError::KeyReused => Self::new(status, "idempotency_key_reused", detail),
            OrderError::TripInProgress(trip) => {
                Self::conflict("trip_in_progress", detail).with("trip_id", trip.to_string())
            }
            OrderError::NoRide(NoRide::NoRoom(full)) => full.into(),
            OrderError::NoRide(NoRide::Fare(FareError::Invalid)) => {
                Self::new(status, "fare_invalid", detail)
            }
            OrderError::NoRide(NoRide::Fare(FareError::Expired(_))) => {
                Self::conflict("fare_expired", detail)
            }
            OrderError::Store(err) => err.into(),
        }
    }
}
