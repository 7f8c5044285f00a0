//! Every ping that the stream has is counted exactly once, whatever is delivered how often, and the
//! index goes where the newest of them says.

use std::time::Duration;

use common::{
    contract::v1,
    ping::PingBatch,
    stream::{DLQ, LOCATION_PINGS, PINGS},
    testing::eventually,
};

use crate::fixture::{Town, driver, earlier, ping, place, sum};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn pings_of_many_drivers_are_counted_by_class() {
    let town = Town::start().await;
    let (a, b) = (driver(0, 0), driver(0, 1));
    let now = town.now();
    let first = town.batch(
        a,
        vec![ping(1, earlier(now, 4 * SECOND), place(0.0, 0.0)), ping(2, now, place(20.0, 0.0))],
    );
    let other = town.batch(b, vec![ping(1, now, place(500.0, 0.0))]);
    town.frame(&[first.clone(), other]).await;
    // The phone sends the whole batch again, with one more.
    let mut again = first;
    again.pings.push(ping(3, now, place(25.0, 0.0)));
    town.frame(&[again]).await;
    let counts = town.counted(6).await;
    assert_eq!((counts.fresh, counts.duplicate), (4, 2));
    assert_eq!(town.counts().await.drivers, 2);
    let seen = town.position(a).await;
    assert_eq!(seen.position, Some(place(25.0, 0.0).into()));
    assert_eq!(seen.heading_deg, 90);
    assert_eq!(
        seen.counts.unwrap(),
        v1::PingCounts { fresh: 3, duplicate: 2, ..Default::default() }
    );
}

#[tokio::test]
async fn a_frame_that_is_delivered_again_is_not_counted_again() {
    let town = Town::start().await;
    let a = driver(0, 0);
    for seq in 1..=5 {
        town.ping(a, seq, place(0.0, 0.0)).await;
    }
    town.counted(5).await;
    let stream = town.nats.admin.get_stream(PINGS).await.unwrap();
    stream.reset_consumer(&LOCATION_PINGS.durable(0), Some(1)).await.unwrap();
    eventually("all five came again", async || town.counts().await.redelivered_frames == 5).await;
    town.ping(a, 6, place(0.0, 0.0)).await;
    assert_eq!(town.counted(6).await.fresh, 6);
}

#[tokio::test]
async fn counts_go_on_after_a_stop_and_after_a_crash() {
    let mut town = Town::start().await;
    let (a, b) = (driver(0, 0), driver(1, 0));
    for seq in 1..=20 {
        town.ping(a, seq, place(0.0, 0.0)).await;
    }
    town.counted(20).await;
    town.stop().await;
    // Nobody reads these yet.
    for seq in 21..=30 {
        town.ping(a, seq, place(0.0, 0.0)).await;
    }
    town.begin().await;
    town.counted(30).await;
    for seq in 1..=10 {
        town.ping(b, seq, place(100.0, 0.0)).await;
    }
    town.counted(40).await;
    // What was read since the last checkpoint is acknowledged and nowhere stored but in the stream.
    town.crash().await;
    town.ping(b, 11, place(110.0, 0.0)).await;
    town.begin().await;
    assert_eq!(sum(&town.counted(41).await), 41);
    town.crash().await;
    town.begin().await;
    town.ping(b, 12, place(120.0, 0.0)).await;
    town.counted(42).await;
}

#[tokio::test]
async fn a_replica_that_takes_over_counts_on_from_what_the_other_counted() {
    let mut town = Town::start().await;
    let (a, b) = (driver(0, 0), driver(1, 0));
    town.ping(a, 1, place(0.0, 0.0)).await;
    town.counted(1).await;
    let first = town.begin_another().await;
    for seq in 2..=10 {
        town.ping(a, seq, place(0.0, 0.0)).await;
        town.ping(b, seq, place(50.0, 0.0)).await;
    }
    // Whichever is asked: the one that reads these, or the one that knows them by their count.
    town.counted(19).await;
    first.cancel();
    town.one_has_stopped().await;
    town.ping(a, 11, place(0.0, 0.0)).await;
    town.ping(b, 11, place(50.0, 0.0)).await;
    town.counted(21).await;
    // What was taken over is stored, too.
    town.stop().await;
    town.begin().await;
    town.counted(21).await;
}

#[tokio::test]
async fn counts_go_on_when_the_broker_was_killed() {
    let mut town = Town::start().await;
    let (a, b) = (driver(0, 0), driver(1, 0));
    for seq in 1..=10 {
        town.ping(a, seq, place(0.0, 0.0)).await;
    }
    town.counted(10).await;
    // What was not synced is gone with it, and its sequences are given to others.
    town.broker.restart().await.unwrap();
    town.broker_is_back().await;
    for seq in 1..=10 {
        town.ping(b, seq, place(100.0, 0.0)).await;
        town.ping(a, 10 + seq, place(10.0, 0.0)).await;
    }
    town.counted(30).await;
    // The counts are synced: they hold what nothing else does any more.
    town.stop().await;
    town.broker.restart().await.unwrap();
    town.begin().await;
    town.ping(a, 21, place(20.0, 0.0)).await;
    town.counted(31).await;
    assert_eq!(town.counts().await.malformed_frames, 0);
}

