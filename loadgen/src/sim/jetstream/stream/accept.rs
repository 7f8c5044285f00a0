//! Whether a stream stores a message. The order of the checks is the real server's: it decides which
//! error a message with two mistakes gets.

use async_nats::{HeaderMap, jetstream::stream::DiscardPolicy};
use common::clock::Timestamp;

use super::{Accepted, Incoming, Stream, Verdict, limit};
use crate::sim::jetstream::{
    Replicas,
    answer::{Refused, code},
    instruction::{self, Lifetime},
    subject,
};

impl Stream {
    pub(super) fn first_of_id(&mut self, now: Timestamp, headers: &HeaderMap) -> Option<u64> {
        let window = self.duplicate_window();
        let id = instruction::message_id(headers)?;
        self.ids.retain(|_, (_, at)| now.since(*at) < window);
        self.ids.get(id).map(|(sequence, _)| *sequence)
    }

    /// What the headers ask for; `duplicate` is where a message of the same id is. A single node
    /// looks for duplicates after it has compared sequences, a group of three before.
    pub(super) fn accept(
        &self,
        incoming: &Incoming,
        duplicate: Option<u64>,
        replicas: Replicas,
    ) -> Result<Verdict, Refused> {
        let headers = &incoming.headers;
        instruction::check_modelled(headers)?;
        if instruction::expected_stream(headers).is_some_and(|name| name != self.config.name) {
            return Err(Refused::new(code::STREAM_MISMATCH, "expected stream does not match"));
        }
        let lives = instruction::ttl(headers);
        if !self.config.allow_message_ttl && !matches!(lives, Ok(Lifetime::Unsaid) | Err(_)) {
            return Err(Refused::new(code::TTL_DISABLED, "per-message TTL is disabled"));
        }
        if let (Some(sequence), Replicas::Three) = (duplicate, replicas) {
            lives?;
            return Ok(Verdict::Duplicate(sequence));
        }
        self.compare(incoming)?;
        let schedule = self.check_schedule(incoming)?;
        self.check_end_of_schedule(incoming)?;
        if let Some(sequence) = duplicate {
            return Ok(Verdict::Duplicate(sequence));
        }
        let replaces = self.check_rollup(incoming, schedule.is_some())?;
        Ok(Verdict::Accepted(Accepted { lives, schedule, replaces, bytes: 0 }))
    }

    fn check_rollup(&self, incoming: &Incoming, is_schedule: bool) -> Result<bool, Refused> {
        let failed = |why: &str| Err(Refused::new(code::ROLLUP_FAILED, why));
        match instruction::rollup(&incoming.headers) {
            None => Ok(is_schedule),
            Some(_) if !self.allows_rollup() => failed("rollup not permitted"),
            Some(instruction::ROLLUP_SUBJECT) => Ok(true),
            Some("all") => Err(Refused::not_modelled("rollup of a whole stream")),
            Some(other) => failed(&format!("rollup value invalid: \"{other}\"")),
        }
    }

    /// A message that ends a schedule names it, and it is one, if there is anything.
    fn check_end_of_schedule(&self, incoming: &Incoming) -> Result<(), Refused> {
        let invalid =
            || Err(Refused::new(code::SCHEDULER_INVALID, "message schedules invalid scheduler"));
        let scheduler = instruction::scheduler(&incoming.headers).filter(|it| !it.is_empty());
        let Some(next) = instruction::schedule_next(&incoming.headers).filter(|it| !it.is_empty())
        else {
            return if scheduler.is_some() { invalid() } else { Ok(()) };
        };
        if !self.config.allow_message_schedules {
            return Err(schedules_disabled());
        }
        let Some(schedule) = scheduler.filter(|_| next == instruction::PURGE) else {
            return invalid();
        };
        let is_schedule = match self.log.get(self.log.last_of(schedule)) {
            Some(message) => instruction::is_schedule(&message.headers),
            None => true,
        };
        if schedule == incoming.subject || !subject::is_literal(schedule) || !is_schedule {
            return invalid();
        }
        Ok(())
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
        if !self.config.allow_message_schedules && instruction::is_schedule(&incoming.headers) {
            return Err(schedules_disabled());
        }
        let Some(schedule) = instruction::schedule(&incoming.headers)? else { return Ok(None) };
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

fn schedules_disabled() -> Refused {
    Refused::new(code::SCHEDULES_DISABLED, "message schedules is disabled")
}
