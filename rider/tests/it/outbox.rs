//! From the outbox to the broker: in order, once, whatever crashes in between.

use std::time::Duration;

use common::{
    clock::Timestamp,
    contract::v1,
    envelope::Envelope,
    event_store::Cause,
    id::{EventId, RiderId},
    stream,
    testing::{deadline, eventually, eventually_within},
};
use prost::Message as _;
use rider::{
    Config,
    fare::FARE_TTL,
    leases::Leases,
    publisher::{NotYet, Publisher},
    relay::{Bell, Relay},
    store::{
        Store, StoreError, Tx,
        outbox::{self, NewEvent},
    },
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{idempotency::fare, world::World};

/// For thousands of events, each synced by a broker that shares its machine with other tests.
const LONG: Duration = Duration::from_secs(120);

pub(crate) fn event(key: RiderId, number: u128, world: &World) -> NewEvent {
    event_at(key, number, world.nats.clock.now())
}

fn event_at(key: RiderId, number: u128, at: Timestamp) -> NewEvent {
    NewEvent {
        key,
        event: EventId(Uuid::from_u128(number)),
        kind: "rider.ride_requested",
        correlation: Uuid::from_u128(number),
        cause: Cause::default(),
        payload: v1::RiderEvent::default().encode_to_vec(),
        at,
    }
}

pub(crate) async fn push(store: &Store, event: NewEvent) {
    store.write::<_, StoreError, _>(move |tx| outbox::push(tx, &event)).await.unwrap();
}

async fn waiting(store: &Store) -> u64 {
    store.read::<_, StoreError, _>(outbox::count_waiting).await.unwrap()
}

fn relay(world: &World, store: &Store) -> (JoinSet<anyhow::Result<()>>, CancellationToken) {
    let (mut running, shutdown) = (JoinSet::new(), CancellationToken::new());
    let relay = Relay::new(&world.nats, store.clone(), Bell::default(), Leases::new(store));
    running.spawn(relay.run(shutdown.clone()));
    (running, shutdown)
}

pub(crate) async fn all_carried(store: &Store) {
    let empty = async || waiting(store).await == 0;
    eventually_within(deadline::RECOVERY, "the outbox is empty", empty).await;
}

pub(crate) async fn numbers(world: &World, key: RiderId) -> Vec<u128> {
    let events = world.rider_events().await;
    let of_key = events.iter().filter(|(envelope, _)| envelope.subject == key.0);
    of_key.map(|(envelope, _)| envelope.id.0.as_u128()).collect()
}

/// As the relay would have published it, had it not died before it could write that down.
async fn publish(world: &World, event: &NewEvent, expected: u64) {
    let envelope = Envelope {
        id: event.event,
        kind: event.kind.into(),
        source: "rider".into(),
        time: event.at,
        subject: event.key.0,
        correlation: Some(event.correlation),
        causation: None,
        hlc: world.nats.clock.tick(),
        traceparent: None,
    };
    let message = async_nats::jetstream::message::PublishMessage::build()
        .payload(event.payload.clone().into())
        .headers(envelope.to_headers("rider.proto#RiderEvent"))
        .expected_last_subject_sequence(expected);
    let subject = world.nats.partitions.rider_event(event.key);
    world.nats.jetstream.send_publish(subject, message).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn a_ride_is_asked_for_once_with_all_that_the_trip_needs() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    eventually("the ride is asked for", async || world.rider_events().await.len() == 1).await;
    let (envelope, event) = world.rider_events().await.remove(0);
    assert_eq!(envelope.kind, "rider.ride_requested");
    assert_eq!(envelope.subject, phone.rider.0);
    assert_eq!(envelope.correlation, Some(trip.0));
    assert!(envelope.traceparent.unwrap().starts_with("00-"));
    let Some(v1::rider_event::Kind::RideRequested(requested)) = event.kind else {
        panic!("{event:?}")
    };
    assert_eq!(requested.trip_id, trip.to_vec());
    assert_eq!(requested.rider_id, phone.rider.to_vec());
    assert_eq!(requested.pin.len(), 4);
    let quote = requested.quote.unwrap();
    assert_eq!(quote.fare.unwrap().amount_minor, 13_850);
    assert_eq!(quote.cancellation_fee.unwrap().amount_minor, 4_500);
    assert_eq!((requested.pickup.unwrap().lat_e7, quote.surge_percent), (577_000_000, 100));
}

#[tokio::test]
async fn rides_are_accepted_while_the_broker_is_down_and_asked_for_once_when_it_is_back() {
    let mut world = World::new().await;
    let running = world.start().await;
    let mut phones = Vec::new();
    for _ in 0..10 {
        let phone = world.phone(&running);
        let fare_id = phone.quote().await;
        phones.push((phone, fare_id));
    }
    world.broker.kill().await.unwrap();
    for (phone, fare_id) in &phones {
        phone.request(fare_id, "k").await.expect(201);
        phone.request(fare_id, "k").await.expect(201);
    }
    world.broker.restart().await.unwrap();
    let all_asked = async || world.rider_events().await.len() == phones.len();
    eventually_within(deadline::RECOVERY, "all rides are asked for", all_asked).await;
    running.stop().await;
    let store = world.store().await;
    assert_eq!(waiting(&store).await, 0);
    let mut riders: Vec<_> =
        world.rider_events().await.iter().map(|(envelope, _)| envelope.subject).collect();
    riders.sort_unstable();
    riders.dedup();
    assert_eq!(riders.len(), phones.len());
}

#[tokio::test]
async fn a_service_that_starts_without_the_broker_accepts_rides_and_asks_for_them_later() {
    let mut world = World::new().await;
    world.broker.kill().await.unwrap();
    let running = world.start().await;
    let phone = world.phone(&running);
    let fare_id = fare(&phone, world.nats.clock.now().plus(FARE_TTL));
    phone.request(&fare_id, "k").await.expect(201);
    world.broker.restart().await.unwrap();
    let is_asked = async || world.rider_events().await.len() == 1;
    eventually_within(deadline::RECOVERY, "the ride is asked for", is_asked).await;
}

#[tokio::test]
async fn a_riders_events_keep_their_order_while_the_broker_comes_and_goes() {
    let mut world = World::new().await;
    let store = world.store().await;
    let keys: Vec<_> = (0..5).map(|_| RiderId::fresh()).collect();
    let (_running, shutdown) = relay(&world, &store);
    for round in 0..6_u128 {
        for (rider, key) in (0_u128..).zip(&keys) {
            push(&store, event(*key, round * 100 + rider + 1, &world)).await;
        }
        if round == 2 {
            world.broker.restart().await.unwrap();
        }
    }
    all_carried(&store).await;
    for (rider, key) in (0_u128..).zip(&keys) {
        let expected: Vec<_> = (0..6).map(|round| round * 100 + rider + 1).collect();
        assert_eq!(numbers(&world, *key).await, expected);
    }
    shutdown.cancel();
}

#[tokio::test]
async fn an_event_that_was_published_but_not_recorded_is_found_and_not_published_again() {
    let world = World::new().await;
    let store = world.store().await;
    let key = RiderId::fresh();
    let first = event(key, 1, &world);
    push(&store, first.clone()).await;
    push(&store, event(key, 2, &world)).await;
    publish(&world, &first, 0).await;
    let (_running, shutdown) = relay(&world, &store);
    all_carried(&store).await;
    assert_eq!(numbers(&world, key).await, [1, 2]);
    shutdown.cancel();
}

#[tokio::test]
async fn an_event_that_was_recorded_is_left_alone_after_a_restart() {
    let world = World::new().await;
    let store = world.store().await;
    let key = RiderId::fresh();
    push(&store, event(key, 1, &world)).await;
    let (mut running, shutdown) = relay(&world, &store);
    all_carried(&store).await;
    shutdown.cancel();
    running.join_next().await.unwrap().unwrap().unwrap();
    push(&store, event(key, 2, &world)).await;
    let (_running, shutdown) = relay(&world, &store);
    all_carried(&store).await;
    assert_eq!(numbers(&world, key).await, [1, 2]);
    shutdown.cancel();
}

#[tokio::test]
async fn a_store_that_lost_its_published_rows_finds_its_place_by_asking_the_broker() {
    let world = World::new().await;
    let store = world.store().await;
    let key = RiderId::fresh();
    publish(&world, &event(key, 1, &world), 0).await;
    push(&store, event(key, 2, &world)).await;
    let (_running, shutdown) = relay(&world, &store);
    all_carried(&store).await;
    assert_eq!(numbers(&world, key).await, [1, 2]);
    shutdown.cancel();
}

#[tokio::test]
async fn a_broker_that_is_away_for_long_gets_all_that_piled_up_once_and_in_order() {
    let mut world = World::new().await;
    let running = world.start().await;
    let phones: Vec<_> = (0..100)
        .map(|_| {
            let phone = world.phone(&running);
            let fare_id = fare(&phone, world.nats.clock.now().plus(FARE_TTL));
            (phone, fare_id)
        })
        .collect();
    world.broker.kill().await.unwrap();
    // What a hundred riders asked for before, a ride each for 49 of their days.
    let store = world.store().await;
    let keys: Vec<_> = phones.iter().map(|(phone, _)| phone.rider).collect();
    for day in 0..49_u128 {
        let (events, at) = (keys.clone(), world.nats.clock.now());
        let events: Vec<_> = (0_u128..)
            .zip(events)
            .map(|(rider, key)| event_at(key, day * 1_000 + rider + 1, at))
            .collect();
        let push = move |tx: &Tx<'_>| events.iter().try_for_each(|event| outbox::push(tx, event));
        store.write::<_, StoreError, _>(push).await.unwrap();
    }
    for (phone, fare_id) in &phones {
        phone.request(fare_id, "k").await.expect(201);
    }
    assert_eq!(waiting(&store).await, 5_000);
    world.broker.restart().await.unwrap();
    let empty = async || waiting(&store).await == 0;
    eventually_within(LONG, "the outbox is empty", empty).await;
    running.stop().await;
    let events = world.rider_events().await;
    assert_eq!(events.len(), 5_000);
    for (rider, key) in (0_u128..).zip(&keys) {
        let of_key: Vec<_> =
            events.iter().filter(|(envelope, _)| envelope.subject == key.0).collect();
        let numbers = of_key.iter().map(|(envelope, _)| envelope.id.0.as_u128()).take(49);
        assert!(numbers.eq((0..49).map(|day| day * 1_000 + rider + 1)));
        assert_eq!(of_key.len(), 50);
    }
}

#[tokio::test]
async fn past_a_limit_new_rides_are_sent_away_until_the_outbox_is_shorter() {
    let mut world = World::new().await;
    let running = world.start_with(Config { outbox_max: 5, ..world.config() }).await;
    let mut accepted = Vec::new();
    world.broker.kill().await.unwrap();
    let refused = eventually("rides are sent away", async || {
        let phone = world.phone(&running);
        let fare_id = fare(&phone, world.nats.clock.now().plus(FARE_TTL));
        let answer = phone.request(&fare_id, "k").await;
        if answer.status == 201 {
            accepted.push((phone, fare_id));
            return None;
        }
        Some(answer)
    })
    .await
    .expect(503);
    assert_eq!((refused.code(), &refused.body["retryable"]), ("overloaded", &true.into()));
    assert!(refused.headers.contains_key("retry-after"));
    assert!(accepted.len() >= 5);
    // Who has an answer keeps it.
    let (phone, fare_id) = &accepted[0];
    let again = phone.request(fare_id, "k").await.expect(201);
    assert_eq!(again.headers["idempotent-replayed"], "true");
    world.broker.restart().await.unwrap();
    let phone = world.phone(&running);
    let fare_id = fare(&phone, world.nats.clock.now().plus(FARE_TTL));
    let is_accepted = async || phone.request(&fare_id, "k").await.status == 201;
    eventually_within(deadline::RECOVERY, "rides are accepted again", is_accepted).await;
}

#[tokio::test]
async fn a_relay_that_is_killed_again_and_again_publishes_each_event_once_and_in_order() {
    let world = World::new().await;
    let store = world.store().await;
    let keys: Vec<_> = (0..10).map(|_| RiderId::fresh()).collect();
    for round in 0..20_u128 {
        for (rider, key) in (0_u128..).zip(&keys) {
            push(&store, event(*key, round * 100 + rider + 1, &world)).await;
        }
    }
    let stream = || world.nats.admin.get_stream(stream::RIDER);
    for killed in 1..=15 {
        let (running, _shutdown) = relay(&world, &store);
        // In the middle of it: some are published, of which some are recorded.
        eventually("some more are out", async || {
            stream().await.unwrap().cached_info().state.messages >= killed * 10
        })
        .await;
        drop(running);
    }
    let (_running, shutdown) = relay(&world, &store);
    all_carried(&store).await;
    for (rider, key) in (0_u128..).zip(&keys) {
        let expected: Vec<_> = (0..20).map(|round| round * 100 + rider + 1).collect();
        assert_eq!(numbers(&world, *key).await, expected);
    }
    shutdown.cancel();
}

#[tokio::test]
async fn a_relay_that_was_paused_while_another_took_over_publishes_nothing_again() {
    let world = World::new().await;
    let store = world.store().await;
    let key = RiderId::fresh();
    push(&store, event(key, 1, &world)).await;
    push(&store, event(key, 2, &world)).await;
    let zombie = Publisher::new(&world.nats, store.clone());
    let heads = store.read::<_, StoreError, _>(|tx| outbox::heads(tx, 10)).await.unwrap();
    let (_running, shutdown) = relay(&world, &store);
    all_carried(&store).await;
    // It still believes that the first event is its to carry, and behind what.
    let refused = zombie.attempt(&heads[0], Some(heads[0].after)).await;
    assert!(matches!(refused, Err(NotYet::Unknown(_))), "{refused:?}");
    assert_eq!(zombie.attempt(&heads[0], None).await.unwrap(), None);
    assert_eq!(numbers(&world, key).await, [1, 2]);
    shutdown.cancel();
}

#[tokio::test]
async fn a_second_process_does_not_carry_the_same_outbox() {
    let world = World::new().await;
    let first = world.start().await;
    let refused = world.start().await.fails().await;
    assert!(refused.to_string().contains("another process"), "{refused:#}");
    world.phone(&first).ride("k").await;
    first.stop().await;
    // Its place is free again.
    world.start().await.stop().await;
}
