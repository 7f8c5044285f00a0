//! The pulls that wait for messages, and the pin that one of them may hold.

use std::time::Duration;

use common::clock::Timestamp;

use super::{Consumer, WAITING_MAX};
use crate::sim::jetstream::{
    Effects,
    answer::{Ended, Output, Pin, Reader},
    log::Log,
};

/// A request for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// By whom.
    pub reader: Reader,
    /// How many messages at most.
    pub batch: u32,
    /// How long it waits for them; without end where `None`.
    pub expires: Option<Duration>,
    /// Whether it ends as soon as there is nothing to hand out.
    pub no_wait: bool,
    /// The priority group, for a pinned consumer.
    pub group: Option<String>,
    /// The pin that the reader believes to have.
    pub pin: Option<Pin>,
}

#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) reader: Reader,
    left: u32,
    delivered: u32,
    pub(super) expires: Option<Timestamp>,
    no_wait: bool,
    pin: Option<Pin>,
}

impl Waiting {
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// Who owns a pinned consumer, and until when if it does not pull again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pinned {
    pub(super) pin: Pin,
    pub(super) until: Timestamp,
}

impl Consumer {
    /// Takes a request for messages.
    pub(crate) fn pull(&mut self, now: Timestamp, pull: &Pull, log: &Log, effects: &mut Effects) {
        if let Some(timeout) = self.pin_timeout {
            let has_group =
                pull.group.as_ref().is_some_and(|it| self.config.priority_groups.contains(it));
            if !has_group {
                return self.end(pull.reader, Ended::WrongGroup, effects);
            }
            match &mut self.pin {
                Some(owner) if pull.pin == Some(owner.pin) => owner.until = now.plus(timeout),
                Some(_) if pull.pin.is_some() => {
                    return self.end(pull.reader, Ended::WrongPin, effects);
                }
                Some(_) | None => {}
            }
        }
        let left = self.unread + u64::try_from(self.queue.len()).unwrap_or(u64::MAX);
        if pull.no_wait && pull.expires.is_none() && left == 0 {
            return self.end(pull.reader, Ended::NoMessages, effects);
        }
        if pull.no_wait && left > 0 {
            self.end_pulls(now, false, effects);
            let asked: u64 = self.waiting.iter().map(|waiting| u64::from(waiting.left)).sum();
            if left < asked {
                return self.end(pull.reader, Ended::OthersWait, effects);
            }
        }
        if self.waiting.len() >= WAITING_MAX {
            return self.end(pull.reader, Ended::TooMany, effects);
        }
        self.waiting.push_back(Waiting {
            reader: pull.reader,
            left: pull.batch.max(1),
            delivered: 0,
            expires: pull.expires.map(|expires| now.plus(expires)),
            no_wait: pull.no_wait,
            pin: pull.pin,
        });
        self.deliver(now, log, effects);
    }

    fn end(&self, reader: Reader, why: Ended, effects: &mut Effects) {
        let (stream, consumer) = (self.stream.clone(), self.name.clone());
        effects.outputs.push(Output::PullEnded { reader, stream, consumer, why });
    }

    /// Forgets the pulls of a reader whose connection is gone. Its pin stays until it times out.
    pub(crate) fn disconnected(&mut self, reader: Reader) {
        self.waiting.retain(|waiting| waiting.reader != reader);
    }

    /// Takes the pin from whoever has it.
    pub(crate) fn unpin(&mut self, now: Timestamp, log: &Log, effects: &mut Effects) {
        self.pin = None;
        self.deliver(now, log, effects);
    }

    /// The reader that the next message goes to, if there is one; its pull is used up by one.
    pub(super) fn next_reader(&mut self, now: Timestamp, effects: &mut Effects) -> Option<Reader> {
        let needs_pin = self.pin_timeout.is_some() && self.pin.is_none();
        let mut passed = 0;
        while let Some(first) = self.waiting.front() {
            let (reader, shown) = (first.reader, first.pin);
            if first.is_over(now) {
                self.waiting.pop_front();
                self.end(reader, Ended::Expired, effects);
                continue;
            }
            let owner = self.pin.map(|pinned| pinned.pin);
            match (owner, shown) {
                (None, None) if needs_pin => self.assign_pin(now, effects),
                (None, None) => {}
                (Some(owner), Some(shown)) if owner == shown => {}
                // Not the owner: it waits for its turn.
                (Some(_), None) => {
                    self.waiting.rotate_left(1);
                    passed += 1;
                    if passed >= self.waiting.len() {
                        return None;
                    }
                    continue;
                }
                (_, Some(_)) => {
                    self.waiting.pop_front();
                    self.end(reader, Ended::WrongPin, effects);
                    continue;
                }
            }
            return self.use_up_first();
        }
        None
    }

    fn assign_pin(&mut self, now: Timestamp, effects: &mut Effects) {
        let pin = effects.fresh_pin();
        if let (Some(first), Some(timeout)) = (self.waiting.front_mut(), self.pin_timeout) {
            first.pin = Some(pin);
            self.pin = Some(Pinned { pin, until: now.plus(timeout) });
        }
    }

    fn use_up_first(&mut self) -> Option<Reader> {
        let mut first = self.waiting.pop_front()?;
        first.left -= 1;
        first.delivered += 1;
        let reader = first.reader;
        if first.left > 0 {
            self.waiting.push_back(first);
        }
        Some(reader)
    }

    /// Ends the pulls whose time is over and, at the end of the stream, those that do not wait.
    pub(super) fn end_pulls(&mut self, now: Timestamp, at_end: bool, effects: &mut Effects) {
        let mut ended = Vec::new();
        self.waiting.retain(|waiting| {
            let why = if waiting.is_over(now) {
                Some(Ended::Expired)
            } else if at_end
                && waiting.no_wait
                && (waiting.expires.is_none() || waiting.delivered > 0)
            {
                Some(Ended::NoMessages)
            } else {
                None
            };
            ended.extend(why.map(|why| (waiting.reader, why)));
            why.is_none()
        });
        for (reader, why) in ended {
            self.end(reader, why, effects);
        }
    }
}
