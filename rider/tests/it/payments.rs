//! Money: each fare once, whatever comes twice or gets lost.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_nats::jetstream::consumer;
use common::{
    breaker::{Breaker, BreakerConfig, State},
    contract::v1,
    id::{RiderId, TripId},
    stream,
    testing::{deadline, eventually, eventually_within},
};
use rider::{
    domain::charge::Debt,
    payments::{
        Payments,
        provider::{ChargeReceipt, Provider, ProviderError},
    },
    relay::Bell,
    store::{Store, StoreError, ledger, outbox},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// A provider in memory, which forgets keys at once: only a look-up can prevent a second charge.
#[derive(Debug, Clone, Default)]
struct Books(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    charges: HashMap<String, Vec<i64>>,
    look_ups: u32,
    answers_lost: u32,
    is_away: bool,
    /// Away for so many calls, there for as many, and so on, until it stays; 0 for never.
    flaps_every: u32,
    calls: u32,
}

const FLAPS: u32 = 20;

impl Entries {
    fn call(&mut self) -> Result<(), ProviderError> {
        self.calls += 1;
        let run = self.calls.checked_div(self.flaps_every);
        let is_down = run.is_some_and(|run| run < FLAPS && run % 2 == 0);
        if self.is_away || is_down {
            return Err(ProviderError::Unknown("nobody answers".into()));
        }
        Ok(())
    }
}

impl Books {
    fn losing_answers(count: u32) -> Self {
        let books = Self::default();
        books.0.lock().unwrap().answers_lost = count;
        books
    }

    fn away() -> Self {
        let books = Self::default();
        books.0.lock().unwrap().is_away = true;
        books
    }

    fn returns(&self) {
        self.0.lock().unwrap().is_away = false;
    }

    fn calls(&self) -> u32 {
        self.0.lock().unwrap().calls
    }

    fn amounts(&self) -> Vec<i64> {
        self.0.lock().unwrap().charges.values().flatten().copied().collect()
    }
}

impl Provider for Books {
    async fn charge(&self, debt: &Debt) -> Result<ChargeReceipt, ProviderError> {
        let mut entries = self.0.lock().unwrap();
        entries.call()?;
        let charges = entries.charges.entry(debt.reference()).or_default();
        charges.push(debt.amount.amount_minor);
        if entries.answers_lost > 0 {
            entries.answers_lost -= 1;
            return Err(ProviderError::Unknown("the answer was lost".into()));
        }
        Ok(ChargeReceipt { provider_reference: debt.reference() })
    }

    async fn look_up(&self, debt: &Debt) -> Result<Option<ChargeReceipt>, ProviderError> {
        let mut entries = self.0.lock().unwrap();
        entries.call()?;
        entries.look_ups += 1;
        let reference = debt.reference();
        let is_known = entries.charges.contains_key(&reference);
        Ok(is_known.then_some(ChargeReceipt { provider_reference: reference }))
    }
}

const OPEN_FOR: Duration = Duration::from_millis(50);

fn breaker() -> Breaker {
    let breaker_open_ms = OPEN_FOR.as_millis().try_into().unwrap();
    Breaker::new("payments", BreakerConfig { breaker_open_ms, ..BreakerConfig::default() })
}

struct Worker {
    breaker: Breaker,
    store: Store,
    shutdown: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
}

impl Worker {
    async fn start(world: &World, books: &Books) -> Self {
        Self::beside(world, world.store().await, books)
    }

    fn beside(world: &World, store: Store, books: &Books) -> Self {
        let (shutdown, mut running) = (CancellationToken::new(), JoinSet::new());
        let (nats, breaker) = (world.nats.clone(), breaker());
        let payments =
            Payments::new(nats, store.clone(), Bell::default(), books.clone(), breaker.clone());
        running.spawn(Arc::new(payments).run(shutdown.clone()));
        Self { breaker, store, shutdown, running }
    }

    async fn settled(&self) -> u64 {
        self.store.read::<_, StoreError, _>(outbox::count_waiting).await.unwrap()
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        self.running.join_next().await.unwrap().unwrap().unwrap();
        self.store.close().await;
    }
}

async fn consumer(world: &World) -> consumer::Info {
    let consumer: consumer::PullConsumer = world
        .nats
        .admin
        .get_consumer_from_stream(stream::RIDER_PAYMENTS.name, stream::TRIP)
        .await
        .unwrap();
    consumer.cached_info().clone()
}

/// Whether the consumer has nothing left to deliver or to hear of.
async fn is_all_acknowledged(world: &World) -> bool {
    let found = consumer(world).await;
    found.num_pending == 0 && found.num_ack_pending == 0
}

async fn dead_letters(world: &World) -> u64 {
    let mut dlq = world.nats.admin.get_stream(stream::DLQ).await.unwrap();
    dlq.info().await.unwrap().state.messages
}

async fn complete_rides(world: &World, rides: usize) {
    for _ in 0..rides {
        world.completed(TripId::fresh(), RiderId::fresh(), 9, 13_850).await;
    }
}

#[tokio::test]
async fn a_completed_ride_is_charged_and_its_receipt_says_so() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    let path = format!("/v1/trips/{trip}/receipt");
    assert_eq!(phone.get(&path).await.expect(404).code(), "receipt_not_ready");
    world.completed(trip, phone.rider, 2, 13_850).await;
    let receipt = eventually("the ride is charged", async || {
        let receipt = phone.get(&path).await;
        (receipt.body["charged"] == true).then_some(receipt.body)
    })
    .await;
    assert_eq!(receipt["total"]["amount_minor"], 13_850);
    assert_eq!(receipt["purpose"], "fare");
    assert_eq!(receipt["lines"][0]["item"], "fare");
    assert_eq!(receipt["provider_reference"], "ch_1");
    let seen = phone.get(&format!("/v1/trips/{trip}")).await.expect(200).body;
    assert_eq!(seen["status"], "completed");
    assert_eq!(seen["charged"]["amount_minor"], 13_850);

    let charged = eventually("the payment is told", async || {
        world.rider_events().await.into_iter().find_map(|(_, event)| match event.kind {
            Some(v1::rider_event::Kind::FareCharged(charged)) => Some(charged),
            _ => None,
        })
    })
    .await;
    assert_eq!(charged.trip_id, trip.to_vec());
    assert_eq!(charged.purpose(), v1::ChargePurpose::Fare);
    assert_eq!(charged.amount.unwrap().amount_minor, 13_850);
    let charge = world.provider.lock().unwrap().charges[0].clone();
    assert_eq!(charge["reference"], format!("{trip}:fare"));
}

