//! Whether a stream stores a message. The order of the checks is the real server's: it decides which
//! error a message with two mistakes gets.

use async_nats::{HeaderMap, jetstream::stream::DiscardPolicy};
use common::clock::Timestamp;

use super::{Accepted, Incoming, Stream, limit};
use crate::sim::jetstream::{
    answer::{Refused, code},
    instruction, subject,
};

impl Stream {
    pub(super) fn first_of_id(&mut self, now: Timestamp, headers: &HeaderMap) -> Option<u64> {
        let window = self.duplicate_window();
        let id = instruction::message_id(headers)?;
        self.ids.retain(|_, (_, at)| now.since(*at) < window);
        self.ids.get(id).map(|(sequence, _)| *sequence)
    }

    pub(super) fn accept(&self, incoming: &Incoming) -> Result<Accepted, Refused> {
        let headers = &incoming.headers;
        instruction::check_modelled(headers)?;
        if instruction::expected_stream(headers).is_some_and(|name| name != self.config.name) {
            return Err(Refused::new(10_060, "expected stream does not match"));
        }
        let lives = instruction::ttl(headers);
        if !self.config.allow_message_ttl && !matches!(lives, Ok(None)) {
            return Err(Refused::new(code::TTL_DISABLED, "per-message TTL is disabled"));
        }
        let lives = lives?;
        self.compare(incoming)?;
        let schedule = self.check_schedule(incoming)?;
        let replaces = match instruction::rollup(headers) {
            None => schedule.is_some(),
            Some(_) if !self.allows_rollup() => {
                return Err(Refused::new(code::ROLLUP_FAILED, "rollup not permitted"));
            }
            Some(instruction::ROLLUP_SUBJECT) => true,
            Some(other) => return Err(Refused::not_modelled(other)),
        };
        Ok(Accepted { lives, schedule, replaces })
    }

    fn allows_rollup(&self) -> bool {
        (self.config.allow_rollup || self.config.allow_message_schedules) && !self.config.deny_purge
    }

    /// Compare-and-set: the last sequence of the subject (or of the one named instead).
    fn compare(&self, incoming: &Incoming) -> Result<(), Refused> {
        let wrong = |last: u64| {
            Refused::new(code::WRONG_LAST_SEQUENCE, format!("wrong last sequence: {last}"))
        };
        let other = instruction::expected_subject(&incoming.headers);
        if let Some(expected) = instruction::expected_of_subject(&incoming.headers) {
            let last = self.log.last_of(other.unwrap_or(&incoming.subject));
            if last != expected {
                return Err(wrong(last));
            }
        } else if other.is_some() {
            let why = "missing sequence for expected last sequence per subject";
            return Err(Refused::new(code::EXPECTED_SUBJECT_INVALID, why));
        }
        match instruction::expected_of_stream(&incoming.headers) {
            Some(expected) if expected != self.log.last() => Err(wrong(self.log.last())),
            _ => Ok(()),
        }
    }

    fn check_schedule(&self, incoming: &Incoming) -> Result<Option<Timestamp>, Refused> {
        let schedule = instruction::schedule(&incoming.headers);
        if !self.config.allow_message_schedules && !matches!(schedule, Ok(None)) {
            return Err(Refused::new(code::SCHEDULES_DISABLED, "message schedules is disabled"));
        }
        let Some(schedule) = schedule? else { return Ok(None) };
        if schedule.has_ttl && !self.config.allow_message_ttl {
            return Err(Refused::new(code::TTL_DISABLED, "per-message TTL is disabled"));
        }
        let is_target = subject::is_literal(schedule.target)
            && schedule.target != incoming.subject
            && self.takes(schedule.target);
        if !is_target {
            let why = "message schedules target is invalid";
            return Err(Refused::new(code::SCHEDULE_TARGET_INVALID, why));
        }
        if instruction::rollup(&incoming.headers)
            .is_some_and(|it| it != instruction::ROLLUP_SUBJECT)
        {
            let why = "message schedules invalid rollup";
            return Err(Refused::new(code::SCHEDULE_ROLLUP_INVALID, why));
        }
        Ok(Some(schedule.at))
    }

    /// A stream that discards what is new refuses it; one that discards what is old makes room.
    pub(super) fn check_discard(&self, incoming: &Incoming, size: u64) -> Result<(), Refused> {
        if self.config.discard != DiscardPolicy::New {
            return Ok(());
        }
        let full = |what: &str| Err(Refused::new(code::STORE_FAILED, what));
        let messages_max = limit(self.config.max_messages);
        let per_subject_max = limit(self.config.max_messages_per_subject);
        let held = u64::try_from(self.log.count(&incoming.subject)).unwrap_or(u64::MAX);
        let makes_room = per_subject_max.is_some_and(|max| held >= max);
        if makes_room && self.config.discard_new_per_subject {
            return full("maximum messages per subject exceeded");
        }
        let messages = u64::try_from(self.log.len()).unwrap_or(u64::MAX);
        if !makes_room && messages_max.is_some_and(|max| messages >= max) {
            return full("maximum messages exceeded");
        }
        let bytes = self.log.bytes() + size;
        if !makes_room && limit(self.config.max_bytes).is_some_and(|max| bytes > max) {
            return full("maximum bytes exceeded");
        }
        Ok(())
    }
}
