//! Who wrote what, and why: one writer to a stream, one event for a command, and a logical clock that
//! grows along every history and from every cause to its effect.

use std::collections::{BTreeMap, HashMap};

use common::{
    clock::Hlc,
    id::{CommandId, EventId},
    stream,
};
use uuid::Uuid;

use crate::audit::{
    evidence::Evidence,
    log::{Entry, Log},
    violation::{History, OrderViolation, Violation},
};

/// The steps by which an event causes a command to a driver. Those commands are gone once they are
/// carried out, but what they are called is known.
const STEPS_TO_DRIVERS: [&str; 2] = ["offer", "release"];

pub(super) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let log = &evidence.log;
    let places = places(log, found);
    let mut looked_at = 0;
    for (trip, entries) in &log.trips {
        let history = History::Trip(*trip);
        looked_at += check_history(stream::TRIP, &history.to_string(), entries, &places, found);
        check_commands(history, entries, found);
    }
    for (driver, entries) in &log.drivers {
        let history = History::Driver(*driver);
        looked_at += check_history(stream::DRIVER, &history.to_string(), entries, &places, found);
        check_commands(history, entries, found);
    }
    let mut riders: BTreeMap<&str, Vec<&Entry<_>>> = BTreeMap::new();
    for entry in &log.riders {
        riders.entry(&entry.subject).or_default().push(entry);
    }
    for entries in riders.into_values() {
        let of = entries.first().map_or_else(Uuid::nil, |entry| entry.of);
        let of = format!("rider `{of}`");
        looked_at += check_history(stream::RIDER, &of, entries, &places, found);
    }
    looked_at
}

/// Where an event is.
#[derive(Clone, Copy)]
struct Place {
    stream: &'static str,
    sequence: u64,
    hlc: Hlc,
}

/// Where everything is that can be a cause; an id that is there twice is wrong by itself.
fn places(log: &Log, found: &mut Vec<Violation>) -> HashMap<Uuid, Place> {
    let mut places: HashMap<Uuid, Place> = HashMap::with_capacity(log.len());
    let mut note = |id: Uuid, place: Place| {
        if let Some(first) = places.insert(id, place) {
            let stream = place.stream.to_owned();
            let (first, second) = (first.sequence, place.sequence);
            found.push(OrderViolation::EventTwice { id, stream, first, second }.into());
        }
    };
    for entry in log.trips.values().flatten() {
        let place = place(stream::TRIP, entry);
        note(entry.id, place);
    }
    for entry in log.drivers.values().flatten() {
        note(entry.id, place(stream::DRIVER, entry));
    }
    for entry in &log.riders {
        note(entry.id, place(stream::RIDER, entry));
    }
    let causes: Vec<(Uuid, Place)> = places.iter().map(|(id, place)| (*id, *place)).collect();
    for (id, place) in causes {
        for step in STEPS_TO_DRIVERS {
            places.insert(CommandId::step(EventId(id), step).0, place);
        }
    }
    places
}

fn place<E>(stream: &'static str, entry: &Entry<E>) -> Place {
    Place { stream, sequence: entry.sequence, hlc: entry.hlc }
}

fn check_history<'a, E: 'a>(
    stream: &'static str,
    of: &str,
    entries: impl IntoIterator<Item = &'a Entry<E>>,
    places: &HashMap<Uuid, Place>,
    found: &mut Vec<Violation>,
) -> u64 {
    let mut before: Option<Hlc> = None;
    let mut looked_at = 0;
    for entry in entries {
        looked_at += 1;
        check_writer(stream, entry, found);
        if let Some(before) = before.filter(|before| entry.hlc <= *before) {
            found.push(
                OrderViolation::ClockBackwards {
                    of: of.to_owned(),
                    stream: stream.to_owned(),
                    sequence: entry.sequence,
                    hlc: entry.hlc.to_string(),
                    before: before.to_string(),
                }
                .into(),
            );
        }
        before = Some(entry.hlc);
        let cause = entry.cause.and_then(|cause| places.get(&cause));
        if let Some(cause) = cause.filter(|cause| entry.hlc <= cause.hlc) {
            found.push(
                OrderViolation::BeforeItsCause {
                    stream: stream.to_owned(),
                    sequence: entry.sequence,
                    hlc: entry.hlc.to_string(),
                    cause_stream: cause.stream.to_owned(),
                    cause: cause.sequence,
                    before: cause.hlc.to_string(),
                }
                .into(),
            );
        }
    }
    looked_at
}

fn check_writer<E>(stream: &'static str, entry: &Entry<E>, found: &mut Vec<Violation>) {
    let sequence = entry.sequence;
    let owner = stream.to_lowercase();
    if entry.source != owner {
        let (stream, source_name) = (stream.to_owned(), entry.source.clone());
        let foreign = OrderViolation::ForeignWriter { stream, sequence, source_name, owner };
        found.push(foreign.into());
    }
    let subject = entry.subject.rsplit('.').next().and_then(|key| key.parse().ok());
    let subject: Uuid = subject.unwrap_or_default();
    if subject != entry.of {
        let (stream, envelope) = (stream.to_owned(), entry.of);
        let astray = OrderViolation::Misaddressed { stream, sequence, subject, envelope };
        found.push(astray.into());
    }
}

fn check_commands<E>(history: History, entries: &[Entry<E>], found: &mut Vec<Violation>) {
    let mut made: HashMap<u64, u64> = HashMap::new();
    for (entry, version) in entries.iter().zip(1..) {
        if let Some(before) = made.insert(entry.memory.command, version) {
            found.push(OrderViolation::CommandTwice { history, before, version }.into());
        }
        if !entry.memory.is_whole {
            found.push(OrderViolation::Forgetful { history, version }.into());
        }
    }
}
