//! Whether every history in the archive is whole: all its events, each carrying what they fold to,
//! up to an end.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use common::{contract::v1, id::TripId, stream};
use trip::archive::{ArchiveError, contents, merged};

use crate::audit::{Log, Violation, histories};

/// What was found.
#[derive(Debug, Default)]
pub struct Verified {
    /// How many trips there are.
    pub trips: usize,
    /// How many of them are there more than once. That is no fault.
    pub repeated: usize,
    /// How many events.
    pub events: usize,
    /// What does not fit.
    pub violations: Vec<Violation>,
    /// Trips that have not ended, or whose events cannot be read.
    pub unfit: Vec<TripId>,
    /// Segments that end within a member. That is no fault, either: the log has the trip.
    pub torn: Vec<PathBuf>,
}

impl Verified {
    /// Whether all of it can be relied on.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.unfit.is_empty()
    }
}

/// Unpacks and folds every history.
///
/// # Errors
/// When a segment cannot be read, or is corrupt.
pub fn verify(dir: &Path) -> Result<Verified, ArchiveError> {
    let contents = contents(dir)?;
    let mut verified = Verified::default();
    for (trip, members) in contents.trips() {
        verified.trips += 1;
        verified.repeated += usize::from(members.len() > 1);
        // One at a time: an archive is larger than a memory.
        let mut log = Log::default();
        for stored in merged(members)? {
            log.take(stream::TRIP, stored);
        }
        verified.events += log.len();
        let last = log.trips.get(&trip).and_then(|events| events.last());
        let phase = last.and_then(|last| last.event.state.as_ref()).map(v1::TripState::phase);
        if !phase.is_some_and(v1::TripPhase::is_end) || !log.unreadable.is_empty() {
            verified.unfit.push(trip);
        }
        verified.violations.extend(histories(log));
    }
    verified.torn = contents.torn;
    Ok(verified)
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trips, repeated, events, violations, unfit, torn } = self;
        writeln!(f, "{trips} trips, {events} events; {repeated} trips are there more than once")?;
        for segment in torn {
            writeln!(
                f,
                "`{}` ends in the middle: its writer died, the log has it",
                segment.display()
            )?;
        }
        for trip in unfit {
            writeln!(f, "trip {trip} has not ended, or cannot be read")?;
        }
        for violation in violations {
            writeln!(f, "{violation}")?;
        }
        writeln!(
            f,
            "{}",
            if self.is_good() { "all of it is whole" } else { "not all of it is whole" }
        )
    }
}
