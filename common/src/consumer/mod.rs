//! The loops that read durable consumers, and the only place that acknowledges. A handler only
//! says how it went.

mod answered;
mod config;
pub mod dead;
mod lag;
mod patience;
mod pull;
mod reader;
mod replay;
mod share;
mod verdict;

use std::{future::Future, sync::Arc};

use async_nats::HeaderMap;
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::{
    config::{ConsumerConfig, RETRY_FIRST_MS},
    lag::watch as watch_lag,
    share::Share,
    verdict::{Class, UnknownClass, Verdict, acks_first, admit, verdict},
};
use self::{
    patience::Patience,
    reader::{Reader, Source},
};
use crate::{
    breaker::Breaker, clock::Timestamp, contract::Malformed, decider::Recorder, envelope::Envelope,
    event_store::ExecuteError, nats::Nats, stream::ConsumerSpec,
};

/// Why a message could not be handled, split by what happens next.
#[derive(Debug)]
pub enum Failure {
    /// It may go better later: five tries with growing pauses, then the DLQ.
    Transient(anyhow::Error),
    /// It can never go better: to the DLQ at once.
    Permanent(anyhow::Error),
    /// The handler gave no answer in time. Five tries.
    Hung(anyhow::Error),
    /// The handler panicked. Five tries.
    Fatal(anyhow::Error),
}

impl Failure {
    /// In one word.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Transient(_) => Class::Transient,
            Self::Permanent(_) => Class::Permanent,
            Self::Hung(_) => Class::Hung,
            Self::Fatal(_) => Class::Fatal,
        }
    }
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
    /// It was given up, perhaps after it had its effect, perhaps long ago, and comes back.
    pub is_returned: bool,
    patience: Patience,
}

impl Delivery {
    /// The first delivery of a message.
    #[must_use]
    pub fn new(
        subject: String,
        sequence: u64,
        published: Timestamp,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Self {
        Self {
            subject,
            sequence,
            published,
            attempt: 1,
            delivered: 1,
            pending: 0,
            headers,
            payload,
            is_returned: false,
            patience: Patience::default(),
        }
    }

    /// Waits for something that is nobody's fault, such as a dependency whose breaker is open. The
    /// time that the handler may take stands still meanwhile.
    pub async fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.patience.wait(work).await
    }

    /// The message's envelope.
    ///
    /// # Errors
    /// When it has none that can be read.
    pub fn envelope(&self) -> Result<Envelope, Malformed> {
        Envelope::from_headers(&self.headers)
    }
}

/// Reads every partition of a consumer until shutdown, and what operations send back to it.
/// `handler` gets the message and the number of its partition (0 where there are none).
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
    read(nats, spec, None, shutdown, handler).await
}

/// As [`run`], for a worker whose handler calls a dependency behind this breaker: while it is not
/// closed no more than one message to try it with is asked for.
///
/// # Errors
/// As [`run`].
pub async fn run_behind<H, Fut>(
    nats: &Nats,
    spec: ConsumerSpec,
    breaker: Breaker,
    shutdown: CancellationToken,
    handler: H,
) -> anyhow::Result<()>
where
    H: Fn(Delivery, u32) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    read(nats, spec, Some(breaker), shutdown, handler).await
}

async fn read<H, Fut>(
    nats: &Nats,
    spec: ConsumerSpec,
    breaker: Option<Breaker>,
    shutdown: CancellationToken,
    handler: H,
) -> anyhow::Result<()>
where
    H: Fn(Delivery, u32) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let mut loops = JoinSet::new();
    let partitions = spec.partitions(nats.partitions).map(Source::Partition);
    for source in partitions.chain(spec.replays().map(Source::Replay)) {
        let reader = Reader {
            nats: nats.clone(),
            spec,
            source,
            breaker: breaker.clone(),
            answered: Arc::default(),
        };
        let (handler, shutdown) = (handler.clone(), shutdown.clone());
        loops.spawn(async move { reader.run(shutdown, handler).await });
    }
    while let Some(ended) = loops.join_next().await {
        ended?;
    }
    Ok(())
}
