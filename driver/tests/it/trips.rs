//! A driver's steps on a trip: passed on, answered, refused, or not answered at all.

use std::time::Duration;

use axum::http::Method;
use common::{
    contract::v1::{self, OfferStatus, trip_command::Kind, trip_reply::Outcome},
    id::{CommandId, DriverId, TripId},
    subject::TRIP_COMMANDS,
    testing::{deadline, http::Answer},
};
use futures_util::StreamExt as _;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    phone::Phone,
    world::{World, pair, trip_with},
};

fn here() -> Value {
    json!({ "lat": 57.7, "lng": 11.97 })
}

/// Posts, and answers in the trip service's place. Gives the command that came, too.
async fn answered(
    world: &World,
    phone: &Phone,
    path: &str,
    key: Option<&str>,
    body: Value,
    outcome: Outcome,
) -> (Answer, v1::TripCommand) {
    let mut commands = world.nats.client.subscribe(TRIP_COMMANDS).await.unwrap();
    // An answer on the same connection: the broker has the subscription.
    world.nats.read_clock().await.unwrap();
    tokio::join!(phone.json(Method::POST, path, key, body), async {
        let message = timeout(deadline::FACT, commands.next()).await.unwrap().unwrap();
        let reply = v1::TripReply { outcome: Some(outcome) }.encode_to_vec();
        world.nats.client.publish(message.reply.unwrap(), reply.into()).await.unwrap();
        v1::TripCommand::decode(message.payload).unwrap()
    })
}

fn rejection(code: &str, state: v1::TripState) -> Outcome {
    Outcome::Rejected(v1::TripRejection {
        code: code.into(),
        detail: "not now".into(),
        tries_left: 3,
        current: Some(v1::TripSnapshot { state: Some(state), ..v1::TripSnapshot::default() }),
    })
}

#[tokio::test]
async fn every_step_reaches_the_trip_as_what_it_is() {
    let world = World::new().await;
    let driver = DriverId::fresh();
    let phone = world.phone(driver);
    let pair = pair();
    let at = Some(v1::Point { lat_e7: 577_000_000, lng_e7: 119_700_000 });
    let steps = [
        (
            "arrive",
            json!({ "position": here(), "forced": true }),
            Kind::Arrive(v1::Arrive { position: at, forced: true }),
        ),
        ("start", json!({ "pin": "0042" }), Kind::Start(v1::Start { pin: "0042".into() })),
        (
            "complete",
            json!({ "position": here(), "distance_m": 4100 }),
            Kind::Complete(v1::Complete { position: at, distance_m: 4100 }),
        ),
        (
            "cancel",
            json!({ "reason": "vehicle_problem" }),
            Kind::CancelByDriver(v1::CancelByDriver { reason: "vehicle_problem".into() }),
        ),
        ("no-show", json!({}), Kind::NoShow(v1::NoShow {})),
    ];
    for (step, body, kind) in steps {
        let done = Outcome::Done(v1::TripSnapshot {
            version: 4,
            state: Some(trip_with(pair, driver, OfferStatus::Assigned)),
            ..v1::TripSnapshot::default()
        });
        let path = format!("/v1/driver/trips/{}/{step}", pair.trip);
        let (answer, command) = answered(&world, &phone, &path, None, body, done).await;
        let trip = answer.expect(200).body;
        assert_eq!((&trip["status"], &trip["version"]), (&json!("assigned"), &json!(4)));
        assert_eq!(trip["pickup"], here());
        assert_eq!(command.kind, Some(kind), "{step}");
        assert_eq!(command.trip_id, pair.trip.to_vec());
        assert_eq!(command.actor_id, driver.to_vec());
        assert!(command.deadline_us > world.nats.clock.now().micros());
    }
}

#[tokio::test]
async fn the_same_key_is_the_same_command() {
    let world = World::new().await;
    let phone = world.phone(DriverId::fresh());
    let path = format!("/v1/driver/trips/{}/no-show", TripId::fresh());
    let mut ids = Vec::new();
    for key in [Some("a"), Some("a"), Some("b"), None, None] {
        let outcome = rejection("wait_not_over", v1::TripState::default());
        let (_, command) = answered(&world, &phone, &path, key, json!({}), outcome).await;
        ids.push(CommandId::try_from(command.command_id.as_slice()).unwrap());
    }
    assert_eq!(ids[0], ids[1]);
    ids.remove(0);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "other keys, and none, are other commands");
}

#[tokio::test]
async fn every_refusal_of_the_trip_has_its_problem() {
    let world = World::new().await;
    let driver = DriverId::fresh();
    let phone = world.phone(driver);
    let pair = pair();
    let arrived = v1::TripState {
        phase: v1::TripPhase::Arrived.into(),
        wait_until_us: world.nats.clock.now().plus(Duration::from_secs(300)).micros(),
        ..trip_with(pair, driver, OfferStatus::Assigned)
    };
    let table = [
        ("trip_not_found", 404, "trip_not_found"),
        ("not_your_trip", 404, "trip_not_found"),
        ("wrong_phase", 409, "wrong_phase"),
        ("trip_started", 409, "trip_started"),
        ("trip_ended", 409, "trip_ended"),
        ("too_many_unassignments", 409, "too_many_unassignments"),
        ("too_far_from_pickup", 409, "too_far_from_pickup"),
        ("wait_not_over", 409, "wait_not_over"),
        ("pin_invalid", 422, "pin_invalid"),
        ("pin_locked", 423, "pin_locked"),
    ];
    let path = format!("/v1/driver/trips/{}/arrive", pair.trip);
    let body = json!({ "position": { "lat": 57.709, "lng": 11.97 } });
    for (said, status, code) in table {
        let outcome = rejection(said, arrived.clone());
        let (answer, _) = answered(&world, &phone, &path, None, body.clone(), outcome).await;
        let problem = answer.expect_problem(status, code).body;
        match code {
            "wrong_phase" => assert_eq!(problem["current_status"], "arrived"),
            "too_far_from_pickup" => assert_eq!(problem["distance_m"], 1001.0),
            "wait_not_over" => assert!(problem["wait_in_ms"].as_u64().unwrap() > 290_000),
            "pin_invalid" => assert_eq!(problem["tries_left"], 3),
            _ => {}
        }
    }
}

#[tokio::test]
async fn without_a_trip_service_nothing_happened_and_the_phone_may_try_again() {
    let world = World::new().await;
    let phone = world.phone(DriverId::fresh());
    let path = format!("/v1/driver/trips/{}/no-show", TripId::fresh());
    let answer = phone.post(&path, json!({})).await.expect_problem(503, "unavailable");
    assert_eq!(answer.body["retryable"], true);
    assert!(answer.headers.contains_key("retry-after"));
    for unknown in [true, false] {
        let failed = Outcome::Failed(v1::TripFailure { detail: "late".into(), unknown });
        let (answer, _) = answered(&world, &phone, &path, None, json!({}), failed).await;
        answer.expect_problem(503, "unavailable");
    }
}
