//! Cancelling and rating: commands to the trip, and what their answers mean.

use std::sync::{Arc, Mutex};

use common::{
    clock::Timestamp,
    contract::v1::{self, trip_command::Kind, trip_reply::Outcome},
    id::{RiderId, TripId},
};
use serde_json::json;

use crate::world::World;

fn snapshot(trip: TripId, sequence: u64, state: v1::TripState) -> v1::TripSnapshot {
    v1::TripSnapshot { trip_id: trip.to_vec(), version: 2, sequence, at_us: 1, state: Some(state) }
}

/// A trip that was cancelled before its request arrived knows little.
fn tombstone() -> v1::TripState {
    v1::TripState {
        phase: v1::TripPhase::Cancelled.into(),
        cancelled: Some(v1::TripCancelled {
            by: v1::Party::Rider.into(),
            reason: "change_of_plans".into(),
            ..v1::TripCancelled::default()
        }),
        ..v1::TripState::default()
    }
}

fn rejected(code: &str, state: Option<v1::TripState>) -> Outcome {
    Outcome::Rejected(v1::TripRejection {
        code: code.into(),
        detail: "no".into(),
        tries_left: 0,
        current: state.map(|state| snapshot(TripId::fresh(), 1, state)),
    })
}

fn command_trip(command: &v1::TripCommand) -> TripId {
    TripId::try_from(command.trip_id.as_slice()).unwrap()
}

#[tokio::test]
async fn a_rider_cancels_a_ride_that_nobody_has_heard_of_yet_and_may_ask_for_another() {
    let mut world = World::new().await;
    world
        .answer_commands(|command| Outcome::Done(snapshot(command_trip(&command), 7, tombstone())))
        .await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    let path = format!("/v1/trips/{trip}/cancel");
    let body = json!({ "reason": "change_of_plans" });
    let cancelled = phone.post(&path, None, body).await.expect(200).body;
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancelled["cancelled"]["phase"], "matching");
    assert_eq!(cancelled["cancelled"]["fee"], json!({ "amount_minor": 0, "currency": "SEK" }));
    let seen = phone.get(&format!("/v1/trips/{trip}")).await.expect(200).body;
    assert_eq!(seen["status"], "cancelled");
    let receipt = phone.get(&format!("/v1/trips/{trip}/receipt")).await.expect(200).body;
    assert_eq!(receipt["lines"], json!([]));
    assert!(receipt["purpose"].is_null());
    phone.ride("l").await;
}

#[tokio::test]
async fn a_command_says_who_sends_it_until_when_and_is_known_again_by_its_key() {
    let mut world = World::new().await;
    let seen: Arc<Mutex<Vec<v1::TripCommand>>> = Arc::default();
    let commands = Arc::clone(&seen);
    world
        .answer_commands(move |command| {
            commands.lock().unwrap().push(command);
            rejected("trip_started", None)
        })
        .await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    let path = format!("/v1/trips/{trip}/cancel");
    for key in [Some("a"), Some("a"), None, None] {
        let body = json!({ "reason": "wait_too_long" });
        assert_eq!(phone.post(&path, key, body).await.expect(409).code(), "trip_started");
    }
    let commands = seen.lock().unwrap().clone();
    assert_eq!(commands[0].command_id, commands[1].command_id);
    assert_ne!(commands[1].command_id, commands[2].command_id);
    assert_ne!(commands[2].command_id, commands[3].command_id);
    assert_eq!(commands[0].actor_id, phone.rider.to_vec());
    assert!(commands[0].deadline_us > world.nats.clock.now().micros());
    let Some(Kind::CancelByRider(cancel)) = &commands[0].kind else { panic!("{commands:?}") };
    assert_eq!(cancel.reason, "wait_too_long");
    let shown = phone.get(&format!("/v1/trips/{trip}")).await.expect(200).body;
    let asked_at = Timestamp::from_micros(cancel.asked_at_us);
    assert_eq!(shown["requested_at"], json!(asked_at), "as the trip must know it");
}

#[tokio::test]
async fn without_a_trip_service_or_with_an_unknown_outcome_the_phone_may_ask_again() {
    let mut world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    let path = format!("/v1/trips/{trip}/cancel");
    let body = json!({ "reason": "other" });
    let nobody = phone.post(&path, None, body.clone()).await.expect(503);
    assert_eq!((nobody.code(), &nobody.body["retryable"]), ("unavailable", &json!(true)));

    let failed = |_| Outcome::Failed(v1::TripFailure { detail: "late".into(), unknown: true });
    world.answer_commands(failed).await;
    let unknown = phone.post(&path, None, body).await.expect(503);
    assert_eq!((unknown.code(), &unknown.body["retryable"]), ("unavailable", &json!(true)));
    let seen = phone.get(&format!("/v1/trips/{trip}")).await.expect(200).body;
    assert_eq!(seen["status"], "matching");
}

#[tokio::test]
async fn a_refusal_says_where_the_trip_stands() {
    let mut world = World::new().await;
    let in_progress = world.state(RiderId::fresh(), v1::TripPhase::InProgress);
    world.answer_commands(move |_| rejected("wrong_phase", Some(in_progress.clone()))).await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    let path = format!("/v1/trips/{trip}/rating");
    let refused = phone.post(&path, None, json!({ "stars": 5 })).await.expect(409);
    assert_eq!(refused.code(), "wrong_phase");
    assert_eq!(refused.body["current_status"], "in_progress");
}

#[tokio::test]
async fn a_rating_is_shown_with_the_trip() {
    let mut world = World::new().await;
    let completed = world.state(RiderId::fresh(), v1::TripPhase::Completed);
    world
        .answer_commands(move |command| {
            let Some(Kind::Rate(rate)) = &command.kind else { panic!("{command:?}") };
            let state = v1::TripState { stars_by_rider: rate.stars, ..completed.clone() };
            Outcome::Done(snapshot(command_trip(&command), 9, state))
        })
        .await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    let path = format!("/v1/trips/{trip}/rating");
    let rated = phone.post(&path, None, json!({ "stars": 4 })).await.expect(201).body;
    assert_eq!(rated["rating"], 4);
}

#[tokio::test]
async fn a_preview_says_what_cancelling_would_cost_now() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    let path = format!("/v1/trips/{trip}/cancellation");
    let waiting = phone.get(&path).await.expect(200).body;
    assert_eq!((&waiting["allowed"], &waiting["phase"]), (&json!(true), &json!("matching")));
    assert_eq!(waiting["fee"]["amount_minor"], 0);
    assert!(waiting["free_for_in_ms"].is_null());

    let long_ago = world.nats.clock.now().micros() - 600_000_000;
    let state = v1::TripState {
        assigned_at_us: long_ago,
        ..world.state(phone.rider, v1::TripPhase::Assigned)
    };
    let kind = v1::trip_event::Kind::Assigned(v1::TripAssigned::default());
    world.trip_event(trip, 3, "trip.assigned", kind, state).await;
    common::testing::eventually("it costs the fee", async || {
        phone.get(&path).await.body["fee"]["amount_minor"] == 4_500
    })
    .await;
    world.completed(trip, phone.rider, 4, 13_850).await;
    common::testing::eventually("it is not allowed any more", async || {
        phone.get(&path).await.body["allowed"] == false
    })
    .await;
}
