//! One intention, one ride: whatever is sent twice.

use common::{clock::Timestamp, geo::Point, testing::eventually};
use futures_util::future::join_all;
use rider::{
    domain::{
        tariff::{TARIFF_DEFAULT, Tariff},
        trip::Quote,
    },
    fare::{FARE_TTL, Fare, FareSigner},
    publisher::Publisher,
    store::{StoreError, outbox},
};
use uuid::Uuid;

use crate::{
    phone::{Phone, trip_of},
    world::{SECRET, World},
};

#[tokio::test]
async fn the_same_request_again_gets_the_same_answer_even_after_a_restart() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let fare_id = phone.quote().await;
    let first = phone.request(&fare_id, "k").await.expect(201);
    assert_eq!(first.headers["location"], format!("/v1/trips/{}", trip_of(&first)).as_str());
    assert!(!first.headers.contains_key("idempotent-replayed"));
    assert_eq!(first.body["status"], "matching");
    assert_eq!(first.body["version"], 0);

    let second = phone.request(&fare_id, "k").await.expect(201);
    assert_eq!(second.body, first.body);
    assert_eq!(second.headers["idempotent-replayed"], "true");
    assert_eq!(second.headers["location"], first.headers["location"]);

    running.stop().await;
    let running = world.start().await;
    let phone = phone.at(&running.base);
    let third = phone.request(&fare_id, "k").await.expect(201);
    assert_eq!(third.body, first.body);
    assert_eq!(third.headers["idempotent-replayed"], "true");
    eventually("the ride is asked for", async || world.rider_events().await.len() == 1).await;
}

#[tokio::test]
async fn the_same_key_for_another_fare_is_refused() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    phone.ride("k").await;
    let other = phone.quote().await;
    assert_eq!(phone.request(&other, "k").await.expect(422).code(), "idempotency_key_reused");
}

#[tokio::test]
async fn twenty_taps_at_once_ask_for_one_ride() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let fare_id = phone.quote().await;
    let taps = (0..20).map(|_| phone.request(&fare_id, "k"));
    let answers = join_all(taps).await;
    let first = trip_of(&answers[0]);
    for answer in answers {
        assert_eq!(trip_of(&answer.expect(201)), first);
    }
    let trips = phone.get("/v1/trips").await.expect(200);
    assert_eq!(trips.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_rider_on_a_trip_is_not_given_another_until_it_ends() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    let fare_id = phone.quote().await;
    let refused = phone.request(&fare_id, "l").await.expect(409);
    assert_eq!(refused.code(), "trip_in_progress");
    assert_eq!(refused.body["trip_id"], trip.to_string());
    // Not even the view needs to know: the log is asked before anybody is sent away.
    world.cancelled(trip, phone.rider, 2, 0).await;
    phone.request(&fare_id, "l").await.expect(201);
}

/// All three layers: the key of the request, the compare-and-set of the append, the ledger's row.
#[tokio::test]
async fn everything_three_times_and_a_relay_that_died_make_one_trip_one_charge_and_one_receipt() {
    let mut world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let fare_id = phone.quote().await;
    world.broker.kill().await.unwrap();
    let taps = join_all((0..3).map(|_| phone.request(&fare_id, "k"))).await;
    let trip = trip_of(&taps[0]);
    assert!(taps.iter().all(|tap| tap.status == 201 && trip_of(tap) == trip));
    assert_eq!(
        taps.iter().filter(|tap| tap.headers.contains_key("idempotent-replayed")).count(),
        2
    );
    running.stop().await;
    world.broker.restart().await.unwrap();
    // The relay published it, and died before it could write that down.
    let store = world.store().await;
    let heads = store.read::<_, StoreError, _>(|tx| outbox::heads(tx, 10)).await.unwrap();
    let died = Publisher::new(&world.nats, store.clone());
    eventually("it is published", async || died.attempt(&heads[0], None).await.is_ok()).await;
    store.close().await;

    let running = world.start().await;
    let phone = phone.at(&running.base);
    for _ in 0..3 {
        world.completed(trip, phone.rider, 2, 13_850).await;
    }
    let path = format!("/v1/trips/{trip}/receipt");
    eventually("the ride is charged", async || {
        phone.get(&path).await.body["charged"] == true && world.payments_are_done().await
    })
    .await;
    let receipts = join_all((0..3).map(|_| phone.get(&path))).await;
    assert!(receipts.iter().all(|receipt| receipt.body == receipts[0].body));
    let replays = join_all((0..3).map(|_| phone.request(&fare_id, "k"))).await;
    assert!(replays.iter().all(|replay| replay.status == 201 && trip_of(replay) == trip));
    let both = async || world.rider_events().await.len() >= 2;
    eventually("the request and the payment are told", both).await;
    running.stop().await;
    let events = world.rider_events().await;
    let kinds: Vec<_> = events.iter().map(|(envelope, _)| envelope.kind.as_str()).collect();
    assert_eq!(kinds, ["rider.ride_requested", "rider.fare_charged"]);
    assert_eq!(world.provider.lock().unwrap().charges.len(), 1);
}

pub(crate) fn fare(phone: &Phone, expires_at: Timestamp) -> String {
    let tariff: Tariff = TARIFF_DEFAULT.parse().unwrap();
    let fare = Fare {
        rider: phone.rider,
        expires_at,
        pickup: Point::new(57.70, 11.97).unwrap(),
        dropoff: Point::new(57.69, 11.95).unwrap(),
        quote: Quote {
            fare_id: Uuid::from_u128(1),
            product: "standard".into(),
            fare: tariff.money(13_850),
            distance_m: 5_000,
            duration_s: 600,
            surge_percent: 100,
            cancellation_fee: tariff.money(4_500),
        },
    };
    FareSigner::new(SECRET.as_bytes()).unwrap().sign(&fare).unwrap()
}

#[tokio::test]
async fn a_fare_that_expired_buys_nothing_and_one_that_holds_does() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let now = world.nats.clock.now();
    let answer = phone.request(&fare(&phone, now), "k").await.expect(409);
    assert_eq!(answer.code(), "fare_expired");
    // A refusal is not kept: the key is still free.
    phone.request(&fare(&phone, now.plus(FARE_TTL)), "k").await.expect(201);
}

#[tokio::test]
async fn a_list_of_trips_goes_on_where_its_page_ended() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let mut trips = Vec::new();
    for key in ["a", "b", "c"] {
        let trip = phone.ride(key).await;
        world.cancelled(trip, phone.rider, 2, 0).await;
        trips.insert(0, trip.to_string());
    }
    let first = phone.get("/v1/trips?limit=2").await.expect(200).body;
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = phone.get(&format!("/v1/trips?limit=2&cursor={cursor}")).await.expect(200).body;
    assert!(rest["next_cursor"].is_null());
    let found: Vec<_> = [&first, &rest]
        .iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|trip| trip["trip_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(found, trips);
}
