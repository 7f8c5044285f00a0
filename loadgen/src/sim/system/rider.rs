//! The rider service: its relay, its view of trips and its payments, on a store that survives it.

use std::{sync::Arc, time::Duration};

use ::rider::{
    payments::Collector,
    publisher::Publisher,
    relay::Bell,
    store::{
        StoreError,
        outbox::{self, Waiting},
        trips as rows,
    },
};
use common::{
    clock::Timestamp,
    contract::{Malformed, v1},
    id::{RiderId, TripId},
    log::Stored,
    stream, subject, trips,
    view::Start,
};
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};

use super::{
    World,
    provider::SimProvider,
    reader::Handler,
    services::{Service, Site},
};

/// How often the relay looks for rows that nobody announced.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const HEADS_MAX: u32 = 64;
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// The view's name in the store.
const VIEW: &str = "trips";

pub(super) fn start(site: &Site) {
    let (world, port) = (Arc::clone(&site.world), site.port.clone());
    let provider = SimProvider(Arc::clone(&world));
    let store = world.store.clone();
    let payments = Arc::new(Collector::new(port.clock.clone(), store, Bell::default(), provider));
    let charge: Handler = Arc::new(move |delivery| {
        let payments = Arc::clone(&payments);
        async move { payments.collect(&delivery).await }.boxed()
    });
    site.consume(stream::RIDER_PAYMENTS, &charge);
    site.spawn(relay(Arc::clone(&world), Publisher::new(port.clone(), world.store.clone())));
    site.spawn(view(Arc::clone(&world), site.host));
    site.open(Service::Rider(port));
}

/// As `rider::relay` does it: riders in parallel, one event of a rider at a time.
async fn relay(world: Arc<World>, publisher: Publisher) {
    loop {
        let heads = world.store.read::<_, StoreError, _>(|tx| outbox::heads(tx, HEADS_MAX)).await;
        let mut in_flight: FuturesUnordered<_> = heads
            .unwrap_or_default()
            .iter()
            .map(|row| carry(&world, &publisher, row.clone()))
            .collect();
        while in_flight.next().await.is_some() {}
        drop(in_flight);
        world.sim.sleep(LOOK_EVERY).await;
    }
}

async fn carry(world: &Arc<World>, publisher: &Publisher, row: Waiting) -> RiderId {
    let mut expected = Some(row.after);
    let mut pause = RETRY_FIRST;
    let sequence = loop {
        match publisher.attempt(&row, expected).await {
            Ok(Some(sequence)) => break sequence,
            Ok(None) => return row.key,
            Err(_) => {
                expected = None;
                world.seen("relay looked before it published");
                world.sim.sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    };
    let id = row.id;
    let old = Timestamp::from_micros(publisher.now().micros() - 24 * 3600 * 1_000_000);
    let recorded = world.store.write::<_, StoreError, _>(move |tx| {
        outbox::published(tx, id, sequence)?;
        outbox::prune(tx, old)
    });
    if let Err(err) = recorded.await {
        world.sim.tell(format!("not recorded: {err}"));
    }
    world.seen(format!("relay: {}", row.kind));
    row.key
}

/// As `rider::view` does it: every event, and the position in the same transaction.
async fn view(world: Arc<World>, host: crate::sim::engine::Host) {
    let position = world.store.read::<_, StoreError, _>(|tx| rows::position(tx, VIEW)).await;
    let start = match position.unwrap_or_default() {
        0 => Start::LastPerSubject,
        position => Start::After(position),
    };
    let here = Arc::clone(&world);
    let apply = move |event: Stored| {
        let Ok(snapshot) = snapshot(&event) else { return };
        let sequence = event.sequence;
        let written = here.store.write::<_, StoreError, _>(move |tx| {
            rows::apply(tx, &snapshot)?;
            rows::advance(tx, VIEW, sequence)
        });
        // The inline store answers at once.
        if let Some(Err(err)) = written.now_or_never() {
            here.sim.tell(format!("view not written: {err}"));
        }
    };
    world.follow(host, stream::TRIP, subject::TRIP.events(), start, apply).await;
}

fn snapshot(stored: &Stored) -> Result<v1::TripSnapshot, Malformed> {
    trips::snapshot(TripId(stored.key()?), stored.sequence, &stored.payload)
}
