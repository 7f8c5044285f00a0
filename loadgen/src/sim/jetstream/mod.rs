//! A JetStream of one broker in virtual time: synchronous, without threads, clocks or chance, so that
//! the same calls give the same answers. It takes the configurations that the real server gets, and
//! headers mean what they mean there. `loadgen/tests/it/jetstream` does random operations to it and
//! to a real nats-server 2.15.1 and compares every answer, delivery, republished message and state
//! (`JETSTREAM_OPERATIONS=20000` for a long run, `JETSTREAM_SEED=7` for one seed).
//!
//! What the real server does that one may not expect; each was found or confirmed by that test:
//! - A single node checks in this order: stream, TTL allowed, compare-and-set, schedule, end of a
//!   schedule, duplicate, rollup, room, TTL valid, limits of the stream. So a repeated publish with
//!   its old expectation is refused with 10071; a group of three looks for duplicates first.
//! - A publish that ends a schedule which is not there is stored all the same; one that names
//!   a message which is no schedule, or its own subject, is refused with 10212.
//! - No timer fires earlier than 250 ms after it was set or the server was started.
//! - The server notices that its account is full one message late (10023), and a timer that came due
//!   meanwhile is not tried again before a restart, although others fire once there is room again.
//! - A bare nak is queued in memory only: after a restart, or after any purge that touches the
//!   consumer's subjects (even one that finds nothing), it waits for the rest of its ack wait.
//! - A message that used up its tries is noticed when it would be handed out once more, so the
//!   advisory waits for a pull; with one try alone it comes when the ack wait is over.
//! - A purge of what an owner has in hand wakes nobody: the next message waits for the next pull,
//!   publish or expiry of a pull. A purge that finds one message tells consumers the purge's filter
//!   for its subject, so that a consumer of several filters goes on counting it as unread.
//! - A consumer's state is written every 100 ms at most: a `kill -9` forgets the last acks.
//!
//! Not modelled, and refused as such where it can be asked for: mirrors, sources, subject transforms,
//! interest retention, counters, batches, rollups of whole streams, recurring schedules, sampling,
//! push and ordered consumers (views read with [`SimJetStream::next`] and
//! [`SimJetStream::last_per_subject`]), ack policies but explicit, backoff lists, overflow and
//! prioritized groups, pausing, resetting or changing a consumer, heartbeats of pulls, advisories but
//! of used-up tries, the server's own limits on sizes. Not compared: wall times, how far a consumer
//! looked past messages that it does not read, what a purge does to a message in hand while the
//! server's threads race for it, `kill -9`, three nodes.

mod answer;
mod consumer;
mod instruction;
mod log;
mod provision;
mod schedule;
mod stream;
mod subject;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_nats::{HeaderMap, jetstream::AckKind};
use bytes::Bytes;
use common::clock::Timestamp;

pub use answer::{
    Acknowledged, Delivery, Ended, Message, Output, Pin, PublishError, Reader, Receipt, Refused,
    code,
};
pub use consumer::{ConsumerState, Place, Pull};
pub use instruction::EXPECTED_SUBJECT;
pub use log::StreamState;

use stream::{Incoming, Stream};

/// The order in which a publish is checked depends on how many nodes keep the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replicas {
    /// Compare-and-set first: a repeated publish is refused with 10071.
    #[default]
    One,
    /// Duplicates first: a repeated publish is acknowledged as a duplicate.
    Three,
}

/// How the simulated broker is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// See [`Replicas`].
    pub replicas: Replicas,
    /// What all streams may take together.
    pub max_file_bytes: Option<u64>,
    /// How much later than it has to a timer fires.
    pub timer_lateness: Duration,
}

/// How the broker goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// In order: everything is written.
    Stopped,
    /// `kill -9`: facts stay; what consumers did in the last tenth of a second may be forgotten.
    Killed,
    /// The machine crashed: streams that are not synced before their ack lose this many messages.
    PowerLost {
        /// How many.
        unsynced: u64,
    },
}

/// What a call brings about besides its answer.
#[derive(Debug, Default)]
struct Effects {
    outputs: Vec<Output>,
    advisories: Vec<Incoming>,
    pins: u64,
    advised: u64,
}

impl Effects {
    fn fresh_pin(&mut self) -> Pin {
        self.pins += 1;
        Pin(self.pins)
    }

    /// A message used up its tries: an advisory says so, once.
    fn gave_up(&mut self, stream: &str, consumer: &str, sequence: u64, deliveries: u64) {
        self.advised += 1;
        let body = serde_json::json!({
            "type": "io.nats.jetstream.advisory.v1.max_deliver",
            "id": format!("{:022}", self.advised),
            "stream": stream,
            "consumer": consumer,
            "stream_seq": sequence,
            "deliveries": deliveries,
        });
        self.advisories.push(Incoming {
            subject: format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream}.{consumer}"),
            headers: HeaderMap::new(),
            payload: body.to_string().into(),
        });
    }
}

