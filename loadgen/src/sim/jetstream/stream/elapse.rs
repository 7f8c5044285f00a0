//! What a stream does by itself as time goes on, and what is left of it after a crash.

use std::time::Duration;

use async_nats::{header, jetstream::stream::PersistenceMode};
use common::clock::Timestamp;

use super::{DUPLICATE_WINDOW, Incoming, Stream, TIMER_PAUSE};
use crate::sim::jetstream::{Effects, Replicas, instruction};

impl Stream {
    /// When it has to do something next without being asked. A timer fires `lateness` after it is
    /// due.
    pub(in crate::sim::jetstream) fn wakes_at(&self, lateness: Duration) -> Option<Timestamp> {
        let fires = self.schedules.next().map(|at| at.plus(lateness));
        let own_end = self.log.expires_next().map(|(at, _)| at);
        let consumers = self.consumers.values().filter_map(|consumer| consumer.wakes_at()).min();
        [fires, own_end, self.oldest_ends(), consumers].into_iter().flatten().min()
    }

    fn oldest_ends(&self) -> Option<Timestamp> {
        let max_age = self.config.max_age;
        let oldest = self.log.oldest().filter(|_| !max_age.is_zero())?;
        Some(oldest.published.plus(max_age))
    }

    /// Does what is due at `now`.
    pub(in crate::sim::jetstream) fn wake(
        &mut self,
        now: Timestamp,
        lateness: Duration,
        replicas: Replicas,
        is_full: bool,
        effects: &mut Effects,
    ) {
        while let Some((at, sequence)) = self.log.expires_next()
            && at <= now
        {
            self.remove(now, sequence, effects);
        }
        while self.oldest_ends().is_some_and(|at| at <= now) {
            self.remove(now, self.log.first(), effects);
        }
        self.fire(now, lateness, replicas, is_full, effects);
        for consumer in self.consumers.values_mut() {
            if consumer.wakes_at().is_some_and(|at| at <= now) {
                consumer.wake(now, &self.log, effects);
            }
        }
    }

    fn fire(
        &mut self,
        now: Timestamp,
        lateness: Duration,
        replicas: Replicas,
        is_full: bool,
        effects: &mut Effects,
    ) {
        for sequence in self.schedules.due(now, lateness) {
            let Some(schedule) = self.log.get(sequence) else { continue };
            let subject = schedule.subject.clone();
            let target = schedule.headers.get(header::NATS_SCHEDULE_TARGET);
            let fired = Incoming {
                subject: target.map(|target| target.as_str().to_owned()).unwrap_or_default(),
                headers: instruction::fired(&schedule.headers, &subject),
                payload: schedule.payload.clone(),
            };
            if self.publish(now, fired, replicas, is_full, effects).is_err() {
                self.schedules.stick(&subject);
            }
        }
    }

    /// The machine crashed: a stream that is not synced before its ack loses its last messages.
    pub(in crate::sim::jetstream) fn lose(&mut self, unsynced: u64) {
        if self.config.persist_mode != Some(PersistenceMode::Async) {
            return;
        }
        let last = self.log.last().saturating_sub(unsynced);
        self.log.truncate(last);
    }

    /// Starts again from what is on the disk.
    pub(in crate::sim::jetstream) fn started(&mut self, now: Timestamp) {
        let window = self.duplicate_window();
        self.ids.clear();
        for message in self.log.range(..) {
            if let Some(id) = instruction::message_id(&message.headers)
                && now.since(message.published) < window
            {
                self.ids.insert(id.to_owned(), (message.sequence, message.published));
            }
        }
        self.schedules.restarted(now.plus(TIMER_PAUSE));
        for consumer in self.consumers.values_mut() {
            consumer.started(now, &self.log);
        }
    }

    pub(super) fn duplicate_window(&self) -> Duration {
        match self.config.duplicate_window {
            Duration::ZERO => DUPLICATE_WINDOW,
            window => window,
        }
    }
}
