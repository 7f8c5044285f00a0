//! Handing out: first what is to be handed out again, then what is new.

use std::sync::Arc;

use common::clock::Timestamp;

use super::{CHECK_SLACK, Consumer, Pending};
use crate::sim::jetstream::{
    Effects,
    answer::{Delivery, Message, Output, Receipt},
    log::Log,
};

enum Next {
    /// A message and which try of it this would be.
    Message(Arc<Message>, u64),
    /// Too many are in hand.
    Full,
    /// Nothing is left.
    End,
}

impl Consumer {
    /// Hands out as long as somebody waits. The real server does this whenever something woke the
    /// consumer, also in vain: then the first message to be handed out again becomes the last one.
    pub(super) fn deliver(&mut self, now: Timestamp, log: &Log, effects: &mut Effects) {
        let mut is_full = false;
        while !self.waiting.is_empty() {
            let (message, attempt) = match self.next_message(now, log) {
                Next::Message(message, attempt) => (message, attempt),
                Next::Full => {
                    is_full = true;
                    break;
                }
                Next::End => break,
            };
            if attempt == 1 {
                self.unread = self.unread.saturating_sub(1);
            }
            if let Some(reader) = self.next_reader(now, effects) {
                let receipt =
                    Receipt { sequence: message.sequence, delivered: self.next_delivery, attempt };
                self.track(now, receipt);
                effects.outputs.push(Output::Delivered(Delivery {
                    reader,
                    stream: self.stream.clone(),
                    consumer: self.name.clone(),
                    message,
                    receipt,
                    pending: self.unread,
                    pin: self.pin.map(|pinned| pinned.pin),
                }));
            } else {
                self.put_back(message.sequence, attempt);
                break;
            }
        }
        self.end_pulls(now, !is_full, effects);
    }

    fn next_message(&mut self, now: Timestamp, log: &Log) -> Next {
        while let Some(sequence) = self.queue.pop_front() {
            let again = self.again.entry(sequence).or_default();
            *again += 1;
            let attempt = *again + 1;
            match log.get(sequence) {
                Some(message) => return Next::Message(Arc::clone(message), attempt),
                None => {
                    self.take_back_attempt(sequence);
                    self.settle_quietly(now, sequence);
                }
            }
        }
        if self.ack_pending_max.is_some_and(|max| self.pending.len() >= max) {
            return Next::Full;
        }
        let found = log.range(self.next..).find(|message| self.reads(&message.subject));
        match found.cloned() {
            Some(message) => {
                self.next = message.sequence + 1;
                Next::Message(message, 1)
            }
            None => {
                self.next = self.next.max(log.last() + 1);
                self.unread = 0;
                self.counted = log.last();
                Next::End
            }
        }
    }

    fn put_back(&mut self, sequence: u64, attempt: u64) {
        if attempt == 1 && sequence + 1 == self.next {
            self.next = sequence;
            self.unread += 1;
        } else if !self.queue.contains(&sequence) {
            self.take_back_attempt(sequence);
            self.queue.push_back(sequence);
        }
    }

    fn take_back_attempt(&mut self, sequence: u64) {
        match self.again.get_mut(&sequence) {
            Some(again) if *again > 1 => *again -= 1,
            Some(_) | None => {
                self.again.remove(&sequence);
            }
        }
    }

    fn track(&mut self, now: Timestamp, receipt: Receipt) {
        self.next_delivery += 1;
        let deadline = now.plus(self.ack_wait);
        let fresh = Pending { delivered: receipt.delivered, deadline };
        self.saved.delivered(fresh, receipt.sequence, receipt.attempt);
        self.saved.touch(now);
        // The first delivery's number stays.
        self.pending.entry(receipt.sequence).or_insert(fresh).deadline = deadline;
        let check = deadline.plus(CHECK_SLACK);
        if self.check_at.is_none_or(|at| at > check) {
            self.check_at = Some(check);
        }
    }
}
