//! The loops against a real broker: order, tries, dead letters, take-over, hand-over.

mod kinds;
mod lanes;
mod pings;
mod poison;
mod sharing;

use std::{
    future::Future,
    sync::{Arc, Mutex},
};

use async_nats::jetstream::{message::StreamMessage, stream::LastRawMessageErrorKind};
use common::{
    consumer::{self, ConsumerConfig, Delivery, Failure, Share},
    id::RiderId,
    nats::Nats,
    stream::{self, ConsumerSpec},
    subject::Partitions,
    testing::{self, TestBroker},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Pauses between tries that a test can wait for.
pub(crate) const FAST: ConsumerConfig =
    ConsumerConfig { retry_first_ms: 20, handling_max_ms: Some(400), share: Share::ALIKE };

pub(crate) async fn prepared() -> (TestBroker, Nats) {
    let broker = testing::broker().await;
    let nats = Nats::new(broker.client().await, Partitions::new(1).unwrap());
    nats.prepare().await.unwrap();
    (broker, nats)
}

/// As [`prepared`], without patience.
pub(crate) async fn hurried() -> (TestBroker, Nats) {
    let (broker, mut nats) = prepared().await;
    nats.consuming = FAST;
    (broker, nats)
}

pub(crate) async fn publish(nats: &Nats, text: impl Into<Vec<u8>>) -> u64 {
    let subject = nats.partitions.rider_event(RiderId::fresh());
    let ack = nats.jetstream.publish(subject, text.into().into()).await.unwrap();
    ack.await.unwrap().sequence
}

/// The letter of a message that a consumer's first (or only) partition gave up.
pub(crate) async fn dead_letter(
    nats: &Nats,
    spec: ConsumerSpec,
    sequence: u64,
) -> Option<StreamMessage> {
    let dlq = nats.admin.get_stream(stream::DLQ).await.unwrap();
    let subject = format!("dlq.{}.{}.{sequence}", spec.durable(0), spec.stream);
    match dlq.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => Some(message),
        Err(err) if err.kind() == LastRawMessageErrorKind::NoMessageFound => None,
        Err(err) => panic!("{err}"),
    }
}

/// How many letters there are.
pub(crate) async fn dead_letters(nats: &Nats) -> u64 {
    let mut dlq = nats.admin.get_stream(stream::DLQ).await.unwrap();
    dlq.info().await.unwrap().state.messages
}

/// What handlers saw: the text and which try it was.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<(String, i64)>>>);

impl Seen {
    pub(crate) fn note(&self, delivery: &Delivery) -> (String, i64) {
        let text = String::from_utf8_lossy(&delivery.payload).into_owned();
        let seen = (text, delivery.attempt);
        self.0.lock().unwrap().push(seen.clone());
        seen
    }

    pub(crate) fn all(&self) -> Vec<(String, i64)> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Which tries were made of a text, in order.
    pub(crate) fn tries_of(&self, text: &str) -> Vec<i64> {
        self.all()
            .into_iter()
            .filter(|(seen, _)| seen == text)
            .map(|(_, attempt)| attempt)
            .collect()
    }
}

/// One process that consumes. Dropping it is `kill -9`: nothing is said to the broker.
pub(crate) struct Process {
    shutdown: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
}

impl Process {
    pub(crate) fn start<H, Fut>(nats: &Nats, spec: ConsumerSpec, handler: H) -> Self
    where
        H: Fn(Delivery, u32) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let (nats, shutdown) = (nats.clone(), CancellationToken::new());
        let (mut running, stop) = (JoinSet::new(), shutdown.clone());
        running.spawn(async move { consumer::run(&nats, spec, stop, handler).await });
        Self { shutdown, running }
    }

    /// Kills it and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.running.shutdown().await;
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap().unwrap();
        }
    }
}
