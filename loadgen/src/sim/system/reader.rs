//! Durable consumers as `common::consumer` reads them: pull, hand to the handler, say that it is being
//! worked on, answer as the verdict says. The verdict is the services' own rule.

use std::{collections::VecDeque, future::Future, sync::Arc, time::Duration};

use async_nats::jetstream::AckKind;
use common::{
    clock::Clock,
    consumer::{self, Failure, Verdict, dead, verdict},
    log::{Append, AppendError, LogPort},
    stream::{ACK_WAIT, ConsumerSpec, OWNER_GROUP},
    subject,
};
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::mpsc;

use super::World;
use crate::sim::{
    engine::Host,
    jetstream::{Delivery, Ended, Message, Output, Pin, Pull, Reader},
};

/// Messages that a worker has in hand at a time.
const WORKER_WINDOW: usize = 8;
/// How long a pull waits while there is work, as the services have it, and while there is none: a
/// pin that lapses in idle times only moves the work to another owner.
const PULL_BUSY: Duration = Duration::from_millis(800);
const PULL_IDLE: Duration = Duration::from_secs(10);
/// How much longer than the pull its end is waited for.
const HEARTBEAT: Duration = Duration::from_millis(400);
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
const RETRY_FIRST: Duration = Duration::from_millis(consumer::RETRY_FIRST_MS);
const BURY_AGAIN: Duration = Duration::from_secs(1);

/// What reacts to messages.
pub(super) type Handler =
    Arc<dyn Fn(consumer::Delivery) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// One durable consumer in one process.
#[derive(Clone)]
pub(super) struct Durable {
    pub(super) world: Arc<World>,
    pub(super) host: Host,
    pub(super) port: LogPort,
    pub(super) spec: ConsumerSpec,
    pub(super) partition: u32,
    pub(super) handler: Handler,
}

impl Durable {
    fn name(&self) -> String {
        self.spec.durable(self.partition)
    }

    /// Reads for as long as the process lives.
    pub(super) async fn run(self) {
        let (reader, mut inbox) = self.world.new_reader(self.host);
        let mut seat = Seat { reader, pin: None, was_busy: false };
        let mut waiting = VecDeque::new();
        loop {
            self.pull(&seat);
            if self.spec.kind.is_owned() {
                self.own(&mut seat, &mut inbox, &mut waiting).await;
            } else {
                self.work(&mut seat, &mut inbox).await;
            }
        }
    }

    fn pull(&self, seat: &Seat) {
        let is_owned = self.spec.kind.is_owned();
        let pull = Pull {
            reader: seat.reader,
            batch: if is_owned { 16 } else { 64 },
            expires: Some(seat.expires()),
            no_wait: false,
            group: is_owned.then(|| OWNER_GROUP.to_owned()),
            pin: seat.pin,
        };
        self.world.pull(self.host, self.spec.stream, &self.name(), &pull);
    }

    /// One message after the other, until the pull is over.
    async fn own(
        &self,
        seat: &mut Seat,
        inbox: &mut mpsc::UnboundedReceiver<Output>,
        waiting: &mut VecDeque<Delivery>,
    ) {
        let patience = seat.expires() + HEARTBEAT;
        seat.was_busy = false;
        loop {
            let next = match waiting.pop_front() {
                Some(delivery) => Some(Output::Delivered(delivery)),
                None => self.world.sim.within(patience, inbox.recv()).await.flatten(),
            };
            match next {
                Some(Output::Delivered(delivery)) => {
                    seat.pin = delivery.pin.or(seat.pin);
                    seat.was_busy = true;
                    self.pulling_on(seat, self.settle(delivery)).await;
                }
                Some(Output::PullEnded { why, .. }) => {
                    if why == Ended::WrongPin {
                        seat.pin = None;
                    }
                    return;
                }
                Some(Output::Republished { .. }) => {}
                None => return,
            }
        }
    }

    /// An owner that does not pull loses its pin.
    async fn pulling_on(&self, seat: &Seat, work: impl Future<Output = ()>) {
        let mut work = std::pin::pin!(work);
        while self.world.sim.within(PULL_BUSY, &mut work).await.is_none() {
            self.pull(seat);
        }
    }

    /// Many at a time, in no order, until the pull is over.
    async fn work(&self, seat: &mut Seat, inbox: &mut mpsc::UnboundedReceiver<Output>) {
        let mut in_hand = FuturesUnordered::new();
        let patience = seat.expires() + HEARTBEAT;
        seat.was_busy = false;
        loop {
            if in_hand.len() >= WORKER_WINDOW {
                in_hand.next().await;
            }
            let next = self.world.sim.within(patience, inbox.recv());
            let next = if in_hand.is_empty() {
                next.await.flatten()
            } else {
                use futures_util::future::{Either, select};
                match select(std::pin::pin!(next), in_hand.next()).await {
                    Either::Left((next, _)) => next.flatten(),
                    Either::Right(_) => continue,
                }
            };
            match next {
                Some(Output::Delivered(delivery)) => {
                    seat.was_busy = true;
                    in_hand.push(self.settle(delivery));
                }
                Some(Output::PullEnded { .. } | Output::Republished { .. }) | None => break,
            }
        }
        while in_hand.next().await.is_some() {}
    }