/// The simulated broker.
#[derive(Debug, Default)]
pub struct SimJetStream {
    options: Options,
    streams: BTreeMap<String, Stream>,
    effects: Effects,
    now: Timestamp,
    is_down: bool,
}

impl SimJetStream {
    /// Without streams.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Publishes a message and waits for the ack. Headers mean what they mean to the real server.
    ///
    /// # Errors
    /// When nothing was stored.
    pub fn publish(
        &mut self,
        now: Timestamp,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Acknowledged, PublishError> {
        self.advance(now);
        if self.is_down {
            return Err(PublishError::NoStream);
        }
        let incoming = Incoming { subject: subject.to_owned(), headers, payload };
        let answer = self.store(incoming);
        self.advise();
        answer
    }

    fn store(&mut self, incoming: Incoming) -> Result<Acknowledged, PublishError> {
        let (now, is_full, replicas) = (self.now, self.is_full(), self.options.replicas);
        let takes = |stream: &&mut Stream| stream.takes(&incoming.subject);
        let Some(stream) = self.streams.values_mut().find(takes) else {
            return Err(PublishError::NoStream);
        };
        Ok(stream.publish(now, incoming, replicas, is_full, &mut self.effects)?)
    }

    /// Advisories are messages like others: a stream may capture them.
    fn advise(&mut self) {
        while !self.effects.advisories.is_empty() {
            for advisory in std::mem::take(&mut self.effects.advisories) {
                if let Err(err) = self.store(advisory) {
                    tracing::debug!(error = %err, "nobody keeps an advisory");
                }
            }
        }
    }

    /// What all streams hold together, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.streams.values().map(|stream| stream.log.bytes()).sum()
    }

    /// The server notices that it is full when it holds more than it may: one message late.
    fn is_full(&self) -> bool {
        self.options.max_file_bytes.is_some_and(|max| max < self.held_bytes())
    }

    /// Changes what all streams may take together: an account that is full, and one that is not
    /// any more.
    pub fn set_max_file_bytes(&mut self, max: Option<u64>) {
        self.options.max_file_bytes = max;
    }

    /// Lets time pass: timers fire, what is too old goes, what was not answered is handed out again.
    pub fn advance(&mut self, now: Timestamp) {
        while let Some(at) = self.next_wake().filter(|at| *at <= now) {
            self.now = self.now.max(at);
            let (at, lateness) = (self.now, self.options.timer_lateness);
            let (is_full, replicas) = (self.is_full(), self.options.replicas);
            let wakes =
                |stream: &&mut Stream| stream.wakes_at(lateness).is_some_and(|wake| wake <= at);
            for stream in self.streams.values_mut().filter(wakes) {
                stream.wake(at, lateness, replicas, is_full, &mut self.effects);
            }
            self.advise();
        }
        self.now = self.now.max(now);
    }

