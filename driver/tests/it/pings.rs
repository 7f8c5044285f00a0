//! Positions: stored before they are answered, gathered, refused when there is no room.

use std::sync::Arc;

use common::{
    clock::Timestamp,
    geo::Point,
    id::{DriverId, SessionId},
    ping::{self, BATCH_PINGS_MAX, BatchHead, Ping, PingBatch},
    stream,
    testing::eventually,
};
use driver::{GatherConfig, Gatherer, NotStored};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::world::World;

const AT: &str = "2026-01-01T00:00:00Z";

fn batch(session: SessionId, points: &Value) -> Value {
    json!({ "session_id": session, "sent_at": AT, "points": points })
}

/// Every batch in the stream, with the number of messages that carried them.
async fn stored(world: &World) -> (Vec<PingBatch>, u64) {
    let mut stream = world.nats.jetstream.get_stream(stream::PINGS).await.unwrap();
    let last = stream.info().await.unwrap().state.last_sequence;
    let mut batches = Vec::new();
    for sequence in 1..=last {
        let message = stream.direct_get(sequence).await.unwrap();
        batches.extend(ping::decode(&message.payload).unwrap());
    }
    (batches, last)
}

#[tokio::test]
async fn what_is_answered_with_202_is_in_the_stream() {
    let world = World::new().await;
    let driver = DriverId::fresh();
    let session = SessionId::fresh();
    let points = json!([
        { "seq": 1, "ts": AT, "lat": 57.7, "lng": 11.97, "acc": 5, "spd": 12.5, "hdg": 90 },
        { "seq": 2, "ts": AT, "lat": 57.8, "lng": 11.98 },
        { "seq": 3, "ts": AT, "lat": 97.8, "lng": 11.98 },
    ]);
    let answer = world.phone(driver).post("/v1/driver/locations", batch(session, &points)).await;
    let answer = answer.expect(202).body;
    assert_eq!(answer["accepted"], 2);
    assert_eq!(answer["rejected"], json!([{ "seq": 3, "code": "position_out_of_range" }]));
    assert_eq!(answer["next_interval_ms"], 5_000);
    let (batches, _) = stored(&world).await;
    let [PingBatch { pings, .. }] = batches.as_slice() else { panic!("{batches:?}") };
    assert_eq!((batches[0].driver, batches[0].session), (driver, session));
    assert_eq!(batches[0].sent_at, AT.parse().unwrap());
    let expected = Ping {
        seq: 1,
        at: AT.parse().unwrap(),
        position: Point::new(57.7, 11.97).unwrap(),
        accuracy_dm: Some(50),
        speed_cm_s: Some(1250),
        heading_deg: Some(90),
    };
    assert_eq!(pings[0], expected);
    assert_eq!((pings[1].seq, pings[1].accuracy_dm), (2, None));
}

#[tokio::test]
async fn pings_are_not_accepted_while_the_broker_is_away_and_are_when_it_is_back() {
    let mut world = World::new().await;
    let phone = world.phone(DriverId::fresh());
    let points = json!([{ "seq": 1, "ts": AT, "lat": 57.7, "lng": 11.97 }]);
    let body = batch(SessionId::fresh(), &points);
    world.broker.kill().await.unwrap();
    let refused = phone.post("/v1/driver/locations", body.clone()).await;
    let refused = refused.expect_problem(503, "unavailable");
    assert!(refused.headers.contains_key("retry-after"));
    world.broker.restart().await.unwrap();
    eventually("pings are accepted again", async || {
        phone.post("/v1/driver/locations", body.clone()).await.status == 202
    })
    .await;
}

fn head() -> BatchHead {
    BatchHead {
        driver: DriverId::fresh(),
        session: SessionId::fresh(),
        sent_at: Timestamp::from_micros(1),
        received_at: Timestamp::from_micros(2),
    }
}

fn pings() -> Vec<Ping> {
    let ping = |seq| Ping {
        seq,
        at: Timestamp::from_micros(3),
        position: Point::new(57.7, 11.97).unwrap(),
        accuracy_dm: None,
        speed_cm_s: None,
        heading_deg: None,
    };
    (0..u64::try_from(BATCH_PINGS_MAX).unwrap()).map(ping).collect()
}

#[tokio::test]
async fn a_full_queue_refuses_and_what_it_holds_leaves_in_one_frame() {
    let world = World::new().await;
    // Nothing leaves yet: nobody runs this gatherer.
    let gatherer = Arc::new(Gatherer::new(&world.nats, GatherConfig::default()));
    let (head, pings) = (head(), pings());
    let mut waiting: FuturesUnordered<_> =
        (0..41).map(|_| gatherer.store(0, &head, &pings)).collect();
    // The 41st hundred has no room, and says so at once; the others wait.
    assert_eq!(waiting.next().await, Some(Err(NotStored::Overloaded)));
    assert_eq!(waiting.len(), 40);
    assert_eq!(gatherer.accepted(), 0);
    let shutdown = CancellationToken::new();
    let mut running = JoinSet::new();
    running.spawn(Arc::clone(&gatherer).run(shutdown.clone()));
    while let Some(fate) = waiting.next().await {
        assert_eq!(fate, Ok(()));
    }
    assert_eq!(gatherer.accepted(), 4_000);
    let (batches, frames) = stored(&world).await;
    assert_eq!((batches.len(), frames), (40, 1));
    shutdown.cancel();
    running.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_gatherer_that_stops_first_sends_what_it_holds() {
    let world = World::new().await;
    let config = GatherConfig { ping_linger_ms: 3_600_000, ..GatherConfig::default() };
    let gatherer = Arc::new(Gatherer::new(&world.nats, config));
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let (head, pings) = (head(), pings());
    let mut store = std::pin::pin!(gatherer.store(1, &head, &pings));
    assert!(futures_util::poll!(&mut store).is_pending());
    Arc::clone(&gatherer).run(shutdown).await.unwrap();
    assert_eq!(store.await, Ok(()));
}
