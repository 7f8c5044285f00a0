//! What a consumer keeps on the disk: written at most every tenth of a second, so that a crash of the
//! broker forgets the last acks and deliveries.

use std::{collections::BTreeMap, time::Duration};

use common::clock::Timestamp;

use super::{Consumer, Pending, Place};
use crate::sim::jetstream::log::Log;

/// The server writes a consumer's state this often at most.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// What `CONSUMER.INFO` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerState {
    /// The last delivery.
    pub delivered: Place,
    /// Everything up to here is done with.
    pub ack_floor: Place,
    /// Messages in hand.
    pub ack_pending: usize,
    /// Messages that were handed out more than once and are not done with.
    pub redelivered: usize,
    /// Messages that it has not read yet.
    pub pending: u64,
    /// Pulls that wait.
    pub waiting: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Written {
    delivered: Place,
    ack_floor: Place,
    pending: BTreeMap<u64, Pending>,
    again: BTreeMap<u64, u64>,
}

#[derive(Debug)]
pub(super) struct Saved {
    /// What the server tells and will write.
    current: Written,
    /// What is on the disk.
    flushed: Written,
    flushed_at: Timestamp,
    is_dirty: bool,
}

impl Saved {
    pub(super) fn starting(now: Timestamp, stream: u64) -> Self {
        let place = Place { consumer: 0, stream };
        let written = Written { delivered: place, ack_floor: place, ..Written::default() };
        Self { current: written.clone(), flushed: written, flushed_at: now, is_dirty: false }
    }

    pub(super) fn delivered(&mut self, pending: Pending, sequence: u64, attempt: u64) {
        let current = &mut self.current;
        let known = current.pending.entry(sequence).or_insert(pending);
        known.deadline = pending.deadline;
        current.delivered.consumer = current.delivered.consumer.max(pending.delivered);
        current.delivered.stream = current.delivered.stream.max(sequence);
        if attempt > 1 {
            current.again.insert(sequence, attempt - 1);
        }
    }

    pub(super) fn settled(&mut self, sequence: u64) {
        let current = &mut self.current;
        current.again.remove(&sequence);
        let Some(pending) = current.pending.remove(&sequence) else { return };
        if current.pending.is_empty() {
            current.ack_floor = current.delivered;
        } else if pending.delivered == current.ack_floor.consumer + 1 {
            current.ack_floor = Place { consumer: pending.delivered, stream: sequence };
            if current.delivered.consumer > pending.delivered
                && let Some((next, later)) = current.pending.range(sequence + 1..).next()
            {
                current.ack_floor = Place { consumer: later.delivered - 1, stream: next - 1 };
            }
        }
    }

    /// Something changed at `now`.
    pub(super) fn touch(&mut self, now: Timestamp) {
        self.is_dirty = true;
        if now.since(self.flushed_at) >= FLUSH_EVERY {
            self.flush(now);
        }
    }

    pub(super) fn flush_at(&self) -> Option<Timestamp> {
        self.is_dirty.then(|| self.flushed_at.plus(FLUSH_EVERY))
    }

    pub(super) fn flush_if_due(&mut self, now: Timestamp) {
        if self.flush_at().is_some_and(|at| at <= now) {
            self.flush(now);
        }
    }

    pub(super) fn flush(&mut self, now: Timestamp) {
        self.flushed = self.current.clone();
        self.flushed_at = now;
        self.is_dirty = false;
    }
}

impl Consumer {
    /// What the server says of it. Being asked, it looks whether what it counted can be.
    pub(crate) fn state(&mut self, log: &Log) -> ConsumerState {
        let left = (log.last() + 1).saturating_sub(self.next);
        let held = u64::try_from(log.len()).unwrap_or(u64::MAX);
        self.unread = self.unread.min(held).min(left);
        ConsumerState {
            delivered: self.saved.current.delivered,
            ack_floor: self.saved.current.ack_floor,
            ack_pending: self.pending.len(),
            redelivered: self.again.len(),
            pending: self.unread,
            waiting: self.waiting.len(),
        }
    }

    /// Writes everything as the server has it in memory.
    pub(super) fn save_all(&mut self, now: Timestamp) {
        self.saved.current = Written {
            delivered: Place { consumer: self.next_delivery - 1, stream: self.next - 1 },
            ack_floor: self.ack_floor,
            pending: self.pending.clone(),
            again: self.again.clone(),
        };
        self.saved.flush(now);
    }

    /// The broker stops in order: what is known is written.
    pub(crate) fn stopped(&mut self, now: Timestamp) {
        self.saved.flush(now);
    }

    /// The broker starts again with what is on the disk: pulls, pins and the queue of what is to be
    /// handed out again are gone.
    pub(crate) fn started(&mut self, now: Timestamp, log: &Log) {
        let written = self.saved.flushed.clone();
        self.waiting.clear();
        self.queue.clear();
        self.pin = None;
        self.next = written.delivered.stream + 1;
        self.next_delivery = written.delivered.consumer + 1;
        self.ack_floor = written.ack_floor;
        self.pending = written.pending.clone();
        self.again = written.again.clone();
        self.saved.current = written;
        self.saved.is_dirty = false;
        if self.next > log.last() + 1 {
            self.reconcile(log);
            self.save_all(now);
        }
        let first = log.first();
        self.again.retain(|sequence, _| first <= *sequence);
        self.count_unread(log);
        let soon = self.ack_wait.min(RESTART_CHECK) + super::CHECK_SLACK;
        self.check_at = (!self.pending.is_empty()).then(|| now.plus(soon));
    }

    /// The stream lost its tail: what was handed out of it never was.
    fn reconcile(&mut self, log: &Log) {
        let last = log.last();
        if self.ack_floor.stream > last {
            self.ack_floor = Place { consumer: self.next_delivery.saturating_sub(1), stream: last };
            self.pending.clear();
            self.again.clear();
        }
        self.pending.retain(|sequence, _| *sequence <= last);
        self.again.retain(|sequence, _| *sequence <= last);
        match self.pending.last_key_value() {
            None => {
                self.next = self.ack_floor.stream + 1;
                self.next_delivery = self.ack_floor.consumer + 1;
            }
            Some((sequence, _)) => {
                self.next = sequence + 1;
                let delivered = self.pending.values().map(|it| it.delivered).max().unwrap_or(0);
                self.next_delivery = delivered + 1;
            }
        }
    }
}

/// After a restart the server looks at unanswered messages within half a second to one and a half.
const RESTART_CHECK: Duration = Duration::from_secs(1);
