//! The simulated broker as the services see it: appends and reads travel, and so do their answers.

use std::{sync::Arc, time::Duration};

use async_nats::{HeaderMap, header, jetstream::AckKind};
use common::{
    log::{Ack, Append, AppendError, Log, LogError, ReadFrom, Stored},
    stream::{DRIVER, TRIP},
};
use futures_util::future::BoxFuture;

use super::{Way, World};
use crate::sim::{
    engine::Host,
    jetstream::{Message, Output, PublishError, Pull, Reader, Receipt, SimJetStream, code},
};

/// As `common::nats` has it: an ack that has not come by then is unknown.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);

/// One process's connection.
#[derive(Debug)]
pub(super) struct SimLog {
    pub(super) world: Arc<World>,
    pub(super) host: Host,
}

impl Log for SimLog {
    fn append(&self, message: Append) -> BoxFuture<'_, Result<Ack, AppendError>> {
        Box::pin(async move {
            let host = self.host;
            let sent = self.world.request(Way::Broker, PUBLISH_TIMEOUT, move |world| {
                world.is_connected(host).then(|| world.publish(host, &message))
            });
            sent.await.unwrap_or_else(|| Err(AppendError::Unknown("timed out".to_owned())))
        })
    }

    fn last<'a>(
        &'a self,
        stream: &'static str,
        subject: &'a str,
        from: ReadFrom,
    ) -> BoxFuture<'a, Result<Option<Stored>, LogError>> {
        Box::pin(async move {
            let (host, subject) = (self.host, subject.to_owned());
            let stale = from == ReadFrom::Any
                && self.world.has_faults()
                && self.world.sim.happens(self.world.options.stale_reads);
            let read = self.world.request(Way::Broker, PUBLISH_TIMEOUT, move |world| {
                world.is_connected(host).then(|| world.last(stream, &subject, stale))
            });
            read.await.unwrap_or_else(|| Err(LogError("timed out".to_owned())))
        })
    }

    fn is_reachable(&self) -> bool {
        self.world.is_connected(self.host)
    }
}

pub(super) fn stored(message: &Message) -> Stored {
    Stored {
        subject: message.subject.clone(),
        sequence: message.sequence,
        published: message.published,
        headers: message.headers.clone(),
        payload: message.payload.clone(),
    }
}

impl World {
    pub(super) fn is_connected(&self, host: Host) -> bool {
        let shared = self.shared();
        let process = shared.processes.get(&host);
        shared.is_broker_up && process.is_none_or(|process| !process.is_cut)
    }

    /// Does something with the broker, and sends on its way what leaves it.
    pub fn with_broker<T>(self: &Arc<Self>, work: impl FnOnce(&mut SimJetStream) -> T) -> T {
        let (done, outputs) = {
            let mut shared = self.shared();
            let done = work(&mut shared.broker);
            (done, shared.broker.take_outputs())
        };
        for output in outputs {
            self.route(&output);
        }
        done
    }

    fn route(self: &Arc<Self>, output: &Output) {
        let reader = match output {
            Output::Delivered(delivery) => delivery.reader,
            Output::PullEnded { reader, .. } => *reader,
            Output::Republished { subject, payload, .. } => {
                let stream = if subject.starts_with("live.trip") { TRIP } else { DRIVER };
                if let Some(stored) = self.stored.get(stream) {
                    stored.notify_waiters();
                }
                self.with_witness(|witness| witness.stored(&self.sim, stream, subject, payload));
                self.tell_live(subject, payload);
                return;
            }
        };
        let Some(inbox) = self.shared().inboxes.get(&reader).cloned() else { return };
        for time in self.travel(Way::Broker) {
            let (inbox, output) = (inbox.clone(), output.clone());
            // Whoever is gone does not get it; the broker will notice.
            self.sim.after(time, move || drop(inbox.send(output)));
        }
    }

    /// Plain subscribers hear what is published on a subject, at most once and at once.
    fn tell_live(&self, subject: &str, payload: &bytes::Bytes) {
        let mut shared = self.shared();
        if let Some(listeners) = shared.live.get_mut(subject) {
            listeners.retain(|listener| listener.send(payload.clone()).is_ok());
        }
    }

    /// Hears what is published on a subject from now on.
    pub fn listen(&self, subject: String) -> tokio::sync::mpsc::UnboundedReceiver<bytes::Bytes> {
        let (listener, heard) = tokio::sync::mpsc::unbounded_channel();
        self.shared().live.entry(subject).or_default().push(listener);
        heard
    }

