//! One stream: what it stores, what it forgets, and which of its consumers hear of it.

mod accept;
mod elapse;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_nats::{
    HeaderMap, header,
    jetstream::stream::{Config, RetentionPolicy},
};
use bytes::Bytes;
use common::clock::Timestamp;

use super::{
    Effects, Replicas,
    answer::{Acknowledged, Message, Output, Refused, code},
    consumer::Consumer,
    instruction::{self, Lifetime},
    log::{self, Log, StreamState},
    schedule::Schedules,
    subject,
};

/// No timer fires earlier after it was set, or after the broker was started.
pub(super) const TIMER_PAUSE: Duration = Duration::from_millis(250);
/// Where the configuration leaves it open.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) config: Config,
    pub(super) log: Log,
    pub(super) consumers: BTreeMap<String, Consumer>,
    ids: BTreeMap<String, (u64, Timestamp)>,
    schedules: Schedules,
}

/// What is to be stored.
#[derive(Debug, Clone)]
pub(super) struct Incoming {
    pub(super) subject: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

/// What a message's headers were found to mean before it is stored.
struct Accepted {
    /// An invalid one is refused last of all.
    lives: Result<Lifetime, Refused>,
    schedule: Option<Timestamp>,
    /// Whether it replaces what its subject had.
    replaces: bool,
    bytes: u64,
}

enum Verdict {
    Accepted(Accepted),
    /// A message of the same id is there already.
    Duplicate(u64),
}

impl Stream {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            log: Log::default(),
            consumers: BTreeMap::new(),
            ids: BTreeMap::new(),
            schedules: Schedules::default(),
        }
    }

    pub(super) fn takes(&self, name: &str) -> bool {
        self.config.subjects.iter().any(|filter| subject::matches(filter, name))
    }

    pub(super) fn state(&self) -> StreamState {
        self.log.state()
    }

    pub(super) fn is_work_queue(&self) -> bool {
        self.config.retention == RetentionPolicy::WorkQueue
    }

    /// Stores a message, or says why not. `is_full`: the account
    /// holds more than it may.
    pub(super) fn publish(
        &mut self,
        now: Timestamp,
        incoming: Incoming,
        replicas: Replicas,
        is_full: bool,
        effects: &mut Effects,
    ) -> Result<Acknowledged, Refused> {
        let stream = self.config.name.clone();
        let duplicate = self.first_of_id(now, &incoming.headers);
        let mut accepted = match self.accept(&incoming, duplicate, replicas)? {
            Verdict::Accepted(accepted) => accepted,
            Verdict::Duplicate(sequence) => {
                return Ok(Acknowledged { stream, sequence, duplicate: true });
            }
        };
        let mut incoming = incoming;
        if accepted.schedule.is_some() {
            incoming.headers.insert(header::NATS_ROLLUP, instruction::ROLLUP_SUBJECT);
        }
        accepted.bytes = log::size(&incoming.subject, &incoming.headers, &incoming.payload);
        if is_full {
            return Err(Refused::new(code::INSUFFICIENT_RESOURCES, "insufficient resources"));
        }
        let lives = std::mem::replace(&mut accepted.lives, Ok(Lifetime::Unsaid))?.limit();
        self.check_discard(&incoming, accepted.bytes)?;
        let sequence = self.store(now, incoming, &accepted, lives, effects);
        Ok(Acknowledged { stream, sequence, duplicate: false })
    }

    fn store(
        &mut self,
        now: Timestamp,
        incoming: Incoming,
        accepted: &Accepted,
        lives: Option<Duration>,
        effects: &mut Effects,
    ) -> u64 {
        let Incoming { subject, headers, payload } = incoming;
        let (sequence, before) = (self.log.next(), self.log.last_of(&subject));
        if let Some(id) = instruction::message_id(&headers) {
            self.ids.insert(id.to_owned(), (sequence, now));
        }
        let message = Message { subject, sequence, published: now, headers, payload };
        self.republish(&message, before, effects);
        self.log.push(message.clone(), accepted.bytes, lives);
        if let Some(at) = accepted.schedule {
            self.schedules.set(&message.subject, sequence, at.max(now.plus(TIMER_PAUSE)));
        }
        if accepted.replaces {
            let mut replaced = self.log.sequences(&message.subject);
            replaced.remove(&sequence);
            self.purge_all(now, &message.subject, &replaced, effects);
        }
        if let Some(schedule) = instruction::scheduler(&message.headers) {
            let ended = self.log.sequences(schedule);
            self.purge_all(now, schedule, &ended, effects);
        }
        self.make_room(now, &message.subject, effects);
        for consumer in self.consumers.values_mut() {
            consumer.stored(now, &message, &self.log, effects);
        }
        sequence
    }

    fn republish(&self, message: &Message, before: u64, effects: &mut Effects) {
        let Some(republish) = &self.config.republish else { return };
        let made =
            subject::transformed(&republish.source, &republish.destination, &message.subject);
        let Some(subject) = made else { return };
        let mut headers = message.headers.clone();
        headers.insert(header::NATS_STREAM, self.config.name.as_str());
        headers.insert(header::NATS_SUBJECT, message.subject.as_str());
        headers.insert(header::NATS_SEQUENCE, message.sequence.to_string());
        headers.insert(header::NATS_TIME_STAMP, message.published.to_string());
        headers.insert(header::NATS_LAST_SEQUENCE, before.to_string());
        let payload = if republish.headers_only { Bytes::new() } else { message.payload.clone() };
        effects.outputs.push(Output::Republished { subject, headers, payload });
    }

    fn make_room(&mut self, now: Timestamp, stored: &str, effects: &mut Effects) {
        if let Some(max) = limit(self.config.max_messages_per_subject) {
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            let held = self.log.sequences(stored);
            for sequence in held.iter().take(held.len().saturating_sub(max)) {
                self.remove(now, *sequence, effects);
            }
        }
        let messages_max = limit(self.config.max_messages);
        let bytes_max = limit(self.config.max_bytes);
        loop {
            let state = self.log.state();
            let is_full = messages_max.is_some_and(|max| state.messages > max)
                || bytes_max.is_some_and(|max| state.bytes > max);
            if !is_full {
                break;
            }
            self.remove(now, state.first_sequence, effects);
        }
    }

    /// Takes one message away and tells the consumers that had it in hand or before them.
    pub(super) fn remove(&mut self, now: Timestamp, sequence: u64, effects: &mut Effects) {
        let Some(message) = self.log.remove(sequence) else { return };
        self.schedules.removed(&message.subject, sequence);
        for consumer in self.consumers.values_mut() {
            consumer.removed(now, &message, &self.log, effects);
        }
    }

    /// Takes all messages away that a filter takes.
    pub(super) fn purge(&mut self, now: Timestamp, filter: &str, effects: &mut Effects) -> u64 {
        let gone = self.log.sequences(filter);
        self.purge_all(now, filter, &gone, effects);
        u64::try_from(gone.len()).unwrap_or(u64::MAX)
    }

    fn purge_all(
        &mut self,
        now: Timestamp,
        filter: &str,
        gone: &BTreeSet<u64>,
        effects: &mut Effects,
    ) {
        for sequence in gone {
            if let Some(message) = self.log.remove(*sequence) {
                self.schedules.removed(&message.subject, *sequence);
            }
        }
        let only = gone.first().filter(|_| gone.len() == 1);
        for consumer in self.consumers.values_mut() {
            match only {
                Some(only) => consumer.uncount(*only, filter),
                None if gone.is_empty() => {}
                None => consumer.recount(&self.log),
            }
            consumer.purged(now, filter, &self.log);
            if let Some(only) = only {
                consumer.let_go(now, *only, &self.log, effects);
            }
        }
    }
}

/// A limit that is set: the real server takes 0 and -1 for none.
fn limit(configured: i64) -> Option<u64> {
    u64::try_from(configured).ok().filter(|limit| *limit > 0)
}
