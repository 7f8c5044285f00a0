//! Drivers of whom nothing is heard.

use common::{
    contract::v1,
    id::DriverId,
    stream::{DRIVER_CMD, LOCATION_PINGS, PINGS},
    testing::{deadline, eventually, eventually_within},
};
use location::{Config, SilenceConfig};
use prost::Message as _;
use time::OffsetDateTime;

use crate::fixture::{Town, driver, place};

/// Silence in a hurry.
fn hurried(config: &mut Config) {
    config.silence =
        SilenceConfig { live_ms: 1_000, stale_ms: 1_500, idle_silence_ms: 2_500, idle_least_ms: 0 };
}

/// What drivers were told, in order.
async fn told(town: &Town, driver: DriverId) -> Option<v1::MarkLost> {
    let stream = town.nats.admin.get_stream(DRIVER_CMD).await.unwrap();
    let subject = town.nats.partitions.driver_command(driver);
    let message = stream.direct_get_last_for_subject(subject).await.ok()?;
    let command = v1::DriverCommand::decode(message.payload).unwrap();
    assert_eq!(command.driver_id, driver.to_vec());
    match command.kind {
        Some(v1::driver_command::Kind::MarkLost(lost)) => Some(lost),
        other => panic!("{other:?}"),
    }
}

async fn commands(town: &Town) -> u64 {
    let stream = town.nats.admin.get_stream(DRIVER_CMD).await.unwrap();
    stream.cached_info().state.messages
}

#[tokio::test]
async fn a_silent_driver_is_told_lost_once_a_silence() {
    let town = Town::start_with(hurried).await;
    let (idle, offered, engaged, later) = (driver(0, 0), driver(0, 1), driver(0, 2), driver(1, 0));
    for who in [idle, offered, engaged] {
        town.ping(who, 1, place(0.0, 0.0)).await;
    }
    town.idles(idle).await;
    town.is_offered(offered).await;
    let trip = v1::engagement::Engaged::default();
    town.does(engaged, v1::engagement::Kind::Engaged(trip)).await;
    let lost = eventually("the offer ends", async || told(&town, offered).await).await;
    assert!(lost.silent_s >= 1 && lost.last_heard_us > 0 && !lost.ends_duty, "{lost:?}");
    let lost = eventually("idle duty ends", async || told(&town, idle).await).await;
    assert!(lost.silent_s >= 2 && lost.ends_duty, "{lost:?}");
    assert_eq!(town.position(idle).await.liveness(), v1::Liveness::Lost);
    assert_eq!(commands(&town).await, 2);
    // Another falls silent; by then the first have been looked at several times more.
    town.ping(later, 1, place(0.0, 0.0)).await;
    town.idles(later).await;
    eventually("the next one is lost", async || told(&town, later).await).await;
    assert_eq!(commands(&town).await, 3);
    assert!(told(&town, engaged).await.is_none(), "a trip goes on without a phone");
    // Heard again and silent again: another silence.
    town.ping(idle, 2, place(0.0, 0.0)).await;
    eventually("told of the second silence", async || commands(&town).await == 4).await;
}

#[tokio::test]
async fn a_driver_who_is_not_heard_is_no_candidate() {
    let town = Town::start_with(hurried).await;
    let a = driver(0, 0);
    town.idles(a).await;
    let mut seq = 0;
    eventually("it is one while it is heard", async || {
        seq += 1;
        town.ping(a, seq, place(0.0, 0.0)).await;
        town.candidates().await == [a]
    })
    .await;
    town.candidates_become(&[]).await;
}

#[tokio::test]
async fn a_driver_of_whom_nothing_was_ever_heard_goes_offline_too() {
    let town = Town::start_with(hurried).await;
    town.idles(driver(0, 0)).await;
    eventually("idle duty ends", async || told(&town, driver(0, 0)).await).await;
    assert_eq!(town.position(driver(0, 0)).await.liveness(), v1::Liveness::Unspecified);
}

#[tokio::test]
async fn a_reader_that_stalls_makes_nobody_silent() {
    let town = Town::start_with(hurried).await;
    let (unread, silent) = (driver(0, 0), driver(1, 0));
    for who in [unread, silent] {
        town.ping(who, 1, place(0.0, 0.0)).await;
        town.idles(who).await;
    }
    town.counted(2).await;
    let stream = town.nats.admin.get_stream(PINGS).await.unwrap();
    let consumer = LOCATION_PINGS.durable(0);
    town.ping(unread, 2, place(5.0, 0.0)).await;
    town.counted(3).await;
    let hour = OffsetDateTime::from_unix_timestamp(town.now().micros() / 1_000_000 + 3600).unwrap();
    stream.pause_consumer(&consumer, hour).await.unwrap();
    // The phone goes on; nobody reads it.
    town.ping(unread, 3, place(10.0, 0.0)).await;
    eventually("the silent one is lost", async || told(&town, silent).await).await;
    assert!(told(&town, unread).await.is_none(), "nobody knows whether that one is silent");
    assert_ne!(town.position(unread).await.liveness(), v1::Liveness::Lost);
    // And location says that it does not know all of the city.
    eventually("one partition of two is known", async || {
        let reply = town.candidates_reply(&[]).await;
        (reply.read.len(), reply.partitions) == (1, 2)
    })
    .await;
    town.ping(unread, 4, place(20.0, 0.0)).await;
    stream.resume_consumer(&consumer).await.unwrap();
    let read = async || town.position(unread).await.position == Some(place(20.0, 0.0).into());
    eventually_within(deadline::RECOVERY, "the reader catches up", read).await;
}
