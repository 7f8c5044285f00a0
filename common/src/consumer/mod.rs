//! The loops that read durable consumers, and the only place that acknowledges. A handler only
//! says how it went.

pub mod dead;
mod verdict;

use std::{
    collections::VecDeque,
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{
    HeaderMap,
    jetstream::{
        self, AckKind,
        consumer::{Consumer, pull},
    },
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::verdict::BACKOFF_FIRST;
pub use self::verdict::{Verdict, verdict};
use crate::{
    clock::Timestamp,
    contract::Malformed,
    decider::Recorder,
    envelope::Envelope,
    event_store::ExecuteError,
    failpoint,
    nats::Nats,
    stream::{
        ACK_WAIT, ConsumerKind, ConsumerSpec, OWNER_GROUP, PINGS_IN_FLIGHT, PULL_EXPIRES,
        WORKER_IN_FLIGHT,
    },
};

/// Pause before a loop that lost its consumer opens it again.
const REOPEN_AFTER: Duration = Duration::from_millis(200);
/// Messages that one pull of a lane asks for.
const LANE_BATCH: usize = 16;
/// Messages that one pull of a worker or a pings loop asks for.
const WINDOW_BATCH: usize = 64;
/// How long a stopping loop may take for the messages that it has in hand.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Why a message could not be handled, split by what happens next.
#[derive(Debug)]
pub enum Failure {
    /// It may go better later: five tries with growing pauses, then the DLQ.
    Transient(anyhow::Error),
    /// It can never go better: to the DLQ at once.
    Permanent(anyhow::Error),
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::Permanent(malformed.into())
    }
}

impl<D: Recorder> From<ExecuteError<D>> for Failure {
    fn from(err: ExecuteError<D>) -> Self {
        match err {
            ExecuteError::Corrupt(malformed) => malformed.into(),
            ExecuteError::Rejected { rejection, .. } => {
                Self::Permanent(anyhow::anyhow!("rejected: {rejection:?}"))
            }
            ExecuteError::Unsettled | ExecuteError::Unavailable(_) => {
                Self::Transient(anyhow::anyhow!("{err}"))
            }
        }
    }
}

/// A message, as a handler sees it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the broker stored it.
    pub published: Timestamp,
    /// Which try this is; 1 is the first.
    pub attempt: i64,
    /// Which delivery of its consumer this is. A gap says that in between somebody else was given
    /// messages, or that some were lost on the way.
    pub delivered: u64,
    /// How many more the consumer has to read.
    pub pending: u64,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
}

impl Delivery {
    /// The message's envelope.
    ///
    /// # Errors
    /// When it has none that can be read.
    pub fn envelope(&self) -> Result<Envelope, Malformed> {
        Envelope::from_headers(&self.headers)
    }
}

/// Reads every partition of a consumer until shutdown. `handler` gets the message and the number
/// of its partition (0 for a worker).
///
/// # Errors
/// When a loop ends that should not: its consumer's name is refused, or it panicked.
pub async fn run<H, Fut>(
    nats: &Nats,
    spec: ConsumerSpec,
    shutdown: CancellationToken,
    handler: H,
) -> anyhow::Result<()>
where
    H: Fn(Delivery, u32) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let mut loops = JoinSet::new();
    for partition in spec.partitions(nats.partitions) {
        let reader = Reader { nats: nats.clone(), spec, partition };
        let (handler, shutdown) = (handler.clone(), shutdown.clone());
        loops.spawn(async move { reader.run(shutdown, handler).await });
    }
    while let Some(ended) = loops.join_next().await {
        ended?;
    }
    Ok(())
}

#[derive(Clone)]
struct Reader {
    nats: Nats,
    spec: ConsumerSpec,
    partition: u32,
}

