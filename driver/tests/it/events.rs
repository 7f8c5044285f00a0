//! The event stream of a phone.

use common::{contract::v1::OfferStatus, id::CommandId};
use serde_json::json;

use crate::world::{World, offer, pair, release, trip_with};

#[tokio::test]
async fn a_phone_sees_every_step_as_it_is_stored() {
    let world = World::new().await;
    let (driver, phone) = world.online().await;
    let mut events = phone.follow().await;
    let snapshot = events.next().await.unwrap();
    assert_eq!((snapshot.name.as_str(), &snapshot.body["duty"]), ("snapshot", &json!("online")));
    assert_eq!(snapshot.id, Some(world.load(driver).await.sequence));

    let pair = pair();
    world.command(driver, CommandId::fresh(), offer(pair)).await;
    let offered = events.next().await.unwrap();
    assert_eq!((offered.name.as_str(), &offered.body["kind"]), ("state", &json!("driver.offered")));
    assert_eq!(offered.body["state"]["offer"]["offer_id"], json!(pair.offer));
    assert_eq!(offered.id, Some(world.load(driver).await.sequence));

    let assigned = trip_with(pair, driver, OfferStatus::Assigned);
    let accept = format!("/v1/driver/offers/{}/accept", pair.offer);
    let (_, accepted) = tokio::join!(phone.post(&accept, json!({})), async {
        let accepted = events.next().await.unwrap();
        world.trip_says(pair.trip, 3, "trip.assigned", assigned).await;
        accepted
    });
    assert_eq!(accepted.body["kind"], "driver.offer_accepted");
    assert_eq!(accepted.body["state"]["trip"]["status"], "confirming");
    let assigned = events.next().await.unwrap();
    assert_eq!((&assigned.body["kind"], assigned.id), (&json!("trip.assigned"), None));
    assert_eq!(assigned.body["state"]["trip"]["status"], "assigned");

    world.command(driver, CommandId::fresh(), release(pair)).await;
    let released = events.next().await.unwrap();
    assert_eq!(released.body["kind"], "driver.released");
    assert_eq!(released.body["state"]["engagement"], "idle");
}

#[tokio::test]
async fn a_phone_that_comes_back_finds_its_trip_in_the_snapshot() {
    let world = World::new().await;
    let (driver, phone, pair) = world.engaged().await;
    let assigned = trip_with(pair, driver, OfferStatus::Assigned);
    world.trip_says(pair.trip, 3, "trip.assigned", assigned).await;
    let snapshot = phone.follow().await.next().await.unwrap();
    assert_eq!(snapshot.body["trip"]["trip_id"], json!(pair.trip));
    assert_eq!(snapshot.body["trip"]["status"], "assigned");
}

#[tokio::test]
async fn another_drivers_events_are_not_seen() {
    let world = World::new().await;
    let (_, phone) = world.online().await;
    let (driver, other) = world.online().await;
    let mut events = phone.follow().await;
    events.next().await.unwrap();
    other.duty("offline").await.expect(200);
    world.load(driver).await;
    phone.duty("offline").await.expect(200);
    let event = events.next().await.unwrap();
    assert_eq!(
        event.body["state"]["driver_id"],
        phone.get("/v1/driver/state").await.body["driver_id"]
    );
}

#[tokio::test]
async fn a_stopping_service_ends_its_streams() {
    let world = World::new().await;
    let (_, phone) = world.online().await;
    let mut events = phone.follow().await;
    events.next().await.unwrap();
    world.stop().await;
    assert!(events.next().await.is_none());
}