    /// When something happens by itself next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        if self.is_down {
            return None;
        }
        let lateness = self.options.timer_lateness;
        self.streams.values().filter_map(|stream| stream.wakes_at(lateness)).min()
    }

    /// What the broker sent since this was asked last, in order.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.effects.outputs)
    }

    /// Asks for messages. They come with [`Self::take_outputs`], now or later.
    ///
    /// # Errors
    /// When there is no such consumer.
    pub fn pull(
        &mut self,
        now: Timestamp,
        stream: &str,
        consumer: &str,
        pull: &Pull,
    ) -> Result<(), Refused> {
        self.advance(now);
        let (stream, effects) = self.parts(stream)?;
        let reads = stream.consumers.get_mut(consumer).ok_or_else(no_consumer)?;
        reads.pull(now, pull, &stream.log, effects);
        self.advise();
        Ok(())
    }

    /// Answers a delivery. Whoever answers, and however late, the receipt alone counts.
    ///
    /// # Errors
    /// When there is no such consumer.
    pub fn answer(
        &mut self,
        now: Timestamp,
        stream: &str,
        consumer: &str,
        receipt: Receipt,
        kind: AckKind,
    ) -> Result<(), Refused> {
        self.advance(now);
        let (stream, effects) = self.parts(stream)?;
        let reads = stream.consumers.get_mut(consumer).ok_or_else(no_consumer)?;
        let is_settled = reads.answered(now, receipt, kind, &stream.log, effects);
        if is_settled && stream.is_work_queue() {
            stream.remove(now, receipt.sequence, effects);
        }
        self.advise();
        Ok(())
    }

    /// The reader's connection is gone: its pulls end, its pins stay until they time out.
    pub fn disconnect(&mut self, now: Timestamp, reader: Reader) {
        self.advance(now);
        for stream in self.streams.values_mut() {
            for consumer in stream.consumers.values_mut() {
                consumer.disconnected(reader);
            }
        }
    }

    /// Takes the pin of a consumer from whoever has it.
    ///
    /// # Errors
    /// When there is no such consumer.
    pub fn unpin(&mut self, now: Timestamp, stream: &str, consumer: &str) -> Result<(), Refused> {
        self.advance(now);
        let (stream, effects) = self.parts(stream)?;
        let reads = stream.consumers.get_mut(consumer).ok_or_else(no_consumer)?;
        reads.unpin(now, &stream.log, effects);
        self.advise();
        Ok(())
    }

    fn parts(&mut self, stream: &str) -> Result<(&mut Stream, &mut Effects), Refused> {
        let found = self.streams.get_mut(stream).filter(|_| !self.is_down);
        Ok((found.ok_or_else(Refused::no_stream)?, &mut self.effects))
    }

    /// The broker goes down. Until it is started again nothing answers and nothing happens.
    pub fn go_down(&mut self, now: Timestamp, how: Down) {
        self.advance(now);
        self.is_down = true;
        for stream in self.streams.values_mut() {
            match how {
                Down::Stopped => stream.consumers.values_mut().for_each(|it| it.stopped(now)),
                Down::Killed => {}
                Down::PowerLost { unsynced } => stream.lose(unsynced),
            }
        }
    }

    /// The broker starts again: pulls and pins are gone, what is on the disk is there, and what was
    /// due meanwhile happens now.
    pub fn start(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.is_down = false;
        for stream in self.streams.values_mut() {
            stream.started(now);
        }
        self.advance(now);
        self.advise();
    }

    /// The message of a sequence.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn get(&self, stream: &str, sequence: u64) -> Result<Option<Arc<Message>>, Refused> {
        Ok(self.stream(stream)?.log.get(sequence).cloned())
    }

    /// The last message of a subject, or of all that a filter takes.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn last(&self, stream: &str, filter: &str) -> Result<Option<Arc<Message>>, Refused> {
        let log = &self.stream(stream)?.log;
        Ok(log.get(log.last_of(filter)).cloned())
    }

    /// The first message at or after a sequence that a filter takes.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn next(
        &self,
        stream: &str,
        filter: &str,
        from: u64,
    ) -> Result<Option<Arc<Message>>, Refused> {
        let mut range = self.stream(stream)?.log.range(from..);
        Ok(range.find(|message| subject::matches(filter, &message.subject)).cloned())
    }

    /// The last message of every subject that a filter takes, in the order of the stream.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn last_per_subject(
        &self,
        stream: &str,
        filter: &str,
    ) -> Result<Vec<Arc<Message>>, Refused> {
        let log = &self.stream(stream)?.log;
        let last = log.last_per_subject(filter);
        Ok(last.into_iter().filter_map(|sequence| log.get(sequence).cloned()).collect())
    }

    /// Removes all messages that a filter takes; how many there were.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn purge(&mut self, now: Timestamp, stream: &str, filter: &str) -> Result<u64, Refused> {
        self.advance(now);
        let (stream, effects) = self.parts(stream)?;
        let purged = stream.purge(now, filter, effects);
        self.advise();
        Ok(purged)
    }

    /// What a stream holds.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn stream_state(&self, stream: &str) -> Result<StreamState, Refused> {
        Ok(self.stream(stream)?.state())
    }

    /// Where a consumer is.
    ///
    /// # Errors
    /// When there is no such consumer.
    pub fn consumer_state(
        &mut self,
        stream: &str,
        consumer: &str,
    ) -> Result<ConsumerState, Refused> {
        let (stream, _) = self.parts(stream)?;
        let reads = stream.consumers.get_mut(consumer).ok_or_else(no_consumer)?;
        Ok(reads.state(&stream.log))
    }

    /// The messages that a consumer handed out and that were not answered, in order.
    ///
    /// # Errors
    /// When there is no such consumer.
    pub fn in_hand(&self, stream: &str, consumer: &str) -> Result<Vec<u64>, Refused> {
        let reads = self.stream(stream)?.consumers.get(consumer).ok_or_else(no_consumer)?;
        Ok(reads.in_hand().collect())
    }

    fn stream(&self, stream: &str) -> Result<&Stream, Refused> {
        self.streams.get(stream).filter(|_| !self.is_down).ok_or_else(Refused::no_stream)
    }
}

fn no_consumer() -> Refused {
    Refused::new(code::NO_CONSUMER, "consumer not found")
}