    /// Handles one message and tells the broker how it went.
    async fn settle(&self, given: Delivery) {
        let receipt = given.receipt;
        let name = self.name();
        let answer = |kind| self.world.answer(self.host, self.spec.stream, &name, receipt, kind);
        let seen = seen(&given);
        let (sequence, attempt) = (seen.sequence, seen.attempt);
        if attempt > 1 {
            self.world.seen("redelivery handled");
        }
        note(&self.port.clock, &seen);
        if consumer::acks_first() {
            answer(AckKind::Ack);
        }
        let handled = match consumer::admit(attempt) {
            Ok(()) => self.with_progress(&given, (self.handler)(seen)).await,
            Err(unanswered) => {
                self.world.seen("message put aside");
                Err(unanswered)
            }
        };
        match verdict(handled, attempt, sequence, RETRY_FIRST) {
            Verdict::Ack => answer(AckKind::Ack),
            Verdict::Retry { after, err } => {
                self.world.sim.tell(format!("{name} retries {sequence} ({attempt}): {err:#}"));
                self.world.seen("message retried");
                if self.spec.kind.is_owned() {
                    self.with_progress(&given, self.world.sim.sleep(after)).await;
                    answer(AckKind::Nak(None));
                } else {
                    answer(AckKind::Nak(Some(after)));
                }
            }
            Verdict::Bury { class, err } => {
                self.world
                    .sim
                    .tell(format!("{name} buries {sequence} ({}): {err:#}", class.name()));
                self.with_progress(&given, self.bury(&given)).await;
                self.world.seen("message buried");
                answer(AckKind::Term);
            }
        }
    }

    async fn with_progress<T>(&self, given: &Delivery, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            if let Some(done) = self.world.sim.within(PROGRESS_EVERY, &mut work).await {
                return done;
            }
            let (stream, name) = (self.spec.stream, self.name());
            self.world.answer(self.host, stream, &name, given.receipt, AckKind::Progress);
        }
    }

    /// A full copy, once, however often it is tried.
    async fn bury(&self, given: &Delivery) {
        let sequence = given.message.sequence;
        loop {
            let mut headers = dead::original_headers(&given.message.headers);
            headers.insert(dead::SUBJECT, given.message.subject.as_str());
            let copy = Append {
                subject: subject::dead_letter(&self.name(), self.spec.stream, sequence),
                headers,
                payload: given.message.payload.clone(),
                expected: Some(0),
            };
            match self.port.log.append(copy).await {
                Ok(_) => return,
                // It is there already.
                Err(AppendError::Unknown(why)) if why.contains("wrong last sequence") => return,
                Err(_) => self.world.sim.sleep(BURY_AGAIN).await,
            }
        }
    }
}

impl World {
    /// Hands a dead letter to the consumer that gave it up, as operations have it done. Whether it was
    /// handled.
    pub async fn replay(&self, letter: &Message) -> bool {
        let durable = letter.subject.split('.').nth(1).unwrap_or_default();
        let sequence = letter.subject.rsplit('.').next().and_then(|it| it.parse().ok());
        let subject = letter.headers.get(dead::SUBJECT).map(ToString::to_string);
        let Some((spec, _)) = ConsumerSpec::of_durable(durable) else { return false };
        let (Some(sequence), Some(subject)) = (sequence, subject) else { return false };
        let handlers: Vec<Handler> = {
            let shared = self.shared();
            let running = shared.processes.values();
            running.filter_map(|process| process.handlers.get(spec.name).cloned()).collect()
        };
        let Some(handler) = self.sim.one_of(&handlers) else { return false };
        let headers = dead::original_headers(&letter.headers);
        let payload = letter.payload.clone();
        let delivery =
            consumer::Delivery::new(subject, sequence, letter.published, headers, payload);
        handler(delivery).await.is_ok()
    }
}

/// Where a reader stands with the broker.
struct Seat {
    reader: Reader,
    pin: Option<Pin>,
    was_busy: bool,
}

impl Seat {
    fn expires(&self) -> Duration {
        if self.was_busy { PULL_BUSY } else { PULL_IDLE }
    }
}

fn seen(given: &Delivery) -> consumer::Delivery {
    let message = &given.message;
    let mut seen = consumer::Delivery::new(
        message.subject.clone(),
        message.sequence,
        message.published,
        message.headers.clone(),
        message.payload.clone(),
    );
    seen.attempt = i64::try_from(given.receipt.attempt).unwrap_or(i64::MAX);
    seen.delivered = given.receipt.delivered;
    seen.pending = given.pending;
    seen
}

fn note(clock: &Clock, seen: &consumer::Delivery) {
    if let Ok(envelope) = seen.envelope() {
        clock.merge(envelope.hlc);
    }
}

const _: () = assert!(3 * PROGRESS_EVERY.as_millis() <= ACK_WAIT.as_millis());
