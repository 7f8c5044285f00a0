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
//! - A purge of what an owner has in hand wakes nobody: the next message waits for the next pull,
//!   publish or expiry of a pull. A purge that finds one message tells consumers the purge's filter
//!   for its subject, so that a consumer of several filters goes on counting it as unread.
//! - The last message of `>` is the one with the last sequence: none, where that one was purged.
//! - A consumer's state is written every 100 ms at most: a `kill -9` forgets the last acks.
//!
//! Not modelled, and refused as such where it can be asked for: mirrors, sources, subject transforms,
//! interest retention, counters, batches, rollups of whole streams, recurring schedules, sampling,
//! push and ordered consumers (views read with [`SimJetStream::next`] and
//! [`SimJetStream::last_per_subject`]), ack policies but explicit, backoff lists, overflow and
//! prioritized groups, pausing, resetting or changing a consumer, heartbeats of pulls, advisories,
//! limits of deliveries, the server's own limits on sizes. Not compared: wall times, how far a consumer
//! looked past messages that it does not read, what a purge does to a message in hand while the
//! server's threads race for it, `kill -9`, three nodes.

mod answer;
mod consumer;
mod effects;
mod instruction;
mod log;
mod provision;
mod read;
mod schedule;
mod setup;
mod stream;
mod subject;
#[cfg(test)]
mod tests;

use std::{cell::Cell, collections::BTreeMap};

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
pub use setup::{Down, Options, Replicas};

use effects::Effects;
use stream::{Incoming, Stream};

/// The simulated broker.
#[derive(Debug, Default)]
pub struct SimJetStream {
    options: Options,
    streams: BTreeMap<String, Stream>,
    effects: Effects,
    now: Timestamp,
    is_down: bool,
    /// [`Self::next_wake`], for as long as nothing changes: it is asked at every step, and to find it
    /// every consumer is looked at.
    wakes: Cell<Option<Option<Timestamp>>>,
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
        self.store(incoming)
    }

    fn store(&mut self, incoming: Incoming) -> Result<Acknowledged, PublishError> {
        self.wakes.take();
        let (now, is_full, replicas) = (self.now, self.is_full(), self.options.replicas);
        let takes = |stream: &&mut Stream| stream.takes(&incoming.subject);
        let Some(stream) = self.streams.values_mut().find(takes) else {
            return Err(PublishError::NoStream);
        };
        Ok(stream.publish(now, incoming, replicas, is_full, &mut self.effects)?)
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
            self.wakes.take();
            self.now = self.now.max(at);
            let (at, lateness) = (self.now, self.options.timer_lateness);
            let (is_full, replicas) = (self.is_full(), self.options.replicas);
            let wakes =
                |stream: &&mut Stream| stream.wakes_at(lateness).is_some_and(|wake| wake <= at);
            for stream in self.streams.values_mut().filter(wakes) {
                stream.wake(at, lateness, replicas, is_full, &mut self.effects);
            }
        }
        self.now = self.now.max(now);
    }

    /// When something happens by itself next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        if self.is_down {
            return None;
        }
        if let Some(known) = self.wakes.get() {
            return known;
        }
        let lateness = self.options.timer_lateness;
        let next = self.streams.values().filter_map(|stream| stream.wakes_at(lateness)).min();
        self.wakes.set(Some(next));
        next
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
        Ok(())
    }

    /// The reader's connection is gone: its pulls end, its pins stay until they time out.
    pub fn disconnect(&mut self, now: Timestamp, reader: Reader) {
        self.advance(now);
        self.wakes.take();
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
        Ok(())
    }

    fn parts(&mut self, stream: &str) -> Result<(&mut Stream, &mut Effects), Refused> {
        self.wakes.take();
        let found = self.streams.get_mut(stream).filter(|_| !self.is_down);
        Ok((found.ok_or_else(Refused::no_stream)?, &mut self.effects))
    }

    /// The broker goes down. Until it is started again nothing answers and nothing happens.
    pub fn go_down(&mut self, now: Timestamp, how: Down) {
        self.advance(now);
        self.wakes.take();
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
        self.wakes.take();
        self.now = self.now.max(now);
        self.is_down = false;
        for stream in self.streams.values_mut() {
            stream.started(now);
        }
        self.advance(now);
    }

    /// Removes all messages that a filter takes; how many there were.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn purge(&mut self, now: Timestamp, stream: &str, filter: &str) -> Result<u64, Refused> {
        self.advance(now);
        let (stream, effects) = self.parts(stream)?;
        Ok(stream.purge(now, filter, effects))
    }
}

fn no_consumer() -> Refused {
    Refused::new(code::NO_CONSUMER, "consumer not found")
}
