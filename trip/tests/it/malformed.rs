//! Malformed messages on the bus: a copy on the dead-letter queue, and the lane goes on.

use common::{
    consumer::dead,
    stream::{self, ConsumerSpec},
    testing::eventually,
};
use trip::domain::Terms;
use uuid::Uuid;

use crate::{rides::Ride, world::World};

const STANDARD: Terms = Terms::STANDARD;

async fn dead_letter(world: &World, spec: ConsumerSpec, partition: u32, sequence: u64) -> String {
    let subject = format!("dlq.{}.{}.{sequence}", spec.durable(partition), spec.stream);
    eventually("a copy is on the dead-letter queue", async || {
        let letters = world.nats.admin.get_stream(stream::DLQ).await.unwrap();
        let copy = letters.direct_get_last_for_subject(&subject).await.ok()?;
        assert_eq!(copy.payload, "rubbish");
        assert_eq!(copy.headers.get(dead::ATTEMPTS).unwrap().as_str(), "1");
        Some(copy.headers.get(dead::ERROR).unwrap().to_string())
    })
    .await
}

#[tokio::test]
async fn a_malformed_rider_event_does_not_stop_the_next_one() {
    let (world, ride) = (World::serving(STANDARD).await, Ride::new());
    let subject = world.nats.partitions.rider_event(ride.rider);
    let sequence = world.publish_raw(subject, "rubbish").await;
    world.rider_requests(ride).await;
    let partition = world.nats.partitions.of(&ride.rider.to_string());
    let error = dead_letter(&world, stream::TRIP_REQUESTS, partition, sequence).await;
    assert!(error.contains("malformed"), "{error}");
    world.settled().await;
    assert_eq!(world.kinds(ride.trip).await, ["requested"]);
}

#[tokio::test]
async fn a_malformed_driver_event_does_not_stop_the_next_one() {
    let world = World::serving(STANDARD).await;
    let ride = world.offered(STANDARD).await;
    let subject = world.nats.partitions.driver_event(ride.driver);
    let sequence = world.publish_raw(subject, "rubbish").await;
    world.driver_accepts(ride).await;
    let partition = world.nats.partitions.of(&ride.driver.to_string());
    dead_letter(&world, stream::TRIP_DRIVERS, partition, sequence).await;
    world.settled().await;
    assert_eq!(world.kinds(ride.trip).await, ["requested", "offered", "assigned"]);
}

#[tokio::test]
async fn a_malformed_trip_event_or_timer_does_not_stop_the_next_one() {
    let world = World::serving(STANDARD).await;
    let ride = world.assigned(STANDARD).await;
    let partition = world.nats.partitions.of(&ride.trip.to_string());
    let stray = Uuid::from_u128(1);
    let event = world.publish_raw(format!("trip.event.{partition}.{stray}"), "rubbish").await;
    let due = world.publish_raw(format!("trip.due.{partition}.{stray}"), "rubbish").await;
    world.execute(ride.trip, &crate::rides::rider_cancels(ride)).await.unwrap();
    dead_letter(&world, stream::TRIP_PROCESS, partition, event).await;
    dead_letter(&world, stream::TRIP_PROCESS, partition, due).await;
    world.settled().await;
    assert!(world.sent_to(ride.driver).await.contains(&("release", ride.offer)));

    let console = world.console();
    let letters = console.get("/v1/ops/dlq").await.expect(200).body;
    assert_eq!(letters["items"].as_array().unwrap().len(), 2);
    assert_eq!(letters["items"][0]["stream"], "TRIP");
    let first = letters["items"][0]["sequence"].as_u64().unwrap();
    let whole = console.get(&format!("/v1/ops/dlq/{first}")).await.expect(200).body;
    assert_eq!(whole["payload_base64"], "cnViYmlzaA==");
    console.get("/v1/ops/dlq/999").await.expect_problem(404, "not_found");
    let page = console.get("/v1/ops/dlq?limit=1").await.expect(200).body;
    assert_eq!(page["next_cursor"], first);
    let rest = console.get(&format!("/v1/ops/dlq?cursor={first}")).await.expect(200).body;
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    let standing = console.get("/v1/ops/invariants").await.expect(200).body;
    assert_eq!(standing["broken"]["unreadable"], 1, "{standing}");
}
