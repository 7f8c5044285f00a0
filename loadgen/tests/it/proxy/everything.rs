//! One hop of the saga through a network where a tenth of everything fails: nothing is lost, and
//! nothing is doubled.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_nats::jetstream::{consumer::PullConsumer, message::StreamMessage};
use common::{
    consumer::{self, Delivery, Failure},
    envelope::Envelope,
    event_store::{Cause, EventStore},
    id::{CommandId, DriverId, EventId},
    nats::Nats,
    stream::{self, ConsumerSpec, TRIP_DRIVERS},
    testing::eventually_within,
};
use driver::{domain::DriverCommand, record::DriverDecider};
use futures_util::{StreamExt as _, stream::iter};
use loadgen::chaos::proxy::{Fault, Faults, Proxy, Rates};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Cut, SEED, address, connect, cut};

const PARTITIONS: u32 = 16;
const DRIVERS: usize = 20;
const STEPS: usize = 3;
/// For many time-outs on a busy machine; it bounds a failure and never slows down a success.
const WITHIN: Duration = Duration::from_secs(300);

fn a_tenth_of_everything() -> Faults {
    let rates = Rates::each(&Fault::ALL, 0.1)
        // Each takes all that is on its way along: at a tenth no connection would ever stand.
        .with(Fault::ConnectionReset, 0.01)
        .with(Fault::ConnectionStalled, 0.02);
    Faults { stall: Duration::from_millis(20)..=Duration::from_millis(200), ..Faults::new(rates) }
}

/// Drivers go online and offline; each command is repeated, with its id, until it is answered.
async fn drive(nats: &Nats, drivers: &[DriverId]) {
    let store = EventStore::<DriverDecider>::new(nats);
    let commands = iter(drivers).for_each_concurrent(DRIVERS, |driver| {
        let store = &store;
        async move {
            for step in 0..STEPS {
                let command =
                    if step % 2 == 0 { DriverCommand::GoOnline } else { DriverCommand::GoOffline };
                let id = CommandId::keyed(driver.0, &step.to_string());
                while store.execute(*driver, id, &Cause::default(), &command).await.is_err() {}
            }
        }
    });
    tokio::time::timeout(WITHIN, commands).await.expect("every command is answered");
}

/// The one that stands for the effect of an event: nobody else ever touches it.
fn effect_of(event: EventId) -> DriverId {
    DriverId(Uuid::new_v5(&event.0, b"effect"))
}

/// Reacts to the events of these drivers, each with one event of a driver of its own.
async fn react(nats: &Nats, drivers: &[DriverId], shutdown: CancellationToken) {
    let drivers: Arc<HashSet<Uuid>> = Arc::new(drivers.iter().map(|driver| driver.0).collect());
    let store = EventStore::<DriverDecider>::new(nats);
    let handler = move |delivery: Delivery, _| {
        let (store, drivers) = (store.clone(), Arc::clone(&drivers));
        async move {
            let event = delivery.envelope()?;
            if drivers.contains(&event.subject) {
                let id = CommandId::step(event.id, "effect");
                let command = DriverCommand::GoOnline;
                store.execute(effect_of(event.id), id, &Cause::from(&event), &command).await?;
            }
            Ok::<(), Failure>(())
        }
    };
    consumer::run(nats, TRIP_DRIVERS, shutdown, handler).await.unwrap();
}

async fn is_idle(nats: &Nats, spec: ConsumerSpec) -> bool {
    for partition in spec.partitions(nats.partitions) {
        let durable = spec.durable(partition);
        let mut consumer: PullConsumer =
            nats.admin.get_consumer_from_stream(durable, spec.stream).await.unwrap();
        let info = consumer.info().await.unwrap();
        if info.num_pending > 0 || info.num_ack_pending > 0 {
            return false;
        }
    }
    true
}

async fn all(nats: &Nats, stream: &str) -> Vec<StreamMessage> {
    let mut stream = nats.admin.get_stream(stream).await.unwrap();
    let state = stream.info().await.unwrap().state.clone();
    let mut messages = Vec::new();
    for sequence in state.first_sequence.max(1)..=state.last_sequence {
        if let Ok(message) = stream.get_raw_message(sequence).await {
            messages.push(message);
        }
    }
    messages
}

/// Every command made one event; every event had its effect once, or has one dead letter.
async fn audit(nats: &Nats, drivers: &[DriverId]) {
    let events: Vec<(u64, Envelope)> = all(nats, stream::DRIVER)
        .await
        .iter()
        .map(|event| (event.sequence, Envelope::from_headers(&event.headers).unwrap()))
        .collect();
    let mut histories = BTreeMap::<Uuid, usize>::new();
    for (_, event) in &events {
        *histories.entry(event.subject).or_default() += 1;
    }
    for driver in drivers {
        assert_eq!(histories.get(&driver.0), Some(&STEPS), "events of driver {driver}");
    }
    let letters: HashSet<String> =
        all(nats, stream::DLQ).await.iter().map(|letter| letter.subject.to_string()).collect();
    for (sequence, event) in
        events.iter().filter(|(_, event)| drivers.iter().any(|driver| driver.0 == event.subject))
    {
        let effect = histories.get(&effect_of(event.id).0).copied().unwrap_or(0);
        let end = format!(".{}.{sequence}", stream::DRIVER);
        let has_letter = letters.iter().any(|letter| letter.ends_with(&end));
        assert!(effect <= 1, "event {sequence} had {effect} effects");
        assert!(effect == 1 || has_letter, "event {sequence} is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_a_tenth_of_everything_nothing_is_lost_and_nothing_doubled() {
    let Cut { broker, direct, proxy, through: writer } = cut(PARTITIONS).await;
    let second = Proxy::start(address(&broker), SEED + 1).await.unwrap();
    let reader = connect(&second, direct.partitions).await;
    let drivers: Vec<DriverId> = (0..DRIVERS).map(|_| DriverId::fresh()).collect();
    for proxy in [&proxy, &second] {
        proxy.set(a_tenth_of_everything());
    }
    let shutdown = CancellationToken::new();
    let reacting = react(&reader, &drivers, shutdown.clone());
    let driving = async {
        drive(&writer, &drivers).await;
        // Whatever is still to be handled is handled in the same bad network.
        let is_idle = async || is_idle(&direct, TRIP_DRIVERS).await;
        eventually_within(WITHIN, "every event is handled", is_idle).await;
        shutdown.cancel();
    };
    tokio::join!(reacting, driving);
    audit(&direct, &drivers).await;
    let counts = proxy.counts() + second.counts();
    for fault in Fault::ALL.into_iter().take_while(|fault| *fault != Fault::Partitioned) {
        assert!(counts.of(fault) > 0, "{} never happened", fault.name());
    }
}
