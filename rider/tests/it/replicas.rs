//! Several replicas on one PostgreSQL and one broker.

use std::sync::{Arc, Mutex};

use common::{
    breaker::{Breaker, BreakerConfig},
    id::{RiderId, TripId},
    testing::{
        deadline, eventually, eventually_within,
        postgres::{TestPostgres, postgres},
    },
};
use rider::{
    Config,
    domain::charge::Debt,
    leases::Leases,
    payments::{
        Payments,
        provider::{ChargeReceipt, Provider, ProviderError},
    },
    relay::{Bell, Relay},
    store::{
        Store, StoreError,
        lease::{self, SLOTS},
        outbox,
    },
};
use tokio::task::{JoinSet, yield_now};
use tokio_util::sync::CancellationToken;

use crate::{
    outbox::{all_carried, event, numbers, push},
    phone::trip_of,
    world::World,
};

fn config(world: &World, server: &TestPostgres) -> Config {
    Config { store: server.url().parse().unwrap(), ..world.config() }
}

/// What of a replica carries its share of the outbox. Dropped, it dies.
struct Carrier {
    store: Store,
    leases: Leases,
    shutdown: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
}

impl Carrier {
    async fn start(world: &World, server: &TestPostgres) -> Self {
        let store = Store::open(&server.url().parse().unwrap()).await.unwrap();
        let (leases, bell) = (Leases::new(&store), Bell::default());
        let (shutdown, mut running) = (CancellationToken::new(), JoinSet::new());
        let relay = Relay::new(&world.nats, store.clone(), bell.clone(), leases.clone());
        running.spawn(relay.run(shutdown.clone()));
        let (keeping, of, nats, until) =
            (leases.clone(), store.clone(), world.nats.clone(), shutdown.clone());
        running.spawn(async move { keeping.keep(&of, &nats, &bell, until).await });
        Self { store, leases, shutdown, running }
    }

