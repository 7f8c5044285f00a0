//! Reads a consumer whose messages go to whoever is free, many at a time.

use std::{future::Future, sync::Arc};

use async_nats::jetstream::consumer::{Consumer, pull};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{DRAIN_MAX, Reader, WINDOW_BATCH};
use crate::{
    breaker::State,
    consumer::{Delivery, Failure},
    stream::{PULL_EXPIRES, WORKER_IN_FLIGHT},
};

/// Why no more messages are taken.
enum Taken {
    /// The service stops.
    Stopping,
    /// The breaker is not closed.
    Shut,
}

/// Messages that are being handled.
struct InHand {
    tasks: JoinSet<()>,
    free: Arc<Semaphore>,
}

impl InHand {
    fn new() -> Self {
        let window = usize::try_from(WORKER_IN_FLIGHT).unwrap_or(1);
        Self { tasks: JoinSet::new(), free: Arc::new(Semaphore::new(window)) }
    }
}

fn pulling(consumer: &Consumer<pull::Config>) -> pull::StreamBuilder<'_> {
    consumer.stream().expires(PULL_EXPIRES).heartbeat(PULL_EXPIRES / 2)
}

impl Reader {
    /// Many messages at a time, in no order. While calls to the dependency have to wait nothing is
    /// pulled: another replica may be able to handle it. What is in hand is kept, and waits.
    pub(super) async fn work<H, Fut>(
        &self,
        consumer: &Consumer<pull::Config>,
        shutdown: &CancellationToken,
        handler: &H,
    ) -> Result<(), async_nats::Error>
    where
        H: Fn(Delivery, u32) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let mut in_hand = InHand::new();
        let ended = loop {
            if shutdown.run_until_cancelled(self.opened(&mut in_hand)).await.is_none() {
                break Ok(());
            }
            match self.take(consumer, &mut in_hand, shutdown, handler).await {
                Ok(Taken::Stopping) => break Ok(()),
                Ok(Taken::Shut) => {}
                Err(err) => break Err(err),
            }
        };
        let mut in_hand = in_hand.tasks;
        let drained = async { while in_hand.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
            tracing::warn!(consumer = self.spec.name, "messages in hand left to redelivery");
        }
        ended
    }

    async fn take<H, Fut>(
        &self,
        consumer: &Consumer<pull::Config>,
        in_hand: &mut InHand,
        shutdown: &CancellationToken,
        handler: &H,
    ) -> Result<Taken, async_nats::Error>
    where
        H: Fn(Delivery, u32) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let settle = |message, place| {
            let (this, handler) = (self.clone(), handler.clone());
            async move {
                this.settle(message, &handler).await;
                drop(place);
            }
        };
        let is_probe = self.breaker.as_ref().is_some_and(|it| it.state() != State::Closed);
        let batch = if is_probe { 1 } else { WINDOW_BATCH };
        let mut messages = pulling(consumer).max_messages_per_batch(batch).messages().await?;
        loop {
            while in_hand.tasks.try_join_next().is_some() {}
            let place = Arc::clone(&in_hand.free).acquire_owned().await?;
            let next = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Taken::Stopping),
                () = self.shut() => break,
                next = messages.next() => next,
            };
            let message = next.ok_or("the consumer ended")??;
            in_hand.tasks.spawn(settle(message, place));
            if is_probe {
                break;
            }
        }
        // What has come already is taken in hand too: left lying it would lose a try.
        while let Some(Some(Ok(message))) = messages.next().now_or_never() {
            let place = Arc::clone(&in_hand.free).acquire_owned().await?;
            in_hand.tasks.spawn(settle(message, place));
        }
        Ok(Taken::Shut)
    }

    /// Waits until messages may be asked for. What is in hand makes the probes; only where there is
    /// nothing in hand another message is needed for one.
    async fn opened(&self, in_hand: &mut InHand) {
        let Some(breaker) = &self.breaker else { return };
        while !in_hand.tasks.is_empty() {
            tokio::select! {
                () = breaker.closed() => return,
                _ = in_hand.tasks.join_next() => {}
            }
        }
        breaker.opened().await;
    }

    async fn shut(&self) {
        match &self.breaker {
            Some(breaker) => breaker.shut().await,
            None => std::future::pending().await,
        }
    }
}
