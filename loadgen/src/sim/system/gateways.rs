//! What the gateways do for phones, less HTTP: the same commands under the same ids, the same answers
//! at the same time.

use std::{sync::Arc, time::Duration};

use ::rider::{
    domain::{idempotency::Answer, trip::Ride},
    orders,
    relay::Bell,
    store::requests::{OrderError, RideOrder},
};
use common::{
    contract::v1,
    event_store::{Cause, EventStore, ExecuteError, Loaded},
    id::{CommandId, DriverId, OfferId, RiderId, TripId},
    log::{LogPort, ReadFrom},
    stream, trips,
};
use driver::{
    domain::{DriverCommand, Duty, Engagement, Pair},
    record::DriverDecider,
};
use futures_util::FutureExt as _;
use prost::Message as _;
use serde_json::{Value, json};

use super::{
    World,
    services::{Kind, Service},
};

/// As `common::trips` has them.
const COMMAND_DEADLINE: Duration = Duration::from_secs(4);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// As the driver gateway has it.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

/// What a phone is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// It is done, and this is now true.
    Done {
        /// 200, 201 or 202.
        status: u16,
        /// The essential part of the answer.
        response: Value,
    },
    /// It is not, and will not be.
    Refused(String),
    /// Ask again: 503.
    Unavailable,
}

fn done(status: u16, response: Value) -> Told {
    Told::Done { status, response }
}

/// A driver as the phone sees it.
fn view(driver: DriverId, loaded: &Loaded<DriverDecider>) -> Value {
    let (duty, engagement) = match &loaded.state.duty {
        Duty::Offline => ("offline", "idle"),
        Duty::Online(Engagement::Idle { .. }) => ("online", "idle"),
        Duty::Online(Engagement::Offered(_)) => ("online", "offered"),
        Duty::Online(Engagement::Engaged(_)) => ("online", "engaged"),
        Duty::Finishing(_) => ("finishing", "engaged"),
    };
    let version = loaded.version;
    json!({"driver_id": driver, "version": version, "duty": duty, "engagement": engagement})
}

fn refused(err: &ExecuteError<DriverDecider>) -> Told {
    match err {
        ExecuteError::Rejected { rejection, .. } => Told::Refused(format!("{rejection:?}")),
        ExecuteError::Unsettled | ExecuteError::Unavailable(_) | ExecuteError::Corrupt(_) => {
            Told::Unavailable
        }
    }
}

fn cause(id: CommandId) -> Cause {
    Cause { id: Some(id.0), traceparent: None }
}

/// Duty, and answers to offers.
pub async fn driver_command(
    world: Arc<World>,
    service: Service,
    driver: DriverId,
    id: CommandId,
    command: DriverCommand,
) -> Told {
    let Service::Driver(drivers) = service else { return Told::Unavailable };
    let outcome = match drivers.execute(driver, id, &cause(id), &command).await {
        Ok(outcome) => outcome,
        Err(err) => return refused(&err),
    };
    let DriverCommand::Accept { offer } = command else {
        return done(200, view(driver, &outcome.now));
    };
    let engaged = outcome.now.state.engaged().filter(|engaged| engaged.pair.offer == offer);
    let Some(engaged) = engaged else { return Told::Refused("offer withdrawn".to_owned()) };
    match confirmation(&world, &drivers, driver, engaged.pair).await {
        Some(Confirmed::Assigned { version, status }) => {
            let mut response = view(driver, &outcome.now);
            let trip = json!({"trip_id": engaged.pair.trip, "version": version, "status": status});
            if let Some(fields) = response.as_object_mut() {
                fields.insert("trip".to_owned(), trip);
            }
            done(200, response)
        }
        Some(Confirmed::Withdrawn) => Told::Refused("offer withdrawn".to_owned()),
        None => done(202, json!({"trip_id": engaged.pair.trip, "status": "confirming"})),
    }
}

