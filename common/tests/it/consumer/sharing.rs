//! Replicas that share partitions: who reads which, and what happens when one stops or dies.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use common::{
    consumer::{self, Delivery, Failure, Share},
    id::RiderId,
    nats::Nats,
    stream::{self, TRIP_REQUESTS},
    subject::Partitions,
    testing::{self, TestBroker, deadline, eventually_within},
};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const PARTITIONS: u32 = 6;

/// Who handled what: partition, sequence, which try, and which replica it was.
type Handled = Arc<Mutex<Vec<(u32, u64, i64, u32)>>>;

struct Replicas {
    broker: TestBroker,
    nats: Nats,
    handled: Handled,
    running: JoinSet<()>,
}

impl Replicas {
    async fn none() -> Self {
        let broker = testing::broker().await;
        let nats = Nats::new(broker.client().await, Partitions::new(PARTITIONS).unwrap());
        nats.prepare().await.unwrap();
        Self { broker, nats, handled: Handled::default(), running: JoinSet::new() }
    }

    /// Starts a replica over a connection of its own, and gives what stops it.
    async fn start(&mut self, share: Share) -> CancellationToken {
        let mut nats = Nats::new(self.broker.client().await, self.nats.partitions);
        nats.consuming.share = share;
        let (handled, stop) = (Arc::clone(&self.handled), CancellationToken::new());
        let stopped = stop.clone();
        self.running.spawn(async move {
            let handler = move |delivery: Delivery, partition| {
                let (sequence, attempt) = (delivery.sequence, delivery.attempt);
                let seen = (partition, sequence, attempt, share.replica);
                handled.lock().unwrap().push(seen);
                // The first replica dies of this one.
                let is_deadly = &delivery.payload[..] == b"deadly" && share.replica == 0;
                async move {
                    if is_deadly {
                        std::future::pending::<()>().await;
                    }
                    Ok::<(), Failure>(())
                }
            };
            consumer::run(&nats, TRIP_REQUESTS, stopped, handler).await.unwrap();
        });
        stop
    }

    async fn publish(&self, partition: u32, text: &'static str) -> u64 {
        let subject = format!("rider.event.{partition}.{}", RiderId::fresh());
        let ack = self.nats.jetstream.publish(subject, text.into()).await.unwrap();
        ack.await.unwrap().sequence
    }

    /// One message to each partition, and when all are handled, by whom.
    async fn round(&self) -> BTreeMap<u32, u32> {
        let mut sequences = Vec::new();
        for partition in 0..PARTITIONS {
            sequences.push(self.publish(partition, "x").await);
        }
        eventually_within(deadline::RECOVERY, "the round is handled", async || {
            let handled = self.handled.lock().unwrap();
            let of_round = handled.iter().filter(|(_, sequence, ..)| sequences.contains(sequence));
            let by: BTreeMap<u32, u32> =
                of_round.map(|(partition, _, _, replica)| (*partition, *replica)).collect();
            (by.len() == sequences.len()).then_some(by)
        })
        .await
    }

    /// Who handled each partition's last message.
    fn readers(&self) -> BTreeMap<u32, u32> {
        let handled = self.handled.lock().unwrap();
        handled.iter().map(|(partition, _, _, replica)| (*partition, *replica)).collect()
    }

    async fn seen(&self, sequence: u64, replica: u32) -> i64 {
        eventually_within(deadline::RECOVERY, "the other replica handles it", async || {
            let handled = self.handled.lock().unwrap();
            let mut of_this = handled.iter().filter(|seen| (seen.1, seen.3) == (sequence, replica));
            of_this.next().map(|(_, _, attempt, _)| *attempt)
        })
        .await
    }
}

const fn one_of_two(replica: u32) -> Share {
    Share { replica, replicas: 2 }
}

fn each_its_own() -> BTreeMap<u32, u32> {
    (0..PARTITIONS).map(|partition| (partition, partition % 2)).collect()
}

#[tokio::test]
async fn a_replica_that_comes_later_gets_its_partitions_back() {
    let mut replicas = Replicas::none().await;
    replicas.start(one_of_two(0)).await;
    let alone: BTreeMap<u32, u32> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    assert_eq!(replicas.round().await, alone);
    replicas.start(one_of_two(1)).await;
    // Who asks for a partition gets it with the next message, so there always is one.
    let load = async {
        loop {
            for partition in 0..PARTITIONS {
                replicas.publish(partition, "x").await;
            }
        }
    };
    tokio::select! {
        () = load => (),
        () = eventually_within(deadline::RECOVERY, "each reads its own", async || {
            replicas.readers() == each_its_own()
        }) => (),
    }
    // Whatever moved on the way: nobody was given anything more often than handing over takes.
    let handled = replicas.handled.lock().unwrap();
    assert!(handled.iter().all(|(_, _, attempt, _)| *attempt <= 2), "{handled:?}");
}

/// Why the owner of a partition lost it, as the broker says.
async fn reason(unpinned: &mut async_nats::Subscriber, partition: u32) -> String {
    loop {
        let advisory = unpinned.next().await.unwrap();
        let advisory: Value = serde_json::from_slice(&advisory.payload).unwrap();
        if advisory["consumer"] == TRIP_REQUESTS.durable(partition) {
            return advisory["reason"].as_str().unwrap().to_owned();
        }
    }
}

async fn unpinned(nats: &Nats) -> async_nats::Subscriber {
    let subject = format!("$JS.EVENT.ADVISORY.CONSUMER.UNPINNED.{}.>", stream::RIDER);
    let advisories = nats.client.subscribe(subject).await.unwrap();
    nats.client.flush().await.unwrap();
    advisories
}

#[tokio::test]
async fn a_replica_that_stops_hands_its_partitions_over() {
    let mut replicas = Replicas::none().await;
    let first = replicas.start(one_of_two(0)).await;
    replicas.round().await;
    replicas.start(one_of_two(1)).await;
    let mut unpinned = unpinned(&replicas.nats).await;
    // Whoever just was given a message owns its partition.
    while replicas.round().await.get(&0) != Some(&0) {}
    first.cancel();
    // Not by the time-out of a pin: it says so itself.
    assert_eq!(reason(&mut unpinned, 0).await, "admin");
    let sequence = replicas.publish(0, "x").await;
    assert_eq!(replicas.seen(sequence, 1).await, 1);
}

#[tokio::test]
async fn what_a_dead_replica_had_in_hand_is_read_by_another() {
    let mut replicas = Replicas::none().await;
    replicas.start(one_of_two(0)).await;
    let deadly = replicas.publish(0, "deadly").await;
    let after = replicas.publish(0, "after").await;
    replicas.seen(deadly, 0).await;
    let mut unpinned = unpinned(&replicas.nats).await;
    replicas.running.abort_all();
    while replicas.running.join_next().await.is_some() {}
    replicas.start(one_of_two(1)).await;
    assert_eq!(reason(&mut unpinned, 0).await, "timeout");
    assert!(replicas.seen(deadly, 1).await > 1, "the broker counted the first try");
    assert_eq!(replicas.seen(after, 1).await, 1);
}