    fn share(&self) -> u32 {
        self.leases.slots().count()
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn rides_that_two_replicas_took_up_are_asked_for_once_when_one_of_them_dies() {
    let (mut world, server) = (World::new().await, postgres().await);
    let first = world.start_with(config(&world, &server)).await;
    let second = world.start_with(config(&world, &server)).await;
    let mut phones = Vec::new();
    for number in 0..30 {
        let phone = world.phone(if number % 2 == 0 { &first } else { &second });
        let fare_id = phone.quote().await;
        phones.push((phone, fare_id));
    }
    // Without the broker nothing is published: each has some to carry when one of them dies.
    world.broker.kill().await.unwrap();
    let mut trips = Vec::new();
    for (phone, fare_id) in &phones {
        trips.push(trip_of(&phone.request(fare_id, "k").await.expect(201)));
    }
    drop(first);
    world.broker.restart().await.unwrap();
    let all_asked = async || world.rider_events().await.len() >= phones.len();
    eventually_within(deadline::RECOVERY, "all rides are asked for", all_asked).await;
    for ((phone, fare_id), trip) in phones.into_iter().zip(trips) {
        let phone = phone.at(&second.base);
        let again = phone.request(&fare_id, "k").await.expect(201);
        assert_eq!(again.headers["idempotent-replayed"], "true");
        assert_eq!(trip_of(&again), trip);
        phone.get(&format!("/v1/trips/{trip}")).await.expect(200);
    }
    second.stop().await;
    let mut riders: Vec<_> =
        world.rider_events().await.iter().map(|(envelope, _)| envelope.subject).collect();
    assert_eq!(riders.len(), 30);
    riders.sort_unstable();
    riders.dedup();
    assert_eq!(riders.len(), 30);
}

#[tokio::test]
async fn what_happens_to_a_trip_is_seen_at_every_replica_and_written_once() {
    let (world, server) = (World::new().await, postgres().await);
    let first = world.start_with(config(&world, &server)).await;
    let second = world.start_with(config(&world, &server)).await;
    let mut phone = world.phone(&first);
    let trip = phone.ride("k").await;
    world.completed(trip, phone.rider, 2, 13_850).await;
    let path = format!("/v1/trips/{trip}/receipt");
    for replica in [&first, &second] {
        phone = phone.at(&replica.base);
        let is_charged = async || phone.get(&path).await.body["charged"] == true;
        eventually("the ride is charged", is_charged).await;
    }
    assert_eq!(world.provider.lock().unwrap().charges.len(), 1);
    let both_told = async || world.rider_events().await.len() == 2;
    eventually("the request and the payment are told", both_told).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_riders_events_keep_their_order_when_the_replica_that_carries_them_dies() {
    let (world, server) = (World::new().await, postgres().await);
    let first = Carrier::start(&world, &server).await;
    let second = Carrier::start(&world, &server).await;
    let store = second.store.clone();
    eventually("both carry", async || first.share() > 0 && second.share() > 0).await;
    let keys: Vec<_> = (0..20).map(|_| RiderId::fresh()).collect();
    let mut first = Some(first);
    for round in 0..6_u128 {
        for (rider, key) in (0_u128..).zip(&keys) {
            push(&store, event(*key, round * 100 + rider + 1, &world)).await;
        }
        if round == 2 {
            drop(first.take());
        }
    }
    all_carried(&store).await;
    for (rider, key) in (0_u128..).zip(&keys) {
        let expected: Vec<_> = (0..6).map(|round| round * 100 + rider + 1).collect();
        assert_eq!(numbers(&world, *key).await, expected);
    }
    second.stop().await;
}

#[tokio::test]
async fn replicas_share_the_outbox_and_one_that_stops_hands_its_share_over() {
    let (world, server) = (World::new().await, postgres().await);
    let first = Carrier::start(&world, &server).await;
    eventually("one carries all", async || first.share() == SLOTS).await;
    let second = Carrier::start(&world, &server).await;
    let is_shared = async || first.share() == SLOTS / 2 && second.share() == SLOTS / 2;
    eventually("each carries half", is_shared).await;
    let (leases, replica) = (first.leases.clone(), first.store.replica());
    first.stop().await;
    assert_eq!(leases.slots().count(), 0);
    // Nobody waits for a lease to end: it is not there any more.
    let left = second.store.read::<_, StoreError, _>(move |tx| {
        tx.number("SELECT COUNT(*) FROM lease WHERE owner = $1", &[replica.into()])
    });
    assert_eq!(left.await.unwrap(), 0);
    eventually("the other carries all", async || second.share() == SLOTS).await;
    second.stop().await;
}

#[tokio::test]
async fn a_replica_that_cannot_say_that_it_is_alive_stops_carrying_by_itself() {
    let (world, mut server) = (World::new().await, postgres().await);
    let carrier = Carrier::start(&world, &server).await;
    eventually("it carries all", async || carrier.share() == SLOTS).await;
    server.crash();
    eventually("it carries nothing", async || carrier.share() == 0).await;
    server.start().await;
    eventually("it carries all again", async || carrier.share() == SLOTS).await;
    carrier.stop().await;
}

#[tokio::test]
async fn a_share_is_as_fair_as_it_can_be_whoever_comes_and_goes() {
    let server = postgres().await;
    let store = Store::open(&server.url().parse().unwrap()).await.unwrap();
    let replicas: Vec<_> = (0..3).map(|_| TripId::fresh().0).collect();
    let renew = async |replica: uuid::Uuid| {
        let renewed = store.write::<_, StoreError, _>(move |tx| {
            lease::renew(tx, replica, std::time::Duration::from_secs(60))
        });
        renewed.await.unwrap()
    };
    for _ in 0..2 {
        for replica in &replicas {
            renew(*replica).await;
        }
    }
    let mut shares = Vec::new();
    let mut all = 0;
    for replica in &replicas {
        let slots = renew(*replica).await;
        assert_eq!(all & slots.bits(), 0, "two carry the same");
        all |= slots.bits();
        shares.push(slots.count());
    }
    shares.sort_unstable();
    assert_eq!(shares, [4, 6, 6]);
    let gone = replicas[0];
    store.write::<_, StoreError, _>(move |tx| lease::leave(tx, gone)).await.unwrap();
    assert_eq!(renew(replicas[1]).await.count() + renew(replicas[2]).await.count(), SLOTS);
}

/// A provider that takes its time, and forgets keys at once: nothing but asking one at a time
/// prevents a second charge.
#[derive(Debug, Clone, Default)]
struct Slow {
    charges: Arc<Mutex<Vec<String>>>,
    /// It charges, and then never says so.
    is_mute: bool,
}

impl Provider for Slow {
    async fn charge(&self, debt: &Debt) -> Result<ChargeReceipt, ProviderError> {
        for _ in 0..200 {
            yield_now().await;
        }
        self.charges.lock().unwrap().push(debt.reference());
        if self.is_mute {
            std::future::pending::<()>().await;
        }
        Ok(ChargeReceipt { provider_reference: debt.reference() })
    }

    async fn look_up(&self, debt: &Debt) -> Result<Option<ChargeReceipt>, ProviderError> {
        let reference = debt.reference();
        let is_known = self.charges.lock().unwrap().contains(&reference);
        Ok(is_known.then_some(ChargeReceipt { provider_reference: reference }))
    }
}

/// What of a replica charges. Dropped, it dies.
struct Cashier {
    store: Store,
    _running: JoinSet<anyhow::Result<()>>,
}

impl Cashier {
    async fn start(world: &World, server: &TestPostgres, provider: &Slow) -> Self {
        let store = Store::open(&server.url().parse().unwrap()).await.unwrap();
        let (nats, bell, forever) = (world.nats.clone(), Bell::default(), CancellationToken::new());
        let breaker = Breaker::new("payments", BreakerConfig::default());
        let payments =
            Payments::new(nats.clone(), store.clone(), bell.clone(), provider.clone(), breaker);
        let mut running = JoinSet::new();
        running.spawn(Arc::new(payments).run(forever.clone()));
        let (leases, of) = (Leases::new(&store), store.clone());
        let alive = leases.clone();
        running.spawn(async move { leases.keep(&of, &nats, &bell, forever).await });
        eventually("it counts as alive", async || alive.slots().count() > 0).await;
        Self { store, _running: running }
    }

    async fn settled(&self) -> usize {
        let waiting = self.store.read::<_, StoreError, _>(outbox::count_waiting).await.unwrap();
        usize::try_from(waiting).unwrap()
    }
}

#[tokio::test]
async fn two_replicas_that_are_told_of_the_same_trips_charge_each_of_them_once() {
    let (world, server) = (World::new().await, postgres().await);
    let provider = Slow::default();
    let first = Cashier::start(&world, &server, &provider).await;
    let second = Cashier::start(&world, &server, &provider).await;
    let trips: Vec<_> = (0..25).map(|_| (TripId::fresh(), RiderId::fresh())).collect();
    for (trip, rider) in &trips {
        for _ in 0..3 {
            world.completed(*trip, *rider, 9, 13_850).await;
        }
    }
    let all = async || second.settled().await == trips.len();
    eventually_within(deadline::RECOVERY, "all are settled", all).await;
    eventually("all are handled", async || world.payments_are_done().await).await;
    assert_eq!(first.settled().await, trips.len());
    let mut charged = provider.charges.lock().unwrap().clone();
    charged.sort_unstable();
    charged.dedup();
    assert_eq!(charged.len(), trips.len());
    assert_eq!(provider.charges.lock().unwrap().len(), trips.len());
}

#[tokio::test]
async fn a_charge_that_a_replica_died_over_is_looked_up_by_another_one() {
    let (world, server) = (World::new().await, postgres().await);
    let provider = Slow { is_mute: true, ..Slow::default() };
    let first = Cashier::start(&world, &server, &provider).await;
    let (trip, rider) = (TripId::fresh(), RiderId::fresh());
    world.completed(trip, rider, 9, 13_850).await;
    eventually("it is charged", async || provider.charges.lock().unwrap().len() == 1).await;
    let second =
        Cashier::start(&world, &server, &Slow { is_mute: false, ..provider.clone() }).await;
    drop(first);
    // The first one's message comes back much later; this is the same trip once more.
    world.completed(trip, rider, 9, 13_850).await;
    let is_settled = async || second.settled().await == 1;
    eventually_within(deadline::RECOVERY, "it is settled", is_settled).await;
    assert_eq!(provider.charges.lock().unwrap().len(), 1);
}