#[tokio::test]
async fn a_cold_start_knows_where_everybody_was_a_minute_ago() {
    let mut town = Town::start().await;
    let (a, b) = (driver(0, 0), driver(1, 0));
    town.idles(a).await;
    town.ping(a, 1, place(0.0, 0.0)).await;
    town.ping(b, 1, place(300.0, 0.0)).await;
    town.counted(2).await;
    town.crash().await;
    town.begin().await;
    // No waiting: it does not answer before it knows.
    assert_eq!(town.position(b).await.position, Some(place(300.0, 0.0).into()));
    assert_eq!(town.candidates().await, [a]);
    // And the phone that repeats itself over the restart is recognized.
    town.ping(a, 1, place(0.0, 0.0)).await;
    assert_eq!(town.counted(3).await.duplicate, 1);
}

#[tokio::test]
async fn what_a_phone_buffered_in_a_tunnel_is_for_the_trail_only() {
    let town = Town::start().await;
    let a = driver(0, 0);
    town.ping(a, 1, place(0.0, 0.0)).await;
    let now = town.now();
    let buffered = (0..20)
        .map(|n| {
            ping(
                2 + n,
                earlier(now, SECOND * (120 - 4 * u32::try_from(n).unwrap())),
                place(900.0, 0.0),
            )
        })
        .collect();
    town.frame(&[town.batch(a, buffered)]).await;
    assert_eq!(town.counted(21).await.late, 20);
    assert_eq!(town.position(a).await.position, Some(place(0.0, 0.0).into()));
}

#[tokio::test]
async fn phones_with_wrong_clocks_and_pings_from_the_future_are_heard() {
    let town = Town::start().await;
    let (hour_late, ahead) = (driver(0, 0), driver(0, 1));
    let now = town.now();
    let phone = earlier(now, 3600 * SECOND);
    let batch = town.batch(hour_late, vec![ping(1, phone, place(0.0, 0.0))]);
    town.frame(&[PingBatch { sent_at: phone, ..batch }]).await;
    town.frame(&[town.batch(ahead, vec![ping(1, now.plus(60 * SECOND), place(50.0, 0.0))])]).await;
    let counts = town.counted(2).await;
    assert_eq!((counts.fresh, counts.clamped), (1, 1));
    let offset_s = town.position(hour_late).await.clock_offset_us / 1_000_000;
    assert!((3599..=3601).contains(&offset_s), "{offset_s}");
    assert_eq!(town.position(hour_late).await.liveness(), v1::Liveness::Live);
    assert_eq!(town.position(ahead).await.position, Some(place(50.0, 0.0).into()));
}

#[tokio::test]
async fn a_car_that_jumps_stays_where_it_was() {
    let town = Town::start().await;
    let a = driver(0, 0);
    town.ping(a, 1, place(0.0, 0.0)).await;
    town.ping(a, 2, place(9000.0, 0.0)).await;
    assert_eq!(town.counted(2).await.implausible, 1);
    assert_eq!(town.position(a).await.position, Some(place(0.0, 0.0).into()));
}

#[tokio::test]
async fn pings_too_vague_for_the_index_are_counted_all_the_same() {
    let town = Town::start().await;
    let a = driver(0, 0);
    let vague =
        common::ping::Ping { accuracy_dm: Some(9000), ..ping(1, town.now(), place(0.0, 0.0)) };
    town.frame(&[town.batch(a, vec![vague])]).await;
    town.counted(1).await;
    let seen = town.position(a).await;
    assert!(!seen.known && seen.position.is_none());
    assert_eq!(seen.counts.unwrap().implausible, 1);
}

#[tokio::test]
async fn a_malformed_frame_is_kept_aside_and_the_lane_goes_on() {
    let town = Town::start().await;
    let a = driver(0, 0);
    let sequence = town.bytes(0, b"not a frame".to_vec()).await;
    // A frame in another driver's partition would have two owners of one driver.
    let stray = town.batch(driver(1, 0), vec![ping(1, town.now(), place(0.0, 0.0))]);
    town.bytes(0, common::ping::encode(&[stray])).await;
    town.ping(a, 1, place(0.0, 0.0)).await;
    assert_eq!(town.counted(1).await.fresh, 1);
    assert_eq!(town.counts().await.malformed_frames, 2);
    let dead = town.nats.admin.get_stream(DLQ).await.unwrap();
    let subject = common::subject::dead_letter(&LOCATION_PINGS.durable(0), PINGS, sequence);
    let copy = dead.direct_get_last_for_subject(subject).await.unwrap();
    assert_eq!(copy.payload.as_ref(), b"not a frame");
}
