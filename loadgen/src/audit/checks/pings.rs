//! Every accepted ping was counted. A POST without an answer may have been stored or not.

use crate::audit::{evidence::Evidence, violation::Violation};

pub(super) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let Some(pings) = evidence.pings else { return 0 };
    let (accepted, unknown) = (pings.answered.accepted, pings.answered.unknown);
    if !(accepted..=accepted.saturating_add(unknown)).contains(&pings.counted) {
        let counted = pings.counted;
        found.push(Violation::PingsMiscounted { accepted, unknown, counted });
    }
    accepted
}
