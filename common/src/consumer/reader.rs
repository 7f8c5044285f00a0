//! Reads one partition of a consumer, or what operations send back to it: takes messages, hands
//! each to the handler, and carries out what the verdict says.

use std::{
    collections::VecDeque,
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::jetstream::{
    self, AckKind,
    consumer::{Consumer, pull},
};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Class, Delivery, Failure, Verdict, acks_first, admit,
    dead::{self, Obituary},
    patience::{Patience, with_progress, within},
    replay::Returned,
    share::Turn,
    verdict,
};
use crate::{
    breaker::{Breaker, State},
    clock::Timestamp,
    failpoint, metrics,
    nats::Nats,
    stream::{
        ConsumerKind, ConsumerSpec, HANDLED_BYTES_MAX, OWNER_GROUP, PINGS_IN_FLIGHT, PULL_EXPIRES,
        REPLAY, ReplaySpec, TRIES_MAX, WORKER_IN_FLIGHT,
    },
};

/// Pause before a loop that lost its consumer opens it again.
pub(super) const REOPEN_AFTER: Duration = Duration::from_millis(200);
/// Messages that one pull of a lane asks for.
const LANE_BATCH: usize = 16;
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

#[derive(Clone)]
pub(super) struct Reader {
    pub(super) nats: Nats,
    pub(super) spec: ConsumerSpec,
    pub(super) source: Source,
    pub(super) breaker: Option<Breaker>,
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
        let mut turn = Turn::new(self.is_own());
        shutdown.run_until_cancelled(tokio::time::sleep(turn.head_start())).await;
        while !shutdown.is_cancelled() {
            let read = self.read(&shutdown, &handler, &mut turn).await;
            turn.ended();
            let mut pause = turn.head_start();
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
        turn: &mut Turn,
    ) -> Result<(), async_nats::Error>
    where
        H: Fn(Delivery, u32) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let (durable, stream) = (self.durable(), self.stream());
        let consumer: Consumer<pull::Config> =
            self.nats.jetstream.get_consumer_from_stream(&durable, stream).await?;
        match self.kind() {
            ConsumerKind::Worker | ConsumerKind::Single => {
                self.work(&consumer, shutdown, handler).await
            }
            kind @ (ConsumerKind::Lane | ConsumerKind::Pings) => {
                let batch = if kind == ConsumerKind::Lane { LANE_BATCH } else { WINDOW_BATCH };
                let pull = pulling(&consumer).group(OWNER_GROUP);
                let messages = pull.max_messages_per_batch(batch).messages().await?;
                if let Some(left) = self.own(messages, shutdown, handler, turn).await? {
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
    }

    /// One message after the other. While one is in hand the pull is polled on, because an owner
    /// that does not pull loses its pin. What an owner had been given and did not read comes back.
    async fn own<H, Fut>(
        &self,
        mut messages: pull::Stream,
        shutdown: &CancellationToken,
        handler: &H,
        turn: &mut Turn,
    ) -> Result<Option<Vec<jetstream::Message>>, async_nats::Error>
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
                None => tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return Ok(is_owner.then(|| left(messages, waiting))),
                    () = turn.over() => return Ok(is_owner.then(|| left(messages, waiting))),
                    next = messages.next() => next.transpose()?,
                },
            };
            let Some(message) = next else { return Err("the consumer ended".into()) };
            is_owner = true;
            turn.came();
            let mut settled = pin!(self.settle(message, handler));
            loop {
                tokio::select! {
                    biased;
                    () = &mut settled => break,
                    () = &mut drained => {
                        tracing::warn!(consumer = self.spec.name, "a message left to redelivery");
                        return Ok(Some(left(messages, waiting)));
                    }
                    next = messages.next(), if waiting.len() < window => match next {
                        Some(message) => waiting.push_back(message?),
                        None => return Err("the consumer ended".into()),
                    },
                }
            }
            if shutdown.is_cancelled() {
                return Ok(Some(left(messages, waiting)));
            }
        }
    }

    /// Many messages at a time, in no order. While calls to the dependency have to wait nothing is
    /// pulled: another replica may be able to handle it. What is in hand is kept, and waits.
    async fn work<H, Fut>(
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

    /// Handles one message and tells the broker how it went. Losing an ack only costs a repetition.
    async fn settle<H, Fut>(&self, message: jetstream::Message, handler: &H)
    where
        H: Fn(Delivery, u32) -> Fut,
        Fut: Future<Output = Result<(), Failure>>,
    {
        let started = Instant::now();
        let seen = match delivery(&message) {
            Ok(seen) => seen,
            Err(err) => {
                tracing::warn!(consumer = self.spec.name, error = %err, "not a delivery");
                return;
            }
        };
        let (sequence, attempt, published) = (seen.sequence, seen.attempt, seen.published);
        let Some(case) = self.case(&message, seen).await else { return };
        if acks_first()
            && let Err(err) = message.ack_with(AckKind::Ack).await
        {
            tracing::debug!(sequence, error = %err, "ack not sent");
        }
        let (attempt, handled) = match admit(attempt) {
            Ok(()) => (attempt, self.handle(&message, &case, handler).await),
            Err(unanswered) => (TRIES_MAX, Err(unanswered)),
        };
        self.count(attempt, &handled);
        let judged = verdict(handled, attempt, sequence, self.nats.consuming.retry_first());
        let settled = match judged {
            Verdict::Ack => self.close(&case, attempt).await.map(|()| AckKind::Ack),
            Verdict::Retry { after, err } => {
                tracing::warn!(
                    consumer = self.durable(),
                    stream = self.stream(),
                    sequence,
                    attempt,
                    duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(0),
                    error = format!("{err:#}"),
                    "not handled, trying again",
                );
                Ok(self.pause(&message, after).await)
            }
            Verdict::Bury { class, err } => {
                let given_up = GivenUp { sequence, attempt, published, class, err };
                let buried = self.bury(&message, &case, given_up);
                with_progress(&message, buried).await.map(|()| AckKind::Term)
            }
        };
        let acked = match settled {
            Ok(kind) => message.ack_with(kind).await,
            // It comes again.
            Err(err) => Err(err.into()),
        };
        if let Err(err) = acked {
            tracing::debug!(consumer = self.spec.name, sequence, error = %err, "ack not sent");
        }
    }

    fn count(&self, attempt: i64, handled: &Result<(), Failure>) {
        let consumer = ("consumer", self.spec.name);
        metrics::CONSUMER_DELIVERIES.with(&[consumer]).increment(1);
        if attempt > 1 {
            metrics::CONSUMER_REDELIVERIES.with(&[consumer]).increment(1);
        }
        if let Err(failure) = handled {
            let labels = [consumer, ("class", failure.class().name())];
            metrics::CONSUMER_FAILURES.with(&labels).increment(1);
        }
    }

    /// What a handler is given; nothing if it is no replay that anybody could make sense of.
    async fn case(&self, message: &jetstream::Message, seen: Delivery) -> Option<Case> {
        match self.source {
            Source::Partition(partition) => Some(Case::First { delivery: seen, partition }),
            Source::Replay(_) => match Returned::read(&seen) {
                Ok(returned) => Some(Case::Again(returned)),
                Err(err) => {
                    tracing::error!(subject = %message.subject, error = %err, "not a replay");
                    if let Err(err) = message.ack_with(AckKind::Term).await {
                        tracing::debug!(error = %err, "ack not sent");
                    }
                    None
                }
            },
        }
    }

    async fn handle<H, Fut>(
        &self,
        message: &jetstream::Message,
        case: &Case,
        handler: &H,
    ) -> Result<(), Failure>
    where
        H: Fn(Delivery, u32) -> Fut,
        Fut: Future<Output = Result<(), Failure>>,
    {
        let (delivery, partition) = case.parts();
        let size = delivery.payload.len();
        if self.spec.kind != ConsumerKind::Pings && size > HANDLED_BYTES_MAX {
            let most = HANDLED_BYTES_MAX;
            return Err(Failure::Permanent(anyhow::anyhow!("{size} bytes, the most is {most}")));
        }
        self.nats.clock.merge_from(&delivery.headers);
        failpoint::reach("consumer.received");
        let handled = async {
            match failpoint::poison(&delivery.headers) {
                None => handler(delivery.clone(), partition).await,
                Some(poison) => Err(Failure::Transient(poison.suffer().await)),
            }
        };
        let limit = self.nats.consuming.handling_max(self.spec.kind);
        let handled = within(limit, &delivery.patience, message, handled).await;
        failpoint::reach("consumer.handled");
        handled
    }

    /// Keeps what has to be kept of a message that is handled.
    async fn close(&self, case: &Case, attempt: i64) -> anyhow::Result<()> {
        match case {
            Case::First { .. } => Ok(()),
            Case::Again(returned) => returned.handled(&self.nats, attempt).await,
        }
    }

    /// Keeps what has to be kept of a message that is given up, before it is let go.
    async fn bury(
        &self,
        message: &jetstream::Message,
        case: &Case,
        given_up: GivenUp,
    ) -> anyhow::Result<()> {
        let GivenUp { sequence, attempt, published, class, err } = given_up;
        let error = format!("{err:#}");
        match case {
            Case::First { .. } => {
                let obituary = Obituary {
                    consumer: &self.durable(),
                    stream: self.stream(),
                    sequence,
                    subject: &message.subject,
                    stored_at: published,
                    attempts: attempt,
                    class,
                    error,
                    headers: message.headers.as_ref(),
                    payload: message.payload.clone(),
                };
                dead::bury(&self.nats, &obituary).await;
                Ok(())
            }
            // There is a letter already. Its history tells that it failed once more.
            Case::Again(returned) => returned.failed(&self.nats, attempt, class, &error).await,
        }
    }

    /// A worker hands the message back for later. A lane waits in place: in its order there is
    /// nothing else to do, and a message handed back with a delay would be overtaken.
    async fn pause(&self, message: &jetstream::Message, pause: Duration) -> AckKind {
        if self.kind().is_owned() {
            with_progress(message, tokio::time::sleep(pause)).await;
            AckKind::Nak(None)
        } else {
            AckKind::Nak(Some(pause))
        }
    }
}

/// A message in hand.
enum Case {
    First { delivery: Delivery, partition: u32 },
    Again(Returned),
}

impl Case {
    fn parts(&self) -> (&Delivery, u32) {
        match self {
            Self::First { delivery, partition } => (delivery, *partition),
            Self::Again(returned) => (&returned.delivery, returned.partition),
        }
    }
}

/// How it went with a message that is given up.
struct GivenUp {
    sequence: u64,
    attempt: i64,
    published: Timestamp,
    class: Class,
    err: anyhow::Error,
}

/// What a reader that stops was given and did not read. The pull ends here: what the broker gives
/// from now on goes to others.
fn left(
    mut messages: pull::Stream,
    waiting: VecDeque<jetstream::Message>,
) -> Vec<jetstream::Message> {
    let mut left = Vec::from(waiting);
    while let Some(Some(Ok(message))) = messages.next().now_or_never() {
        left.push(message);
    }
    left
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
        patience: Patience::default(),
    })
}
