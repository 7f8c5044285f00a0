//! A phone that follows its trip, and loses its connection.

use common::{contract::v1, geo::Point, testing::eventually};

use crate::world::{DRIVER, World};

#[tokio::test]
async fn a_feed_begins_with_a_snapshot_and_goes_on_with_each_event() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    let mut feed = phone.follow(trip, None).await;
    let snapshot = feed.next_named("snapshot").await;
    assert_eq!(snapshot.id, None);
    assert_eq!(snapshot.body["status"], "matching");

    let sequence = world.assigned(trip, phone.rider, 3).await;
    let event = feed.next_named("trip").await;
    assert_eq!(event.id, Some(sequence));
    assert_eq!(event.body["kind"], "trip.assigned");
    let seen = &event.body["trip"];
    assert_eq!(seen["status"], "assigned");
    assert_eq!(seen["sequence"], sequence);
    assert_eq!(seen["driver"]["driver_id"], DRIVER.to_string());
    assert!(seen["pickup_eta_in_ms"].as_u64().unwrap() > 200_000);
    assert!(seen["free_cancellation_ends_in_ms"].as_u64().unwrap() > 100_000);
}

#[tokio::test]
async fn a_phone_that_comes_back_gets_what_it_missed_in_order_and_nothing_twice() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    let first = world.assigned(trip, phone.rider, 3).await;
    let mut feed = phone.follow(trip, None).await;
    assert_eq!(feed.next_named("snapshot").await.id, Some(first));
    drop(feed);

    let mut missed = Vec::new();
    for version in 4..20 {
        missed.push(world.assigned(trip, phone.rider, version).await);
    }
    let mut feed = phone.follow(trip, Some(first)).await;
    missed.push(world.completed(trip, phone.rider, 20, 13_850).await);
    for sequence in missed {
        assert_eq!(feed.next_named("trip").await.id, Some(sequence));
    }
}

#[tokio::test]
async fn events_that_pour_in_while_a_feed_opens_all_arrive() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    let pour = async {
        let mut sequences = Vec::new();
        for version in 3..40 {
            sequences.push(world.assigned(trip, phone.rider, version).await);
        }
        sequences
    };
    let (sequences, mut feed) = tokio::join!(pour, phone.follow(trip, None));
    let mut seen = feed.next_named("snapshot").await.id.unwrap_or(0);
    for sequence in sequences.into_iter().filter(|sequence| *sequence > seen).collect::<Vec<_>>() {
        seen = feed.next_named("trip").await.id.unwrap();
        assert_eq!(seen, sequence);
    }
}

#[tokio::test]
async fn the_position_of_the_assigned_driver_is_on_the_feed_and_in_the_trip() {
    let world = World::new().await;
    *world.position.lock().unwrap() = v1::DriverPositionReply {
        known: true,
        position: Some(Point::new(57.71, 11.99).unwrap().into()),
        heard_at_us: world.nats.clock.now().micros(),
        liveness: v1::Liveness::Live.into(),
        heading_deg: 90,
        ..v1::DriverPositionReply::default()
    };
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    world.assigned(trip, phone.rider, 3).await;
    let mut feed = phone.follow(trip, None).await;
    let position = feed.next_named("position").await;
    assert_eq!(position.id, None);
    assert_eq!(position.body["lat"], 57.71);
    assert_eq!(position.body["heading"], 90);

    let location = eventually("the trip shows the driver", async || {
        let trip = phone.get(&format!("/v1/trips/{trip}")).await.expect(200).body;
        Some(trip["driver"]["location"].clone()).filter(|location| !location.is_null())
    })
    .await;
    assert_eq!(location["lng"], 11.99);
    assert_eq!(location["stale"], false);
}

#[tokio::test]
async fn a_stopping_service_ends_its_feeds() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    let mut feed = phone.follow(trip, None).await;
    feed.next_named("snapshot").await;
    running.stop().await;
    assert!(feed.next().await.is_none());
}

#[tokio::test]
async fn a_view_that_was_away_catches_up_at_its_start() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    running.stop().await;
    world.assigned(trip, phone.rider, 3).await;
    world.completed(trip, phone.rider, 4, 13_850).await;
    let running = world.start().await;
    let phone = phone.at(&running.base);
    eventually("the view knows the end", async || {
        phone.get(&format!("/v1/trips/{trip}")).await.body["status"] == "completed"
    })
    .await;
}