impl Reader {
    async fn run<H, Fut>(self, shutdown: CancellationToken, handler: H)
    where
        H: Fn(Delivery, u32) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let durable = self.spec.durable(self.partition);
        while !shutdown.is_cancelled() {
            let Err(err) = self.read(&shutdown, &handler).await else { break };
            tracing::debug!(consumer = durable, error = %err, "opening the consumer anew");
            shutdown.run_until_cancelled(tokio::time::sleep(REOPEN_AFTER)).await;
        }
    }

    /// Reads until shutdown (`Ok`) or until the pull breaks. A missed heartbeat breaks it: whatever
    /// is buffered here may belong to the next owner by now.
    async fn read<H, Fut>(
        &self,
        shutdown: &CancellationToken,
        handler: &H,
    ) -> Result<(), async_nats::Error>
    where
        H: Fn(Delivery, u32) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let durable = self.spec.durable(self.partition);
        let consumer: Consumer<pull::Config> =
            self.nats.jetstream.get_consumer_from_stream(&durable, self.spec.stream).await?;
        let pull = consumer.stream().expires(PULL_EXPIRES).heartbeat(PULL_EXPIRES / 2);
        match self.spec.kind {
            ConsumerKind::Worker => {
                let messages = pull.max_messages_per_batch(WINDOW_BATCH).messages().await?;
                self.work(messages, shutdown, handler).await
            }
            ConsumerKind::Lane | ConsumerKind::Pings => {
                let batch = match self.spec.kind {
                    ConsumerKind::Lane => LANE_BATCH,
                    ConsumerKind::Pings | ConsumerKind::Worker => WINDOW_BATCH,
                };
                let messages =
                    pull.group(OWNER_GROUP).max_messages_per_batch(batch).messages().await?;
                let is_owner = self.own(messages, shutdown, handler).await?;
                if is_owner {
                    // A hand-over in milliseconds instead of the pin's time-out.
                    let stream = self.nats.jetstream.get_stream_no_info(self.spec.stream).await?;
                    stream.unpin_consumer(&durable, OWNER_GROUP).await?;
                }
                Ok(())
            }
        }
    }

    /// One message after the other. While one is in hand the pull is polled on, because an owner
    /// that does not pull loses its pin.
    async fn own<H, Fut>(
        &self,
        mut messages: pull::Stream,
        shutdown: &CancellationToken,
        handler: &H,
    ) -> Result<bool, async_nats::Error>
    where
        H: Fn(Delivery, u32) -> Fut,
        Fut: Future<Output = Result<(), Failure>>,
    {
        let mut is_owner = false;
        let mut waiting: VecDeque<jetstream::Message> = VecDeque::new();
        let mut drained = pin!(async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN_MAX).await;
        });
        let window = usize::try_from(PINGS_IN_FLIGHT).unwrap_or(usize::MAX);
        loop {
            let next = match waiting.pop_front() {
                Some(message) => Some(message),
                None => match shutdown.run_until_cancelled(messages.next()).await {
                    None => return Ok(is_owner),
                    Some(next) => next.transpose()?,
                },
            };
            let Some(message) = next else { return Err("the consumer ended".into()) };
            is_owner = true;
            let mut settled = pin!(self.settle(message, handler));
            loop {
                tokio::select! {
                    biased;
                    () = &mut settled => break,
                    () = &mut drained => {
                        tracing::warn!(consumer = self.spec.name, "a message left to redelivery");
                        return Ok(is_owner);
                    }
                    next = messages.next(), if waiting.len() < window => match next {
                        Some(message) => waiting.push_back(message?),
                        None => return Err("the consumer ended".into()),
                    },
                }
            }
            if shutdown.is_cancelled() {
                return Ok(is_owner);
            }
        }
    }

    /// Many messages at a time, in no order.
    async fn work<H, Fut>(
        &self,
        mut messages: pull::Stream,
        shutdown: &CancellationToken,
        handler: &H,
    ) -> Result<(), async_nats::Error>
    where
        H: Fn(Delivery, u32) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let window = usize::try_from(WORKER_IN_FLIGHT).unwrap_or(1);
        let free = Arc::new(Semaphore::new(window));
        let mut in_hand = JoinSet::new();
        let ended = loop {
            while in_hand.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&free).acquire_owned().await else { break Ok(()) };
            match shutdown.run_until_cancelled(messages.next()).await {
                None => break Ok(()),
                Some(None) => break Err("the consumer ended".into()),
                Some(Some(Err(err))) => break Err(err.into()),
                Some(Some(Ok(message))) => {
                    let (this, handler) = (self.clone(), handler.clone());
                    in_hand.spawn(async move {
                        this.settle(message, &handler).await;
                        drop(place);
                    });
                }
            }
        };
        let drained = async { while in_hand.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
            tracing::warn!(consumer = self.spec.name, "messages in hand left to redelivery");
        }
        ended
    }

    /// Handles one message and tells the broker how it went. Losing an ack only costs a repetition.
    async fn settle<H, Fut>(&self, message: jetstream::Message, handler: &H)
    where
        H: Fn(Delivery, u32) -> Fut,
        Fut: Future<Output = Result<(), Failure>>,
    {
        let started = Instant::now();
        let delivery = match delivery(&message) {
            Ok(delivery) => delivery,
            Err(err) => {
                tracing::warn!(consumer = self.spec.name, error = %err, "not a delivery");
                return;
            }
        };
        let (sequence, attempt) = (delivery.sequence, delivery.attempt);
        if let Ok(envelope) = delivery.envelope() {
            self.nats.clock.merge(envelope.hlc);
        }
        failpoint::reach("consumer.received");
        let handled = async {
            match failpoint::poison(&delivery.headers) {
                None => handler(delivery, self.partition).await,
                Some(poison) => Err(Failure::Transient(poison.suffer().await)),
            }
        };
        let handled = with_progress(&message, handled).await;
        failpoint::reach("consumer.handled");
        let kind = match verdict(handled, attempt, sequence) {
            Verdict::Ack => AckKind::Ack,
            Verdict::Retry { after, err } => {
                tracing::warn!(
                    consumer = self.spec.durable(self.partition),
                    stream = self.spec.stream,
                    sequence,
                    attempt,
                    duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(0),
                    error = format!("{err:#}"),
                    "not handled, trying again",
                );
                self.pause(&message, after).await
            }
            Verdict::Bury { err } => {
                with_progress(&message, self.bury(&message, sequence, attempt, &err)).await;
                AckKind::Term
            }
        };
        if let Err(err) = message.ack_with(kind).await {
            tracing::debug!(consumer = self.spec.name, sequence, error = %err, "ack not sent");
        }
    }

    /// A worker hands the message back for later. A lane waits in place: in its order there is
    /// nothing else to do, and a message handed back with a delay would be overtaken.
    async fn pause(&self, message: &jetstream::Message, pause: Duration) -> AckKind {
        match self.spec.kind {
            ConsumerKind::Worker => AckKind::Nak(Some(pause)),
            ConsumerKind::Lane | ConsumerKind::Pings => {
                with_progress(message, tokio::time::sleep(pause)).await;
                AckKind::Nak(None)
            }
        }
    }
}

/// Tells the broker, while something takes its time, that it is being worked on.
async fn with_progress<T>(message: &jetstream::Message, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let mut ticks =
        tokio::time::interval_at(tokio::time::Instant::now() + ACK_WAIT / 3, ACK_WAIT / 3);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = ticks.tick() => {
                if let Err(err) = message.ack_with(AckKind::Progress).await {
                    tracing::debug!(error = %err, "progress not sent");
                }
            }
        }
    }
}

fn delivery(message: &jetstream::Message) -> Result<Delivery, async_nats::Error> {
    let info = message.info()?;
    Ok(Delivery {
        subject: message.subject.to_string(),
        sequence: info.stream_sequence,
        published: Timestamp::from(info.published),
        attempt: info.delivered,
        delivered: info.consumer_sequence,
        pending: info.pending,
        headers: message.headers.clone().unwrap_or_default(),
        payload: message.payload.clone(),
    })
}
