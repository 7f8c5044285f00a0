//! A rider: asks for rides one after the other, watches, sometimes cancels, sometimes rates.

use std::{sync::Arc, time::Duration};

use ::rider::{
    domain::trip::{Phase, Quote, Ride},
    store::{StoreError, trips as rows},
};
use common::{
    clock::Timestamp,
    contract::v1::{self, trip_command::Kind as Wish},
    geo::Point,
    id::{CommandId, RiderId, TripId},
    money::{Currency, Money},
    trips,
};
use futures_util::FutureExt as _;
use serde_json::Value;

use super::{PATIENCE, REPEATS_MAX, Request};
use crate::sim::system::{Kind, World, gateways};

/// A trip that is not over by then is no longer watched.
const WATCH_MAX: Duration = Duration::from_secs(1800);

pub(super) async fn run(world: Arc<World>, rider: RiderId) {
    for number in 0_u32.. {
        let (least, most) = (Duration::from_millis(200), Duration::from_secs(20));
        world.sim.sleep(world.sim.between(least, most)).await;
        if !world.has_faults() {
            return;
        }
        world.with_witness(|witness| *witness.wishes.entry(rider).or_default() += 1);
        if let Some(trip) = order(&world, rider, number).await {
            watch(&world, rider, trip).await;
            // An app that was restarted asks again what it believes unanswered: the same wish.
            if world.sim.happens(0.15) {
                order(&world, rider, number).await;
            }
        }
    }
}

fn ride(world: &World, rider: RiderId, trip: TripId, now: Timestamp) -> Option<Ride> {
    let sek = |minor| Money::new(minor, Currency::SEK);
    let fare = i64::try_from(world.sim.pick(8_000..30_000)).ok()?;
    let duration_s = u32::try_from(world.sim.pick(4..16)).ok()?;
    let place =
        |seed: u64| Point::new(57.6 + f64::from(u32::try_from(seed).ok()?) / 1e4, 11.9).ok();
    Some(Ride {
        trip,
        rider,
        pickup: place(world.sim.pick(0..1000))?,
        dropoff: place(world.sim.pick(1000..2000))?,
        quote: Quote {
            fare_id: trip.0,
            product: "standard".to_owned(),
            fare: sek(fare),
            distance_m: duration_s * 10,
            duration_s,
            surge_percent: 100,
            cancellation_fee: sek(3_000),
        },
        pin: format!("{:04}", world.sim.pick(0..10_000)),
        requested_at: now,
    })
}

async fn order(world: &Arc<World>, rider: RiderId, number: u32) -> Option<TripId> {
    let request = Request {
        role: "rider",
        who: rider.0,
        method: "POST",
        path: "/v1/trips".to_owned(),
        key: format!("ride-{number}"),
    };
    let answer = world.persist(REPEATS_MAX, async || {
        let key = request.key.clone();
        let told = world.ask(Kind::Rider, PATIENCE, move |world, service| {
            // The gateway draws the trip's id anew for each request; the store knows better.
            let key = key.clone();
            async move {
                let (trip, now) = (TripId(world.sim.id()), world.sim.now());
                match ride(&world, rider, trip, now) {
                    Some(ride) => gateways::order(world, service, rider, key, ride).await,
                    None => gateways::Told::Unavailable,
                }
            }
            .boxed()
        });
        request.heard(world, told.await)
    });
    let response = answer.await?.ok()?;
    let trip = response.get("trip_id").and_then(Value::as_str)?.parse().ok().map(TripId)?;
    if let Some(pin) = response.get("pin").and_then(Value::as_str) {
        world.show_pin(trip, pin.to_owned());
    }
    Some(trip)
}

async fn watch(world: &Arc<World>, rider: RiderId, trip: TripId) {
    let began = world.sim.now();
    let partitions = common::subject::Partitions::new(world.options.partitions).unwrap_or_default();
    let mut live = world.listen(trips::live_subject(partitions, trip));
    let patience = world.sim.between(Duration::from_secs(1), Duration::from_secs(90));
    let mut will_cancel = world.sim.happens(0.3);
    // Before the request has even left the outbox.
    if will_cancel && world.sim.happens(0.2) {
        will_cancel = false;
        cancel(world, rider, trip).await;
    }
    while world.sim.now().since(began) < WATCH_MAX {
        world.sim.sleep(world.sim.between(Duration::from_secs(1), Duration::from_secs(4))).await;
        while let Ok(payload) = live.try_recv() {
            fed(world, rider, trip, &payload);
        }
        if will_cancel && world.sim.now().since(began) > patience {
            will_cancel = false;
            cancel(world, rider, trip).await;
        }
        match phase(world, rider, trip).await {
            Some(Phase::Completed) => {
                if world.sim.happens(0.5) {
                    rate(world, rider, trip).await;
                }
                return;
            }
            Some(Phase::Cancelled | Phase::Unfulfilled) => return,
            Some(Phase::Matching | Phase::Assigned | Phase::Arrived | Phase::InProgress) | None => {
            }
        }
    }
}

/// What the phone's feed shows is as good as a promise.
fn fed(world: &World, rider: RiderId, trip: TripId, payload: &[u8]) {
    let Ok(snapshot) = trips::snapshot(trip, 0, payload) else { return };
    let feed = Request {
        role: "rider",
        who: rider.0,
        method: "GET",
        path: "/v1/feed".to_owned(),
        key: String::new(),
    };
    world.seen("phone fed");
    feed.promised(world, 200, gateways::told(trip, &snapshot));
}

async fn phase(world: &Arc<World>, rider: RiderId, trip: TripId) -> Option<Phase> {
    let asked = world.ask(Kind::Rider, PATIENCE, move |world, _| {
        async move {
            let found = world.store.read::<_, StoreError, _>(move |tx| rows::find(tx, rider, trip));
            Some(found.await.ok()??.phase())
        }
        .boxed()
    });
    asked.await.flatten()
}

async fn cancel(world: &Arc<World>, rider: RiderId, trip: TripId) {
    let reason = "change_of_plans".to_owned();
    let wish = Wish::CancelByRider(v1::CancelByRider { reason, asked_at_us: 0 });
    command(world, rider, trip, "cancel", wish).await;
}

async fn rate(world: &Arc<World>, rider: RiderId, trip: TripId) {
    let wish = Wish::Rate(v1::Rate { by: v1::Party::Rider.into(), stars: 5 });
    command(world, rider, trip, "rating", wish).await;
}

async fn command(world: &Arc<World>, rider: RiderId, trip: TripId, what: &str, wish: Wish) {
    let request = Request {
        role: "rider",
        who: rider.0,
        method: "POST",
        path: format!("/v1/trips/{trip}/{what}"),
        key: "1".to_owned(),
    };
    let id = CommandId::keyed(trip.0, &format!("{what}.{}", request.key));
    let answered = world.persist(REPEATS_MAX, async || {
        let wish = wish.clone();
        let told = world.ask(Kind::Rider, PATIENCE, move |world, service| {
            gateways::trip_command(world, service, trip, id, Some(rider.0), wish.clone()).boxed()
        });
        request.heard(world, told.await)
    });
    answered.await;
}