enum Confirmed {
    Assigned { version: u64, status: &'static str },
    Withdrawn,
}

/// Waits for the trip's word on an accepted offer: listens, then looks.
async fn confirmation(
    world: &Arc<World>,
    drivers: &EventStore<DriverDecider>,
    driver: DriverId,
    pair: Pair,
) -> Option<Confirmed> {
    let port = drivers.port();
    let mut live = world.listen(trips::live_subject(port.partitions, pair.trip));
    let spoken = async {
        let last = last_of(port, pair.trip).await;
        let mut seen = last.and_then(|trip| confirms(&trip, driver, pair.offer));
        while seen.is_none() {
            let Some(payload) = live.recv().await else { break };
            if let Ok(trip) = trips::snapshot(pair.trip, 0, &payload) {
                seen = confirms(&trip, driver, pair.offer);
            }
        }
        seen
    };
    world.sim.within(CONFIRM_WITHIN, spoken).await.flatten()
}

fn confirms(trip: &v1::TripSnapshot, driver: DriverId, offer: OfferId) -> Option<Confirmed> {
    let state = trip.state.as_ref()?;
    if state.driver_id == driver.to_vec() && state.offer_id == offer.to_vec() {
        let (version, status) = (trip.version, status(state.phase()));
        return Some(Confirmed::Assigned { version, status });
    }
    match state.offers.iter().find(|record| record.offer_id == offer.to_vec()) {
        Some(record) if record.status() == v1::OfferStatus::Open => None,
        Some(_) => Some(Confirmed::Withdrawn),
        None => state.phase().is_end().then_some(Confirmed::Withdrawn),
    }
}

/// A phase as phones read it.
#[must_use]
pub fn status(phase: v1::TripPhase) -> &'static str {
    match phase {
        v1::TripPhase::Unspecified => "unknown",
        v1::TripPhase::Matching => "matching",
        v1::TripPhase::Assigned => "assigned",
        v1::TripPhase::Arrived => "arrived",
        v1::TripPhase::InProgress => "in_progress",
        v1::TripPhase::Completed => "completed",
        v1::TripPhase::Cancelled => "cancelled",
        v1::TripPhase::Unfulfilled => "unfulfilled",
    }
}

async fn last_of(port: &LogPort, trip: TripId) -> Option<v1::TripSnapshot> {
    let subject = port.partitions.trip_event(trip);
    let last = port.log.last(stream::TRIP, &subject, ReadFrom::Any).await.ok()??;
    trips::snapshot(trip, last.sequence, &last.payload).ok()
}

/// What a driver's phone begins with: the driver, and the trip that holds them.
pub async fn driver_state(
    service: Service,
    driver: DriverId,
) -> Option<(Loaded<DriverDecider>, Option<v1::TripSnapshot>)> {
    let Service::Driver(drivers) = service else { return None };
    let loaded = drivers.load(driver).await.ok()?;
    let trip = match loaded.state.engaged() {
        Some(engaged) => last_of(drivers.port(), engaged.pair.trip).await,
        None => None,
    };
    Some((loaded, trip))
}

/// A command to a trip that somebody waits for, passed on by a gateway.
pub async fn trip_command(
    world: Arc<World>,
    service: Service,
    trip: TripId,
    id: CommandId,
    actor: Option<uuid::Uuid>,
    mut kind: v1::trip_command::Kind,
) -> Told {
    let Some(port) = service.port() else { return Told::Unavailable };
    if let v1::trip_command::Kind::CancelByRider(cancel) = &mut kind {
        // No run lasts so long that it matters when exactly.
        cancel.asked_at_us = port.clock.now().micros();
    }
    let command = v1::TripCommand {
        command_id: id.to_vec(),
        trip_id: trip.to_vec(),
        deadline_us: port.clock.now().plus(COMMAND_DEADLINE).micros(),
        actor_id: actor.map(|actor| actor.as_bytes().to_vec()).unwrap_or_default(),
        kind: Some(kind),
    };
    let payload = command.encode_to_vec();
    let reply = world.ask(Kind::Trip, ANSWER_WITHIN, move |_, service| {
        let payload = payload.clone();
        async move {
            let Service::Trip(store) = service else { return None };
            Some(trip::commands::reply(&store, &payload, None).await)
        }
        .boxed()
    });
    use v1::trip_reply::Outcome;
    match reply.await.flatten().and_then(|reply| reply.outcome) {
        Some(Outcome::Done(snapshot)) => done(200, told(trip, &snapshot)),
        Some(Outcome::Rejected(rejection)) => Told::Refused(rejection.code),
        Some(Outcome::Failed(_)) | None => Told::Unavailable,
    }
}

/// A trip as a phone is told of it.
#[must_use]
pub fn told(trip: TripId, snapshot: &v1::TripSnapshot) -> Value {
    let phase = snapshot.state.as_ref().map(v1::TripState::phase).unwrap_or_default();
    json!({"trip_id": trip, "version": snapshot.version, "status": status(phase)})
}

/// `POST /v1/trips`: answered when it is on the rider service's own disk.
pub async fn order(
    world: Arc<World>,
    service: Service,
    rider: RiderId,
    key: String,
    ride: Ride,
) -> Told {
    let Service::Rider(port) = service else { return Told::Unavailable };
    let trip = ride.trip;
    let body = json!({"trip_id": trip, "version": 0, "status": "matching", "pin": ride.pin});
    let answer = Answer { status: 201, body: body.to_string() };
    let order = RideOrder {
        rider,
        key,
        fingerprint: [7; 32],
        now: port.clock.now(),
        cause: Cause::default(),
        ride: Ok((ride, answer)),
    };
    match orders::place(&world.store, &Bell::default(), &port, order).await {
        Ok(accepted) => match serde_json::from_str(&accepted.answer.body) {
            Ok(response) => done(accepted.answer.status, response),
            Err(_) => Told::Unavailable,
        },
        Err(OrderError::Store(_)) => Told::Unavailable,
        Err(err) => Told::Refused(err.to_string()),
    }
}
