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
use tokio::{sync::Semaphore, task::JoinSet, time::Interval};
use tokio_util::sync::CancellationToken;

use super::{
    Class, Delivery, Failure, Verdict, acks_first, admit,
    dead::{self, Obituary},
    patience::{PROGRESS_EVERY, Patience, every, say_progress, with_progress, within},
    pull::{Broken, Pin, Pull},
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

/// Where a reader of an owned consumer stands: whose turn it is, and what the broker knows it by.
struct Seat {
    turn: Turn,
    /// Kept when a pull breaks: an owner goes on with it, and need not wait for itself to time out.
    pin: Option<Pin>,
}

impl Seat {
    /// Gets up. What an owner was given and did not read; nothing of one that is none.
    fn left(&mut self, pull: Pull, waiting: Waiting) -> Option<Vec<jetstream::Message>> {
        self.pin.take()?;
        let mut left = Vec::from(waiting.messages);
        left.extend(pull.left());
        Some(left)
    }
}

/// What an owner was given while it has another message in hand. The broker is told of it, too: it
/// must not use up its tries by waiting.
struct Waiting {
    messages: VecDeque<jetstream::Message>,
    progress: Interval,
}

impl Waiting {
    fn new() -> Self {
        Self { messages: VecDeque::new(), progress: every(PROGRESS_EVERY) }
    }

    fn has_room(&self) -> bool {
        self.messages.len() < usize::try_from(PINGS_IN_FLIGHT).unwrap_or(usize::MAX)
    }

    fn push(&mut self, message: jetstream::Message) {
        self.messages.push_back(message);
    }

    fn next(&mut self) -> Option<jetstream::Message> {
        self.messages.pop_front()
    }

    /// Waits until the broker has to hear of it again, and says so.
    async fn keep(&mut self) {
        self.progress.tick().await;
        for message in &self.messages {
            say_progress(message).await;
        }
    }

    /// As [`Self::keep`] between two messages, where a handler that is always ready leaves no time.
    async fn keep_if_due(&mut self) {
        if self.progress.tick().now_or_never().is_some() {
            for message in &self.messages {
                say_progress(message).await;
            }
        }
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

    /// One message after the other. While one is in hand the pull is polled on, because an owner
    /// that does not pull loses its pin. What an owner had been given and did not read comes back.
    async fn own<H, Fut>(
        &self,
        mut pull: Pull,
        shutdown: &CancellationToken,
        handler: &H,
        seat: &mut Seat,
    ) -> Result<Option<Vec<jetstream::Message>>, Broken>
    where
        H: Fn(Delivery, u32) -> Fut,
        Fut: Future<Output = Result<(), Failure>>,
    {
        let mut waiting = Waiting::new();
        let mut drained = pin!(async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN_MAX).await;
        });
        let mut is_tasting = self.kind() == ConsumerKind::Pings;
        loop {
            waiting.keep_if_due().await;
            let message = match waiting.next() {
                Some(message) => message,
                None => tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return Ok(seat.left(pull, waiting)),
                    () = seat.turn.over() => return Ok(seat.left(pull, waiting)),
                    next = pull.next(self.batch(is_tasting), &mut seat.pin) => next?,
                },
            };
            seat.turn.came();
            // What was in flight comes before what is new: from here on there is nothing to suspect.
            is_tasting &= message.info().is_ok_and(|info| info.delivered > 1);
            let mut settled = pin!(self.settle(message, handler));
            let alone = if is_tasting { PULL_EXPIRES } else { Duration::ZERO };
            let (mut alone, mut is_alone) = (pin!(tokio::time::sleep(alone)), is_tasting);
            loop {
                let has_room = !is_alone && waiting.has_room();
                tokio::select! {
                    biased;
                    () = &mut settled => break,
                    () = &mut drained => {
                        tracing::warn!(consumer = self.spec.name, "a message left to redelivery");
                        return Ok(seat.left(pull, waiting));
                    }
                    () = &mut alone, if is_alone => is_alone = false,
                    () = waiting.keep() => {}
                    next = pull.next(self.batch(is_tasting), &mut seat.pin), if has_room => {
                        waiting.push(next?);
                    }
                }
            }
            if shutdown.is_cancelled() {
                return Ok(seat.left(pull, waiting));
            }
        }
    }

    /// How many messages are asked for at a time. A window counts for all that are in it when their
    /// owner dies, so a new owner takes what was in flight one by one: what kills it comes alone, and
    /// whatever else was in flight with it keeps its tries.
    fn batch(&self, is_tasting: bool) -> usize {
        match self.kind() {
            _ if is_tasting => 1,
            ConsumerKind::Pings => WINDOW_BATCH,
            ConsumerKind::Lane | ConsumerKind::Worker | ConsumerKind::Single => LANE_BATCH,
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
