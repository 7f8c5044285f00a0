//! Reads one partition of a consumer, or what operations send back to it: takes messages, hands
//! each to the handler, and carries out what the verdict says.

mod own;
mod settle;
mod work;

use std::{future::Future, sync::Arc, time::Duration};

use async_nats::jetstream::{
    AckKind,
    consumer::{Consumer, pull},
};
use tokio_util::sync::CancellationToken;

use self::own::Seat;
use super::{Delivery, Failure, answered::Answered, pull::Pull, share::Turn};
use crate::{
    breaker::Breaker,
    nats::Nats,
    stream::{ConsumerKind, ConsumerSpec, OWNER_GROUP, REPLAY, ReplaySpec},
};

/// Pause before a loop that lost its consumer opens it again.
pub(super) const REOPEN_AFTER: Duration = Duration::from_millis(200);
/// Messages that one pull of a worker or a pings loop asks for.
const WINDOW_BATCH: usize = 64;
/// How long a stopping loop may take for the messages that it has in hand.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Where messages come from: first, or once more.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Partition(u32),
    Replay(ReplaySpec),
}

#[derive(Clone)]
pub(super) struct Reader {
    pub(super) nats: Nats,
    pub(super) spec: ConsumerSpec,
    pub(super) source: Source,
    pub(super) breaker: Option<Breaker>,
    pub(super) answered: Arc<Answered>,
}

impl Reader {
    fn durable(&self) -> String {
        match self.source {
            Source::Partition(partition) => self.spec.durable(partition),
            Source::Replay(replays) => replays.durable(),
        }
    }

    fn stream(&self) -> &'static str {
        match self.source {
            Source::Partition(_) => self.spec.stream,
            Source::Replay(_) => REPLAY,
        }
    }

    fn kind(&self) -> ConsumerKind {
        match self.source {
            Source::Partition(_) => self.spec.kind,
            Source::Replay(replays) => replays.kind,
        }
    }

    pub(super) async fn run<H, Fut>(self, shutdown: CancellationToken, handler: H)
    where
        H: Fn(Delivery, u32) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let durable = self.durable();
        let mut seat = Seat { turn: Turn::new(self.is_own()), pin: None };
        shutdown.run_until_cancelled(tokio::time::sleep(seat.turn.head_start())).await;
        while !shutdown.is_cancelled() {
            let read = self.read(&shutdown, &handler, &mut seat).await;
            seat.turn.ended();
            let mut pause = seat.turn.head_start();
            if let Err(err) = read {
                tracing::debug!(consumer = durable, error = %err, "opening the consumer anew");
                pause += REOPEN_AFTER;
            }
            shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    fn is_own(&self) -> bool {
        match self.source {
            Source::Partition(partition) if self.kind().is_owned() => {
                self.nats.consuming.share.is_own(partition)
            }
            Source::Partition(_) | Source::Replay(_) => true,
        }
    }

    /// Reads until shutdown or the end of its turn (`Ok`), or until the pull breaks. A missed
    /// heartbeat breaks it: whatever is buffered here may belong to the next owner by now.
    async fn read<H, Fut>(
        &self,
        shutdown: &CancellationToken,
        handler: &H,
        seat: &mut Seat,
    ) -> Result<(), async_nats::Error>
    where
        H: Fn(Delivery, u32) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let (durable, stream) = (self.durable(), self.stream());
        if !self.kind().is_owned() {
            let consumer: Consumer<pull::Config> =
                self.nats.jetstream.get_consumer_from_stream(&durable, stream).await?;
            return self.work(&consumer, shutdown, handler).await;
        }
        let pull = Pull::open(&self.nats, stream, &durable).await?;
        if let Some(left) = self.own(pull, shutdown, handler, seat).await? {
            // A hand-over in milliseconds instead of the pin's time-out.
            let stream = self.nats.jetstream.get_stream_no_info(stream).await?;
            stream.unpin_consumer(&durable, OWNER_GROUP).await?;
            // And the next owner need not wait for what this one was given and did not read.
            for message in left {
                message.ack_with(AckKind::Nak(None)).await?;
            }
        }
        Ok(())
    }
}
