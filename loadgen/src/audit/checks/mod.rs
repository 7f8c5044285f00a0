//! The checks. Each looks at the evidence alone and says what is not as promised.

mod bonds;
mod causation;
mod exclusive;
pub(super) mod histories;
mod messages;
mod money;
mod nowhere;
mod offers;
mod outbox;
mod pings;
mod projections;
mod promises;
pub(super) mod reactions;
mod requests;
mod timers;

use super::{Checked, evidence::Evidence, violation::Violation};

/// Looks, adds what is wrong, and says how many things it looked at.
type Check = fn(&Evidence, &mut Vec<Violation>) -> u64;

/// Every check, by the question that it answers.
const CHECKS: [(&str, Check); 19] = [
    ("every message is an event", readable),
    ("histories: versions, phases, carried states", histories::check),
    ("a driver is on one trip at a time", exclusive::check),
    ("offers have one end, the same on both sides", offers::check),
    ("drivers are bound by what trips say", bonds::check),
    ("every ride was asked for once", requests::check),
    ("one writer, one event a command, causes before effects", causation::check),
    ("timers: one effect, none left, none overdue", timers::check),
    ("saga: every reaction was taken", reactions::check),
    ("money: charged once, as owed, in every book", money::check),
    ("paid receipts say what was owed and charged", money::receipts),
    ("what phones were promised is in the log", promises::check),
    ("one effect and one answer for a key", promises::keys),
    ("nothing in the log that no phone has tried", nowhere::check),
    ("every accepted ping was counted", pings::check),
    ("every message was handled, or died once and for a reason", messages::check),
    ("nothing was tried more than five times", messages::tries),
    ("projections show what the log folds to", projections::check),
    ("outbox rows are events, and events were rows", outbox::check),
];

/// What the checks looked at, and what they find wrong, sorted and each once.
#[must_use]
pub(super) fn all(evidence: &Evidence) -> (Vec<Checked>, Vec<Violation>) {
    let mut all = Vec::new();
    let checked = CHECKS.map(|(check, look)| {
        let mut found = Vec::new();
        let looked_at = look(evidence, &mut found);
        found.sort();
        found.dedup();
        let violations = count(found.len());
        all.append(&mut found);
        Checked { check, looked_at, violations }
    });
    all.sort();
    all.dedup();
    (checked.into(), all)
}

fn readable(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let unreadable = evidence.log.unreadable.iter().cloned();
    found.extend(unreadable.map(|message| Violation::Unreadable {
        stream: message.stream,
        sequence: message.sequence,
        why: message.why,
    }));
    count(evidence.log.len() + evidence.log.unreadable.len())
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
