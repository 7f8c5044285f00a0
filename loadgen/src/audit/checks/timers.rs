//! Timers: each had its effect at most once and only while it ran; none outlives what it waits for;
//! none is forgotten; and whatever goes on has one that will end it.

use std::{collections::HashMap, time::Duration};

use common::{
    clock::Timestamp,
    contract::v1::{self, OfferEnd, Party},
    id::{CommandId, EventId},
    timer::SWEEP_EVERY,
};
use uuid::Uuid;

use super::count;
use crate::audit::{
    evidence::Evidence,
    facts::{Bond, DriverFacts, TripFacts},
    log::Entry,
    violation::{History, OrderViolation, Violation},
};

/// A timer that the broker did not fire is found by the next sweep but one, and a sweep takes a
/// moment.
const OVERDUE_MAX: Duration = Duration::from_secs(2 * SWEEP_EVERY.as_secs());

pub(super) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let mut looked_at = 0;
    for (trip, entries) in &evidence.log.trips {
        let history = History::Trip(*trip);
        let is_effect = |event: &v1::TripEvent| is_trip_timer(event);
        looked_at += check_effects(history, trip.0, entries, is_effect, found);
        let Some(last) = entries.last() else { continue };
        let facts = last.event.state.as_ref().map(TripFacts::carried).unwrap_or_default();
        let wanted = [facts.timer(), facts.open_offer().map(|_| "offer_lease")];
        let running = Running { history, entries, wanted: &wanted };
        running.check(evidence.read_at, found);
    }
    for (driver, entries) in &evidence.log.drivers {
        let history = History::Driver(*driver);
        let is_effect = |event: &v1::DriverEvent| {
            matches!(event.kind, Some(v1::driver_event::Kind::OfferLapsed(_)))
        };
        looked_at += check_effects(history, driver.0, entries, is_effect, found);
        let state = entries.last().and_then(|last| last.event.state.as_ref());
        let bond = state.map(DriverFacts::carried).unwrap_or_default().bond;
        let wanted = [matches!(bond, Bond::Offered(..)).then_some("offer_lapse")];
        Running { history, entries, wanted: &wanted }.check(evidence.read_at, found);
    }
    looked_at
}

/// What nobody does but a timer.
fn is_trip_timer(event: &v1::TripEvent) -> bool {
    use v1::trip_event::Kind;
    match event.kind.as_ref() {
        Some(Kind::Unfulfilled(_) | Kind::WaitOver(_) | Kind::Stalled(_)) => true,
        Some(Kind::OfferClosed(closed)) => closed.why() == OfferEnd::LeaseOver,
        Some(Kind::Unassigned(unassigned)) => unassigned.by() == Party::System,
        Some(Kind::Cancelled(cancelled)) => cancelled.by() == Party::System,
        _ => false,
    }
}

/// An event with a stamp.
pub(super) trait Stamped {
    fn stamp(&self) -> Option<&v1::Stamp>;
}

impl Stamped for v1::TripEvent {
    fn stamp(&self) -> Option<&v1::Stamp> {
        self.stamp.as_ref()
    }
}

impl Stamped for v1::DriverEvent {
    fn stamp(&self) -> Option<&v1::Stamp> {
        self.stamp.as_ref()
    }
}

fn timers<E: Stamped>(entry: &Entry<E>) -> &[v1::Timer] {
    entry.event.stamp().map_or(&[], |stamp| &stamp.timers)
}

fn timer_id(timer: &v1::Timer) -> Uuid {
    Uuid::from_slice(&timer.id).unwrap_or_default()
}

/// The event that a timer makes, if it makes one: its name is derived from the timer's.
fn effect_of(aggregate: Uuid, timer: Uuid) -> Uuid {
    EventId::derived(aggregate, CommandId::step(EventId(timer), "due")).0
}

/// Counts the timers that were started, and finds effects of timers that did not run at the time.
fn check_effects<E: Stamped>(
    history: History,
    aggregate: Uuid,
    entries: &[Entry<E>],
    is_effect: impl Fn(&E) -> bool,
    found: &mut Vec<Violation>,
) -> u64 {
    // Effect to timer, for every timer that was ever started here.
    let mut effects: HashMap<Uuid, Uuid> = HashMap::new();
    let mut running: &[v1::Timer] = &[];
    for (entry, version) in entries.iter().zip(1..) {
        let fired = effects.get(&entry.id).copied();
        let ran = fired.is_some_and(|fired| running.iter().any(|it| timer_id(it) == fired));
        if (fired.is_some() || is_effect(&entry.event)) && !ran {
            let kind = entry.kind.clone();
            found.push(OrderViolation::FiredWithoutRunning { history, version, kind }.into());
        }
        running = timers(entry);
        for timer in running {
            effects.insert(effect_of(aggregate, timer_id(timer)), timer_id(timer));
            if Some(timer_id(timer)) == fired {
                found.push(left(history, version, timer));
            }
        }
    }
    count(effects.len())
}

fn left(history: History, version: u64, timer: &v1::Timer) -> Violation {
    let (timer, kind) = (timer_id(timer), timer.kind.clone());
    OrderViolation::TimerLeft { history, version, timer, kind }.into()
}

/// The timers that the last event names.
struct Running<'a, E> {
    history: History,
    entries: &'a [Entry<E>],
    wanted: &'a [Option<&'static str>],
}

impl<E: Stamped> Running<'_, E> {
    fn check(&self, now: Option<Timestamp>, found: &mut Vec<Violation>) {
        let Some(last) = self.entries.last() else { return };
        let (history, version) = (self.history, count(self.entries.len()));
        for kind in self.wanted.iter().flatten() {
            if !timers(last).iter().any(|timer| timer.kind == *kind) {
                let missing = (*kind).to_owned();
                found.push(OrderViolation::Stuck { history, version, missing }.into());
            }
        }
        for timer in timers(last) {
            if !self.wanted.contains(&Some(timer.kind.as_str())) {
                found.push(left(history, version, timer));
                continue;
            }
            let due = Timestamp::from_micros(timer.due_us);
            let overdue = now.map_or(Duration::ZERO, |now| now.since(due));
            if overdue > OVERDUE_MAX {
                let (timer, kind) = (timer_id(timer), timer.kind.clone());
                let overdue_s = overdue.as_secs();
                found.push(OrderViolation::TimerOverdue { history, timer, kind, overdue_s }.into());
            }
        }
    }
}
