//! Old events leave the log; what a driver is now never does.

use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use common::{consumer, id::DriverId, stream, testing::eventually};
use driver::{domain::DriverCommand, trim};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::world::World;

async fn events(log: &Stream, world: &World, driver: DriverId) -> usize {
    let (subject, mut from, mut count) = (world.nats.partitions.driver_event(driver), 1, 0);
    while let Ok(event) = log.direct_get_next_for_subject(&subject, Some(from)).await {
        (from, count) = (event.sequence + 1, count + 1);
    }
    count
}

#[tokio::test]
async fn of_a_driver_the_last_event_stays_and_all_goes_on_from_it() {
    let world = World::new().await;
    let log = world.nats.admin.get_stream(stream::DRIVER).await.unwrap();
    let (busy, phone, pair) = world.engaged().await;
    let (quiet, _) = world.online().await;
    let before = world.load(busy).await;
    // Trips have still to hear of the acceptance.
    assert_eq!(trim(&world.nats, Duration::ZERO).await.unwrap(), 0);
    assert_eq!(events(&log, &world, busy).await, 3);

    let (nats, stop, mut reading) = (world.nats.clone(), CancellationToken::new(), JoinSet::new());
    reading.spawn(async move {
        consumer::run(&nats, stream::TRIP_DRIVERS, stop, |_, _| async { Ok(()) }).await
    });
    // What is not old stays, whoever has read it.
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    assert_eq!(trim(&world.nats, DAY).await.unwrap(), 0);
    let mut removed = 0;
    eventually("the old ones leave the log", async || {
        removed += trim(&world.nats, Duration::ZERO).await.unwrap();
        events(&log, &world, busy).await == 1
    })
    .await;
    assert_eq!(removed, 2);
    assert_eq!(events(&log, &world, quiet).await, 1);
    let after = world.load(busy).await;
    assert_eq!((after.version, after.sequence), (before.version, before.sequence));
    assert_eq!(after.state, before.state);
    assert_eq!(phone.get("/v1/driver/state").await.expect(200).status, 200);

    world.execute(busy, DriverCommand::Release { pair, why: "cancelled".into() }).await;
    assert_eq!(world.load(busy).await.version, before.version + 1);
}
