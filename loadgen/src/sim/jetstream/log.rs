//! The messages of one stream: in order, by subject, with their size as the file store counts it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeBounds,
    sync::Arc,
    time::Duration,
};

use async_nats::HeaderMap;
use common::clock::Timestamp;

use super::{answer::Message, subject};

/// Of a record: its length, sequence, time, subject length and checksum.
const RECORD_BYTES: u64 = 22 + 8;
/// More where there are headers: their length.
const HEADER_LENGTH_BYTES: u64 = 4;

/// What `STREAM.INFO` says of a stream's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamState {
    /// How many there are.
    pub messages: u64,
    /// Their size in the file store.
    pub bytes: u64,
    /// The first one's sequence; one more than the last where there is none.
    pub first_sequence: u64,
    /// The last sequence that was given.
    pub last_sequence: u64,
    /// How many subjects have messages.
    pub subjects: u64,
}

#[derive(Debug, Clone)]
struct Held {
    message: Arc<Message>,
    bytes: u64,
    expires: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    held: BTreeMap<u64, Held>,
    by_subject: BTreeMap<String, BTreeSet<u64>>,
    expiring: BTreeSet<(Timestamp, u64)>,
    bytes: u64,
    last: u64,
}

impl Log {
    pub(super) fn state(&self) -> StreamState {
        let messages = u64::try_from(self.held.len()).unwrap_or(u64::MAX);
        StreamState {
            messages,
            bytes: self.bytes,
            first_sequence: self.first(),
            last_sequence: self.last,
            subjects: u64::try_from(self.by_subject.len()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The first message's sequence, or the one that the next message gets.
    pub(super) fn first(&self) -> u64 {
        self.held.keys().next().copied().unwrap_or(self.last + 1)
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Arc<Message>> {
        self.held.get(&sequence).map(|held| &held.message)
    }

    pub(super) fn oldest(&self) -> Option<&Arc<Message>> {
        self.held.values().next().map(|held| &held.message)
    }

    pub(super) fn range(
        &self,
        range: impl RangeBounds<u64>,
    ) -> impl Iterator<Item = &Arc<Message>> {
        self.held.range(range).map(|(_, held)| &held.message)
    }

    /// How many messages a subject has.
    pub(super) fn count(&self, subject: &str) -> usize {
        self.by_subject.get(subject).map_or(0, BTreeSet::len)
    }

    /// The last sequence of a subject, or of all subjects that a filter takes; 0 where there is none.
    pub(super) fn last_of(&self, filter: &str) -> u64 {
        if let Some(sequences) = self.by_subject.get(filter) {
            return sequences.last().copied().unwrap_or(0);
        }
        if subject::is_literal(filter) {
            return 0;
        }
        let matching = self.by_subject.iter().filter(|(name, _)| subject::matches(filter, name));
        matching.filter_map(|(_, sequences)| sequences.last()).max().copied().unwrap_or(0)
    }

    /// The sequences of all messages that a filter takes, in order.
    pub(super) fn sequences(&self, filter: &str) -> BTreeSet<u64> {
        let matching = self.by_subject.iter().filter(|(name, _)| subject::matches(filter, name));
        matching.flat_map(|(_, sequences)| sequences.iter().copied()).collect()
    }

    /// The last message of every subject that a filter takes, in order.
    pub(super) fn last_per_subject(&self, filter: &str) -> BTreeSet<u64> {
        let matching = self.by_subject.iter().filter(|(name, _)| subject::matches(filter, name));
        matching.filter_map(|(_, sequences)| sequences.last().copied()).collect()
    }

    /// The sequence that the next message gets.
    pub(super) fn next(&self) -> u64 {
        self.last + 1
    }

    pub(super) fn push(&mut self, message: Message, bytes: u64, lives: Option<Duration>) {
        let (sequence, subject) = (message.sequence, message.subject.clone());
        let expires = lives.map(|lives| message.published.plus(lives));
        self.expiring.extend(expires.map(|at| (at, sequence)));
        self.by_subject.entry(subject).or_default().insert(sequence);
        self.bytes += bytes;
        self.last = self.last.max(sequence);
        self.held.insert(sequence, Held { message: Arc::new(message), bytes, expires });
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<Arc<Message>> {
        let held = self.held.remove(&sequence)?;
        self.bytes = self.bytes.saturating_sub(held.bytes);
        if let Some(at) = held.expires {
            self.expiring.remove(&(at, sequence));
        }
        if let Some(sequences) = self.by_subject.get_mut(&held.message.subject) {
            sequences.remove(&sequence);
            if sequences.is_empty() {
                self.by_subject.remove(&held.message.subject);
            }
        }
        Some(held.message)
    }

    /// Forgets everything after `sequence`, as a crash of the machine does with what was not synced.
    pub(super) fn truncate(&mut self, sequence: u64) {
        let lost: Vec<u64> = self.held.range(sequence + 1..).map(|(lost, _)| *lost).collect();
        for lost in lost {
            self.remove(lost);
        }
        self.last = self.last.min(sequence);
    }

    /// The message that a time to live of its own ends next, and when.
    pub(super) fn expires_next(&self) -> Option<(Timestamp, u64)> {
        self.expiring.first().copied()
    }
}

/// What a message takes in the file store.
pub(super) fn size(subject: &str, headers: &HeaderMap, payload: &[u8]) -> u64 {
    let length = |text: &[u8]| u64::try_from(text.len()).unwrap_or(u64::MAX);
    let headers = header_bytes(headers);
    let header_length = if headers == 0 { 0 } else { HEADER_LENGTH_BYTES };
    RECORD_BYTES + length(subject.as_bytes()) + header_length + headers + length(payload)
}

/// What the headers take on the wire. The order in which the map yields them does not matter here.
fn header_bytes(headers: &HeaderMap) -> u64 {
    if headers.is_empty() {
        return 0;
    }
    let mut bytes = "NATS/1.0\r\n".len() + "\r\n".len();
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        for value in values {
            bytes += name.len() + ": ".len() + value.as_str().len() + "\r\n".len();
        }
    }
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
