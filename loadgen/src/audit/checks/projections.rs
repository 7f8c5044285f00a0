//! What services show is what the log folds to.

use super::count;
use crate::audit::{
    evidence::Evidence,
    violation::{BookViolation, Violation},
};

/// Differences that are listed of one projection; one wrong event may show in many entries.
const DIFFERENCES_MAX: usize = 20;

pub(super) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let mut looked_at = 0;
    for projection in &evidence.projections {
        looked_at += count(projection.folded.len());
        let differences = projection.differences().take(DIFFERENCES_MAX);
        found.extend(differences.map(|(key, shown, folded)| {
            let projection = projection.name.clone();
            Violation::from(BookViolation::ProjectionDiffers { projection, key, shown, folded })
        }));
    }
    looked_at
}
