//! Views: readers that follow a stream in order, without acks and without state in the broker. A
//! view keeps its own position, or begins with the last message of every subject.

use std::{future::Future, time::Duration};

use async_nats::jetstream::{
    self,
    consumer::{DeliverPolicy, pull},
};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use crate::log::Stored;
use crate::{clock::Timestamp, nats::Nats};

/// Pause before a reader that lost its consumer makes a new one.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Where a view begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the last message of every subject: one message for each aggregate, since every event
    /// carries the state it led to.
    LastPerSubject,
    /// After this sequence; 0 is the beginning.
    After(u64),
    /// With what was stored from then on.
    Since(Timestamp),
}

/// What to follow.
#[derive(Debug, Clone)]
pub struct ViewSpec {
    /// The stream.
    pub stream: &'static str,
    /// Which of its subjects.
    pub filter: String,
    /// From where.
    pub start: Start,
}

/// Whether a view has read all that was stored when it began.
#[derive(Debug, Clone)]
pub struct CaughtUp(watch::Sender<bool>);

impl Default for CaughtUp {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl CaughtUp {
    /// Whether it has.
    #[must_use]
    pub fn is_true(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it has.
    pub async fn wait(&self) {
        let mut seen = self.0.subscribe();
        if seen.wait_for(|caught_up| *caught_up).await.is_err() {
            tracing::debug!("the view is gone");
        }
    }

    fn set(&self) {
        self.0.send_replace(true);
    }
}

/// Follows a stream until shutdown and hands every message to `apply`, one after the other. What
/// goes wrong with the connection is mended by reading on after the last message seen.
///
/// # Errors
/// When `apply` fails: the service cannot go on with a view that has a hole.
pub async fn follow<F, Fut>(
    nats: &Nats,
    spec: ViewSpec,
    caught_up: &CaughtUp,
    shutdown: CancellationToken,
    mut apply: F,
) -> anyhow::Result<()>
where
    F: FnMut(Stored) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let mut start = spec.start;
    loop {
        let followed = follow_once(nats, &spec, &mut start, caught_up, &mut apply);
        match shutdown.run_until_cancelled(followed).await {
            None => return Ok(()),
            Some(Err(Broken::Apply(err))) => return Err(err),
            Some(Err(Broken::Read(why))) => {
                tracing::debug!(stream = spec.stream, filter = spec.filter, why, "reading anew");
            }
            Some(Ok(())) => {}
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(RETRY_AFTER)).await.is_none() {
            return Ok(());
        }
    }
}

enum Broken {
    Read(String),
    Apply(anyhow::Error),
}

fn read(err: impl std::fmt::Display) -> Broken {
    Broken::Read(err.to_string())
}

async fn follow_once<F, Fut>(
    nats: &Nats,
    spec: &ViewSpec,
    start: &mut Start,
    caught_up: &CaughtUp,
    apply: &mut F,
) -> Result<(), Broken>
where
    F: FnMut(Stored) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let stream = nats.jetstream.get_stream_no_info(spec.stream).await.map_err(read)?;
    let consumer = stream
        .create_consumer(pull::OrderedConfig {
            filter_subject: spec.filter.clone(),
            deliver_policy: policy(*start),
            ..pull::OrderedConfig::default()
        })
        .await
        .map_err(read)?;
    if consumer.cached_info().num_pending == 0 {
        caught_up.set();
    }
    let mut messages = consumer.messages().await.map_err(read)?;
    while let Some(message) = messages.next().await {
        let (stored, pending) = stored(message.map_err(read)?).map_err(read)?;
        let sequence = stored.sequence;
        nats.clock.merge_from(&stored.headers);
        apply(stored).await.map_err(Broken::Apply)?;
        *start = Start::After(sequence);
        if pending == 0 {
            caught_up.set();
        }
    }
    Ok(())
}

pub(crate) fn policy(start: Start) -> DeliverPolicy {
    match start {
        Start::LastPerSubject => DeliverPolicy::LastPerSubject,
        Start::After(0) => DeliverPolicy::All,
        Start::After(sequence) => DeliverPolicy::ByStartSequence { start_sequence: sequence + 1 },
        Start::Since(at) => DeliverPolicy::ByStartTime { start_time: at.into() },
    }
}

pub(crate) fn stored(message: jetstream::Message) -> Result<(Stored, u64), async_nats::Error> {
    let info = message.info()?;
    let (sequence, pending) = (info.stream_sequence, info.pending);
    let published = Timestamp::from(info.published);
    let (message, _) = message.split();
    let stored = Stored {
        subject: message.subject.to_string(),
        sequence,
        published,
        headers: message.headers.unwrap_or_default(),
        payload: message.payload,
    };
    Ok((stored, pending))
}
