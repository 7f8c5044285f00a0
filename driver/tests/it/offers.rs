//! An offer from both sides: the phone answers, time runs out, the trip takes it back.

use std::time::Duration;

use axum::http::Method;
use common::{
    contract::v1::OfferStatus,
    event_store::Cause,
    id::{CommandId, OfferId},
};
use driver::domain::{Driver, DriverCommand, DriverEvent, OfferEnd};
use serde_json::json;

use crate::world::{World, offer, pair, release, terms, trip_with};

fn is_engaged(driver: &Driver) -> bool {
    driver.engaged().is_some()
}

fn has_no_offer(driver: &Driver) -> bool {
    driver.pair().is_none()
}

#[tokio::test]
async fn who_accepts_hears_yes_only_from_the_trip() {
    let world = World::new().await;
    let (driver, phone, pair) = world.offered().await;
    let accept = format!("/v1/driver/offers/{}/accept", pair.offer);
    let (answer, ()) = tokio::join!(phone.post(&accept, json!({})), async {
        // The trip reacts to what the driver's history says, not to the phone.
        world.eventually("accepted", driver, is_engaged).await;
        let assigned = trip_with(pair, driver, OfferStatus::Assigned);
        world.trip_says(pair.trip, 3, "trip.assigned", assigned).await;
    });
    let view = answer.expect(200).body;
    assert_eq!(view["engagement"], "engaged");
    assert_eq!(view["trip"]["status"], "assigned");
    assert_eq!(view["trip"]["pickup"], json!({ "lat": 57.7, "lng": 11.97 }));
}

#[tokio::test]
async fn who_accepts_what_the_trip_has_closed_hears_that_it_is_withdrawn() {
    let world = World::new().await;
    let (driver, phone, pair) = world.offered().await;
    let closed = trip_with(pair, driver, OfferStatus::Closed);
    world.trip_says(pair.trip, 3, "trip.offer_closed", closed).await;
    let accept = format!("/v1/driver/offers/{}/accept", pair.offer);
    phone.post(&accept, json!({})).await.expect_problem(409, "offer_withdrawn");
    // The driver's own history says accepted; the trip answers that with a release.
    world.eventually("accepted", driver, is_engaged).await;
}

#[tokio::test]
async fn without_a_word_from_the_trip_the_phone_sees_confirming_and_no_address() {
    let world = World::new().await;
    let (driver, phone, pair) = world.offered().await;
    let open = trip_with(pair, driver, OfferStatus::Open);
    world.trip_says(pair.trip, 2, "trip.offered", open).await;
    let accept = format!("/v1/driver/offers/{}/accept", pair.offer);
    let answer = phone.post(&accept, json!({})).await.expect(202);
    assert_eq!(answer.body, json!({ "status": "confirming", "trip_id": pair.trip }));
    let trip = &phone.get("/v1/driver/state").await.expect(200).body["trip"];
    assert_eq!(trip["status"], "confirming");
    assert!(trip["pickup"].is_null() && trip["dropoff"].is_null());
    assert_eq!(trip["fare"], json!({ "amount_minor": 12_300, "currency": "SEK" }));
}

#[tokio::test]
async fn the_same_acceptance_twice_is_one_event_and_one_answer() {
    let world = World::new().await;
    let (driver, phone, pair) = world.offered().await;
    let assigned = trip_with(pair, driver, OfferStatus::Assigned);
    world.trip_says(pair.trip, 3, "trip.assigned", assigned).await;
    let accept = format!("/v1/driver/offers/{}/accept", pair.offer);
    for key in [Some("tap"), Some("tap"), None] {
        phone.json(Method::POST, &accept, key, json!({})).await.expect(200);
    }
    assert_eq!(world.load(driver).await.version, 3);
}

#[tokio::test]
async fn a_declined_offer_leaves_the_driver_free_and_tells_the_trip() {
    let world = World::new().await;
    let (driver, phone, pair) = world.offered().await;
    let decline = format!("/v1/driver/offers/{}/decline", pair.offer);
    for _ in 0..2 {
        let view = phone.post(&decline, json!({ "reason": "too_far" })).await.expect(200).body;
        assert_eq!((&view["engagement"], &view["offer"]), (&json!("idle"), &json!(null)));
    }
    let last = world.load(driver).await.last.unwrap();
    assert_eq!(last.ended_offer(), Some((pair, OfferEnd::Declined)));
    let accept = format!("/v1/driver/offers/{}/accept", pair.offer);
    phone.post(&accept, json!({})).await.expect_problem(409, "offer_withdrawn");
}

#[tokio::test]
async fn an_offer_can_be_declined_without_a_body() {
    let world = World::new().await;
    let (_, phone, pair) = world.offered().await;
    let decline = format!("/v1/driver/offers/{}/decline", pair.offer);
    let bearer = phone.bearer();
    phone.send(Method::POST, &decline, &[("authorization", &bearer)], "").await.expect(200);
}