#[tokio::test]
async fn a_completion_that_is_delivered_twice_is_charged_once() {
    let world = World::new().await;
    let books = Books::default();
    let worker = Worker::start(&world, &books).await;
    let (trip, rider) = (TripId::fresh(), RiderId::fresh());
    for _ in 0..3 {
        world.completed(trip, rider, 9, 13_850).await;
    }
    eventually("all are handled", async || is_all_acknowledged(&world).await).await;
    assert_eq!(books.amounts(), [13_850]);
    assert_eq!(worker.settled().await, 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_charge_whose_answer_was_lost_is_looked_up_and_not_made_again() {
    let world = World::new().await;
    let books = Books::losing_answers(1);
    let worker = Worker::start(&world, &books).await;
    world.completed(TripId::fresh(), RiderId::fresh(), 9, 13_850).await;
    eventually("it is settled", async || worker.settled().await == 1).await;
    assert_eq!(books.amounts(), [13_850]);
    assert_eq!(books.0.lock().unwrap().look_ups, 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_died_between_the_charge_and_its_record_does_not_charge_again() {
    let world = World::new().await;
    let books = Books::default();
    let (trip, rider) = (TripId::fresh(), RiderId::fresh());
    // What a worker leaves behind that dies there: the debt is written, the provider has charged.
    let event = v1::TripEvent {
        state: Some(world.state(rider, v1::TripPhase::Completed)),
        kind: Some(v1::trip_event::Kind::Completed(v1::TripCompleted {
            fare: Some(v1::Money { amount_minor: 13_850, currency: "SEK".into() }),
            ..v1::TripCompleted::default()
        })),
        ..v1::TripEvent::default()
    };
    let debt = rider::wire::debt(trip, &event).unwrap().unwrap();
    let now = world.nats.clock.now();
    let store = world.store().await;
    store.write::<_, StoreError, _>(move |tx| ledger::owe(tx, &debt, now)).await.unwrap();
    books.charge(&debt).await.unwrap();
    store.close().await;

    let worker = Worker::start(&world, &books).await;
    world.completed(trip, rider, 9, 13_850).await;
    eventually("it is settled", async || worker.settled().await == 1).await;
    assert_eq!(books.amounts(), [13_850]);
    worker.stop().await;
}

#[tokio::test]
async fn a_late_cancellation_is_charged_its_fee_and_a_free_one_nothing() {
    let world = World::new().await;
    let books = Books::default();
    let worker = Worker::start(&world, &books).await;
    world.cancelled(TripId::fresh(), RiderId::fresh(), 4, 0).await;
    world.assigned(TripId::fresh(), RiderId::fresh(), 3).await;
    world.cancelled(TripId::fresh(), RiderId::fresh(), 4, 4_500).await;
    eventually("all are handled", async || is_all_acknowledged(&world).await).await;
    assert_eq!(books.amounts(), [4_500]);
    for (account, expected) in [("riders_owe", 0), ("revenue", -4_500), ("provider_holds", 4_500)] {
        let balance = worker
            .store
            .read::<_, StoreError, _>(move |tx| ledger::balance(tx, account))
            .await
            .unwrap();
        assert_eq!(balance, expected, "{account}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn an_http_provider_that_answers_after_we_gave_up_charges_once() {
    let world = World::new().await;
    world.provider.lock().unwrap().answers_too_late = true;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    world.completed(trip, phone.rider, 2, 13_850).await;
    let path = format!("/v1/trips/{trip}/receipt");
    let is_charged = async || phone.get(&path).await.body["charged"] == true;
    eventually_within(deadline::RECOVERY, "the ride is charged", is_charged).await;
    assert_eq!(world.provider.lock().unwrap().charges.len(), 1);
}

#[tokio::test]
async fn an_http_provider_that_charges_and_does_not_say_so_charges_once() {
    let world = World::new().await;
    world.provider.lock().unwrap().loses_answers = true;
    let running = world.start().await;
    let phone = world.phone(&running);
    let trip = phone.ride("k").await;
    world.completed(trip, phone.rider, 2, 13_850).await;
    let path = format!("/v1/trips/{trip}/receipt");
    let is_charged = async || phone.get(&path).await.body["charged"] == true;
    eventually_within(deadline::RECOVERY, "the ride is charged", is_charged).await;
    assert_eq!(world.provider.lock().unwrap().charges.len(), 1);
}

#[tokio::test]
async fn an_outage_of_the_provider_is_met_with_probes_and_uses_up_no_tries() {
    let world = World::new().await;
    let books = Books::away();
    let began = Instant::now();
    let worker = Worker::start(&world, &books).await;
    let (rides, at_once) = (200, usize::try_from(stream::WORKER_IN_FLIGHT).unwrap());
    complete_rides(&world, rides).await;
    let shut = async || worker.breaker.state() != State::Closed;
    eventually("the breaker opens", shut).await;
    let opened_after = books.calls();
    eventually("thirty probes fail", async || books.calls() >= opened_after + 30).await;
    // Calls that were under way when it opened, and one for each time that it was open.
    let probes = began.elapsed().as_millis() / OPEN_FOR.as_millis() + 1;
    assert!(u128::from(books.calls()) <= at_once as u128 + probes, "{} calls", books.calls());
    books.returns();
    let is_all_settled = async || usize::try_from(worker.settled().await).unwrap() == rides;
    eventually_within(deadline::RECOVERY, "all are settled", is_all_settled).await;
    assert_eq!(books.amounts().len(), rides);
    assert_eq!(dead_letters(&world).await, 0);
    eventually("all are handled", async || is_all_acknowledged(&world).await).await;
    // Only who called while it was closed was handed back: for thirty probes nobody.
    let deliveries = usize::try_from(consumer(&world).await.delivered.consumer_sequence).unwrap();
    assert!(deliveries <= rides + at_once, "{deliveries} deliveries");
    assert_eq!(worker.breaker.state(), State::Closed);
    worker.stop().await;
}

#[tokio::test]
async fn in_a_quiet_hour_an_outage_sends_nobody_to_the_dead_letters_either() {
    let world = World::new().await;
    let books = Books::away();
    let worker = Worker::start(&world, &books).await;
    complete_rides(&world, 2).await;
    // Two messages have ten tries.
    let many = async || books.calls() >= 40;
    eventually_within(deadline::RECOVERY, "forty calls fail", many).await;
    assert_eq!(dead_letters(&world).await, 0);
    books.returns();
    let is_all_settled = async || worker.settled().await == 2;
    eventually_within(deadline::RECOVERY, "both are settled", is_all_settled).await;
    assert_eq!(books.amounts(), [13_850, 13_850]);
    worker.stop().await;
}

#[tokio::test]
async fn a_provider_that_comes_and_goes_is_paid_once_for_each_ride() {
    let world = World::new().await;
    let books = Books::default();
    books.0.lock().unwrap().flaps_every = 7;
    let worker = Worker::start(&world, &books).await;
    complete_rides(&world, 60).await;
    let is_all_settled = async || worker.settled().await == 60;
    eventually_within(deadline::RECOVERY, "all are settled", is_all_settled).await;
    assert_eq!(books.amounts(), [13_850; 60]);
    assert_eq!(dead_letters(&world).await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn who_cannot_reach_the_provider_leaves_the_work_to_who_can() {
    let world = World::new().await;
    let (away, there) = (Books::away(), Books::default());
    let cut_off = Worker::start(&world, &away).await;
    complete_rides(&world, 5).await;
    let shut = async || cut_off.breaker.state() != State::Closed;
    eventually("the breaker of the one opens", shut).await;
    let other = Worker::beside(&world, cut_off.store.clone(), &there);
    complete_rides(&world, 100).await;
    let most_done = async || there.amounts().len() >= 100;
    eventually("the other one charges what comes", most_done).await;
    away.returns();
    let is_all_settled = async || other.settled().await == 105;
    eventually_within(deadline::RECOVERY, "all are settled", is_all_settled).await;
    assert_eq!(there.amounts().len() + away.amounts().len(), 105);
    cut_off.shutdown.cancel();
    other.stop().await;
}

#[tokio::test]
async fn a_malformed_trip_event_is_put_aside_and_the_next_ride_is_charged() {
    let world = World::new().await;
    let books = Books::default();
    let worker = Worker::start(&world, &books).await;
    let subject = world.nats.partitions.trip_event(TripId::fresh());
    world.nats.jetstream.publish(subject, "rubbish".into()).await.unwrap().await.unwrap();
    world.completed(TripId::fresh(), RiderId::fresh(), 9, 13_850).await;
    eventually("it is settled", async || worker.settled().await == 1).await;
    eventually("a copy is kept", async || dead_letters(&world).await == 1).await;
    worker.stop().await;
}
