//! What became of what was handed out: acks, terms, naks, progress, or no answer in time.

use std::time::Duration;

use async_nats::jetstream::AckKind;
use common::clock::Timestamp;

use super::{CHECK_SLACK, Consumer, Place};
use crate::sim::jetstream::{Effects, answer::Receipt, log::Log};

/// After a nak with a delay the server looks this soon when it has to look next.
const NAK_CHECK: Duration = Duration::from_millis(10);

impl Consumer {
    /// Takes an answer. `true`: the message is settled, and a work queue removes it.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        receipt: Receipt,
        kind: AckKind,
        log: &Log,
        effects: &mut Effects,
    ) -> bool {
        let sequence = receipt.sequence;
        match kind {
            AckKind::Ack | AckKind::Next | AckKind::Term => {
                // Not handed out, as far as the consumer knows.
                if sequence >= self.next {
                    return false;
                }
                self.settle(now, sequence, log, effects);
                true
            }
            AckKind::Nak(delay) => {
                self.nak(now, receipt, delay, log, effects);
                false
            }
            AckKind::Progress => {
                if let Some(pending) = self.pending.get_mut(&sequence) {
                    pending.deadline = now.plus(self.ack_wait);
                    let pending = *pending;
                    self.saved.delivered(pending, sequence, 1);
                    self.saved.touch(now);
                }
                false
            }
        }
    }

    /// The message is done with.
    pub(super) fn settle(
        &mut self,
        now: Timestamp,
        sequence: u64,
        log: &Log,
        effects: &mut Effects,
    ) {
        let was_full = self.ack_pending_max.is_some_and(|max| self.pending.len() >= max);
        let was_pending = self.settle_quietly(now, sequence);
        if was_full && was_pending {
            self.deliver(now, log, effects);
        }
    }

    /// Whether the message had been in hand.
    pub(super) fn settle_quietly(&mut self, now: Timestamp, sequence: u64) -> bool {
        let pending = self.pending.remove(&sequence);
        if let Some(pending) = pending {
            self.move_floor(pending.delivered, sequence);
        }
        self.again.remove(&sequence);
        self.queue.retain(|queued| *queued != sequence);
        self.saved.settled(sequence);
        self.saved.touch(now);
        pending.is_some()
    }

    pub(super) fn move_floor(&mut self, delivered: u64, sequence: u64) {
        if self.pending.is_empty() {
            self.ack_floor = Place { consumer: self.next_delivery - 1, stream: self.next - 1 };
        } else if delivered == self.ack_floor.consumer + 1 {
            self.ack_floor = Place { consumer: delivered, stream: sequence };
            if let Some((next, pending)) = self.pending.range(sequence + 1..).next()
                && *next < self.next
            {
                self.ack_floor = Place { consumer: pending.delivered - 1, stream: next - 1 };
            }
        }
    }

    fn nak(
        &mut self,
        now: Timestamp,
        receipt: Receipt,
        delay: Option<Duration>,
        log: &Log,
        effects: &mut Effects,
    ) {
        let Receipt { sequence, delivered, attempt } = receipt;
        if delivered <= self.ack_floor.consumer || delivered > self.next_delivery {
            return;
        }
        let Some(pending) = self.pending.get_mut(&sequence) else { return };
        if let Some(delay) = delay {
            pending.deadline = now.plus(delay);
            let pending = *pending;
            self.queue.retain(|queued| *queued != sequence);
            self.saved.delivered(pending, sequence, attempt);
            self.saved.touch(now);
            if self.check_at.is_some() {
                self.check_at = Some(now.plus(NAK_CHECK));
            }
            return;
        }
        if !self.queue.contains(&sequence) {
            self.queue.push_back(sequence);
        }
        self.deliver(now, log, effects);
    }

    /// What was not answered in time is handed out again, in the order of the stream.
    pub(super) fn check_pending(&mut self, now: Timestamp, log: &Log, effects: &mut Effects) {
        let first = log.first();
        let floor = self.ack_floor.stream;
        let gone: Vec<u64> =
            self.pending.keys().copied().filter(|it| *it < first || *it <= floor).collect();
        for sequence in gone {
            self.drop_gone(sequence);
        }
        let mut next = self.ack_wait + CHECK_SLACK;
        let mut expired = Vec::new();
        for (sequence, pending) in &self.pending {
            if pending.deadline <= now {
                if !self.queue.contains(sequence) {
                    expired.push((*sequence, pending.deadline));
                }
            } else {
                next = next.min(pending.deadline.since(now));
            }
        }
        if let Some((_, first_deadline)) = expired.first() {
            let later = now.since(*first_deadline) + self.ack_wait;
            for (sequence, _) in &expired {
                self.queue.push_back(*sequence);
                if let Some(pending) = self.pending.get_mut(sequence) {
                    pending.deadline = pending.deadline.plus(later);
                }
            }
        }
        if self.pending.is_empty() {
            self.check_at = None;
            self.queue.clear();
            self.ack_floor = Place { consumer: self.next_delivery - 1, stream: self.next - 1 };
        } else {
            self.check_at = Some(now.plus(next));
        }
        if !expired.is_empty() {
            self.deliver(now, log, effects);
        }
    }

    fn drop_gone(&mut self, sequence: u64) {
        if let Some(pending) = self.pending.remove(&sequence) {
            self.ack_floor.stream = self.ack_floor.stream.max(sequence);
            self.ack_floor.consumer = self.ack_floor.consumer.max(pending.delivered);
        }
        self.again.remove(&sequence);
        self.queue.retain(|queued| *queued != sequence);
    }
}
