//! The checks. Each looks at the evidence alone and says what is not as promised.

mod bonds;
mod exclusive;
mod histories;
mod money;
mod offers;
mod pings;
mod promises;
mod requests;

use super::{evidence::Evidence, violation::Violation};

/// What the checks find wrong, sorted and each once.
#[must_use]
pub(super) fn all(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let unreadable = evidence.log.unreadable.iter().cloned();
    found.extend(unreadable.map(|message| Violation::Unreadable {
        stream: message.stream,
        sequence: message.sequence,
        why: message.why,
    }));
    histories::check(&evidence.log, &mut found);
    exclusive::check(&evidence.log, &mut found);
    offers::check(&evidence.log, &mut found);
    bonds::check(&evidence.log, &mut found);
    requests::check(&evidence.log, &mut found);
    money::check(evidence, &mut found);
    promises::check(evidence, &mut found);
    pings::check(evidence, &mut found);
    found.sort();
    found.dedup();
    found
}