    fn publish(self: &Arc<Self>, host: Host, message: &Append) -> Result<Ack, AppendError> {
        let now = self.sim.now();
        let mut headers = message.headers.clone();
        if let Some(expected) = message.expected {
            headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        }
        // Core NATS hands a message to whoever subscribed to its subject, stored or not.
        self.tell_live(&message.subject, &message.payload);
        let answer = self.with_broker(|broker| {
            broker.publish(now, &message.subject, headers, message.payload.clone())
        });
        let short = short(&message.subject);
        let name = self.name(host);
        match answer {
            Ok(ack) => {
                let kind = kind(&message.headers);
                self.sim.tell(format!("{name} appends {kind} to {short}: {}", ack.sequence));
                Ok(Ack { sequence: ack.sequence, is_duplicate: ack.duplicate })
            }
            Err(PublishError::Refused(refused)) if refused.code == code::WRONG_LAST_SEQUENCE => {
                let kind = kind(&message.headers);
                self.sim.tell(format!("{name} is refused {kind} on {short}: {refused}"));
                self.with_witness(|witness| witness.refused += 1);
                Err(AppendError::Unknown(refused.to_string()))
            }
            Err(err) => {
                self.sim.tell(format!("{name} cannot append to {short}: {err}"));
                Err(AppendError::Unavailable(err.to_string()))
            }
        }
    }

    fn last(
        &self,
        stream: &str,
        subject: &str,
        is_stale: bool,
    ) -> Result<Option<Stored>, LogError> {
        let shared = self.shared();
        let failed = |err: &dyn std::fmt::Display| LogError(err.to_string());
        let last = shared.broker.last(stream, subject).map_err(|err| failed(&err))?;
        if !is_stale {
            return Ok(last.as_deref().map(stored));
        }
        // A replica that lags does not know the last one yet.
        let until = last.as_ref().map_or(0, |last| last.sequence);
        let (mut from, mut before) = (1, None);
        while let Some(next) =
            shared.broker.next(stream, subject, from).map_err(|err| failed(&err))?
        {
            if next.sequence >= until {
                break;
            }
            from = next.sequence + 1;
            before = Some(stored(&next));
        }
        Ok(before)
    }

    pub(super) fn pull(
        self: &Arc<Self>,
        host: Host,
        stream: &'static str,
        consumer: &str,
        pull: &Pull,
    ) {
        let consumer = consumer.to_owned();
        for time in self.travel(Way::Broker) {
            let (world, consumer, pull) = (Arc::clone(self), consumer.clone(), pull.clone());
            self.sim.after(time, move || {
                if world.is_connected(host) && world.shared().inboxes.contains_key(&pull.reader) {
                    let now = world.sim.now();
                    let asked =
                        world.with_broker(|broker| broker.pull(now, stream, &consumer, &pull));
                    if let Err(err) = asked {
                        world.sim.tell(format!("pull of {consumer} refused: {err}"));
                    }
                }
            });
        }
    }

    /// Tells the broker how a delivery went.
    pub(super) fn answer(
        self: &Arc<Self>,
        host: Host,
        stream: &'static str,
        consumer: &str,
        receipt: Receipt,
        kind: AckKind,
    ) {
        let consumer = consumer.to_owned();
        for time in self.travel(Way::Broker) {
            let (world, consumer, kind) = (Arc::clone(self), consumer.clone(), kind);
            self.sim.after(time, move || {
                if world.is_connected(host) {
                    let now = world.sim.now();
                    let answered = world
                        .with_broker(|broker| broker.answer(now, stream, &consumer, receipt, kind));
                    if let Err(err) = answered {
                        world.sim.tell(format!("answer to {consumer} refused: {err}"));
                    }
                }
            });
        }
    }

    pub(super) fn new_reader(
        &self,
        host: Host,
    ) -> (Reader, tokio::sync::mpsc::UnboundedReceiver<Output>) {
        let (inbox, outputs) = tokio::sync::mpsc::unbounded_channel();
        let mut shared = self.shared();
        shared.readers += 1;
        let reader = Reader(shared.readers);
        shared.inboxes.insert(reader, inbox);
        if let Some(process) = shared.processes.get_mut(&host) {
            process.readers.push(reader);
        }
        (reader, outputs)
    }

    /// The broker goes down or comes back.
    pub fn switch_broker(self: &Arc<Self>, is_up: bool) {
        let now = self.sim.now();
        self.shared().is_broker_up = is_up;
        self.with_broker(|broker| {
            if is_up {
                broker.start(now);
            } else {
                broker.go_down(now, crate::sim::jetstream::Down::Killed);
            }
        });
        self.sim.tell(if is_up { "the broker is back" } else { "the broker dies" });
    }
}

fn kind(headers: &HeaderMap) -> String {
    headers.get(common::envelope::header::TYPE).map(ToString::to_string).unwrap_or_default()
}

/// A subject with the last digits of its ids.
fn short(subject: &str) -> String {
    let parts = subject.split('.').map(|part| match part.len() {
        36 => crate::audit::sentence::short(part),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(".")
}
