//! The audit: compares what was promised, stored, charged and counted, and says what does not fit.
//! It reads the log by the contract alone and shares no rule with the services.

mod books;
mod broker;
mod checks;
mod coverage;
mod evidence;
mod examine;
mod facts;
mod log;
mod projections;
pub mod sentence;
mod settle;
mod sources;
mod tallies;
#[cfg(test)]
mod tests;
mod timeline;
mod violation;

pub use books::{Books, KeyRow, Ledger, LedgerCharge, OutboxRow, Posting, TripRow};
pub use broker::{BrokerEvidence, ConsumerState, DeadLetter, Left, Original};
pub use coverage::{Coverage, Reaction, Row};
pub use evidence::{Evidence, Journaled, PingEvidence, ProviderCharge, counted_pings, journaled};
pub use examine::{Examined, examine};
pub use log::{Entry, Log, Memory, Unreadable};
pub use projections::{Projected, Projection};
pub use settle::{Unsettled, settle};
pub use sources::{Marks, NotPoison, Poison, Services, Sources};
pub use tallies::Tallies;
pub use timeline::{Moment, Timeline, rider_trip};
pub use violation::{Book, BookViolation, History, MessageViolation, OrderViolation, Violation};

use serde::Serialize;

/// How many timelines are printed; the list of violations is always whole.
const TIMELINES_MAX: usize = 5;

/// What the audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What was audited, in numbers.
    pub tallies: Tallies,
    /// What was looked at, check by check.
    pub checks: Vec<Checked>,
    /// What services show, and what the log folds to, each in one number.
    pub projections: Vec<Projected>,
    /// What the run went through.
    pub coverage: Coverage,
    /// What is not as promised.
    pub violations: Vec<Violation>,
}

/// One check of an audit. One that looked at nothing has not passed: it has not been made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// What was checked.
    pub check: &'static str,
    /// How many events, trips, messages or rows it looked at.
    pub looked_at: u64,
    /// How many violations it found.
    pub violations: u64,
}

/// What is wrong with these histories, each by itself: for a log of which the rest is elsewhere.
#[must_use]
pub fn histories(log: Log) -> Vec<Violation> {
    let mut found = Vec::new();
    checks::histories::check(&Evidence { log, ..Evidence::default() }, &mut found);
    found
}

impl Verdict {
    /// Audits the evidence.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let (checks, violations) = checks::all(evidence);
        Self {
            tallies: Tallies::of(evidence),
            checks,
            projections: evidence.projections.iter().map(Projection::projected).collect(),
            coverage: Coverage::of(evidence),
            violations,
        }
    }

    /// The stories of the trips that violations name, a few of them.
    #[must_use]
    pub fn timelines(&self, log: &Log) -> Vec<Timeline> {
        let mut trips: Vec<_> = self.violations.iter().filter_map(Violation::trip).collect();
        trips.sort();
        trips.dedup();
        trips.into_iter().take(TIMELINES_MAX).map(|trip| Timeline::of(log, trip)).collect()
    }
}
