//! The timers of one stream: which subject's schedule is due when.

use std::{collections::BTreeMap, time::Duration};

use common::clock::Timestamp;

#[derive(Debug, Clone, Copy)]
struct Timer {
    sequence: u64,
    at: Timestamp,
    /// It fired and what it fired was refused: the real server does not try again before it is
    /// restarted.
    is_stuck: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Schedules {
    by_subject: BTreeMap<String, Timer>,
}

impl Schedules {
    /// Sets the subject's one timer, in place of what it had.
    pub(super) fn set(&mut self, subject: &str, sequence: u64, at: Timestamp) {
        self.by_subject.insert(subject.to_owned(), Timer { sequence, at, is_stuck: false });
    }

    /// Forgets the timer that is the message of this sequence.
    pub(super) fn removed(&mut self, subject: &str, sequence: u64) {
        if self.by_subject.get(subject).is_some_and(|timer| timer.sequence == sequence) {
            self.by_subject.remove(subject);
        }
    }

    /// When the next timer fires.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.by_subject.values().filter(|timer| !timer.is_stuck).map(|timer| timer.at).min()
    }

    /// The messages whose time has come, in the order in which they were stored.
    pub(super) fn due(&self, now: Timestamp, lateness: Duration) -> Vec<u64> {
        let is_due = |timer: &&Timer| !timer.is_stuck && timer.at.plus(lateness) <= now;
        let mut due: Vec<u64> =
            self.by_subject.values().filter(is_due).map(|timer| timer.sequence).collect();
        due.sort_unstable();
        due
    }

    pub(super) fn stick(&mut self, subject: &str) {
        if let Some(timer) = self.by_subject.get_mut(subject) {
            timer.is_stuck = true;
        }
    }

    /// After a restart every timer is tried again, none before `earliest`.
    pub(super) fn restarted(&mut self, earliest: Timestamp) {
        for timer in self.by_subject.values_mut() {
            timer.is_stuck = false;
            timer.at = timer.at.max(earliest);
        }
    }
}