#[tokio::test]
async fn an_unanswered_offer_lapses_by_its_timer_and_accepting_it_is_too_late() {
    let world = World::new().await;
    let (driver, phone) = world.online().await;
    let pair = pair();
    // Offered by a process whose clock is behind: the timer is due as soon as it is stored.
    let behind = world.drivers_in_the_past(Duration::from_secs(20)).await;
    let command = DriverCommand::Offer { pair, terms: terms() };
    behind.execute(driver, CommandId::fresh(), &Cause::default(), &command).await.unwrap();
    let lapsed = world.eventually("lapsed", driver, has_no_offer).await;
    assert_eq!(lapsed.last, Some(DriverEvent::OfferLapsed { pair }));
    assert!(lapsed.timers.is_empty());
    let accept = format!("/v1/driver/offers/{}/accept", pair.offer);
    phone.post(&accept, json!({})).await.expect_problem(410, "offer_lapsed");
}

#[tokio::test]
async fn an_offer_that_was_never_made_is_not_found() {
    let world = World::new().await;
    let (_, phone) = world.online().await;
    for answer in ["accept", "decline"] {
        let path = format!("/v1/driver/offers/{}/{answer}", OfferId::fresh());
        phone.post(&path, json!({})).await.expect_problem(404, "offer_not_found");
    }
}

#[tokio::test]
async fn a_release_that_overtakes_its_offer_makes_the_offer_come_too_late() {
    let world = World::new().await;
    let (driver, _) = world.online().await;
    let (early, next) = (pair(), pair());
    world.command(driver, CommandId::fresh(), release(early)).await;
    world.command(driver, CommandId::fresh(), offer(early)).await;
    world.command(driver, CommandId::fresh(), offer(next)).await;
    let offered = world.eventually("the next offer", driver, |it| it.offered().is_some()).await;
    assert_eq!(offered.state.pair(), Some(next));
    let has_early =
        |event: &DriverEvent| matches!(event, DriverEvent::Offered { pair, .. } if *pair == early);
    assert!(!world.history(driver).await.iter().any(has_early));
}

#[tokio::test]
async fn going_offline_with_an_offer_in_hand_ends_both_at_once() {
    let world = World::new().await;
    let (driver, phone, pair) = world.offered().await;
    let view = phone.duty("offline").await.expect(200).body;
    assert_eq!((&view["duty"], &view["offer"]), (&json!("offline"), &json!(null)));
    let loaded = world.load(driver).await;
    assert_eq!(loaded.version, 3);
    assert_eq!(loaded.last.unwrap().ended_offer(), Some((pair, OfferEnd::Offline)));
    assert!(loaded.timers.is_empty());
}

#[tokio::test]
async fn nobody_goes_offline_on_a_trip_but_may_finish() {
    let world = World::new().await;
    let (driver, phone, pair) = world.engaged().await;
    phone.duty("offline").await.expect_problem(409, "on_trip");
    assert_eq!(phone.duty("finishing").await.expect(200).body["duty"], "finishing");
    world.command(driver, CommandId::fresh(), release(pair)).await;
    world.eventually("offline", driver, has_no_offer).await;
    assert_eq!(phone.get("/v1/driver/state").await.expect(200).body["duty"], "offline");
}

#[tokio::test]
async fn a_silent_phone_loses_its_offer() {
    let world = World::new().await;
    let (driver, _, pair) = world.offered().await;
    let lost = common::contract::v1::MarkLost { silent_s: 61, last_heard_us: 1, ends_duty: false };
    let kind = common::contract::v1::driver_command::Kind::MarkLost(lost);
    world.command(driver, CommandId::fresh(), kind).await;
    let loaded = world.eventually("lost", driver, has_no_offer).await;
    assert_eq!(loaded.last, Some(DriverEvent::Lost { pair, silent_s: 61 }));
}

#[tokio::test]
async fn a_declined_offers_timer_does_not_end_the_next_offer() {
    let world = World::new().await;
    let (driver, _, first) = world.offered().await;
    let timer = world.load(driver).await.timers[0].clone();
    world
        .execute(driver, DriverCommand::Decline { offer: first.offer, reason: String::new() })
        .await;
    let second = pair();
    world.execute(driver, DriverCommand::Offer { pair: second, terms: terms() }).await;
    // It fires all the same: a purge can come too late.
    let cause = Cause::default();
    let timer = common::id::EventId::try_from(timer.id.as_slice()).unwrap();
    assert!(world.drivers.fire(driver, timer, &cause).await.unwrap().is_none());
    assert_eq!(world.load(driver).await.state.pair(), Some(second));
}
