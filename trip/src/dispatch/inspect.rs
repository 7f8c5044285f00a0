//! The match inspector: the last batches, as operations look at them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::{
    clock::Timestamp,
    geo::Point,
    id::{DriverId, OfferId, TripId},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    assign::{Assignment, Method},
    batch::{Batch, Priced, Row},
};

/// Batches that are kept.
pub const BATCHES_MAX: usize = 32;
/// Candidates that are kept in all batches together: about 10 MB.
const CANDIDATES_KEPT_MAX: usize = 50_000;

/// One batch, from the open trips to the offers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BatchReport {
    /// Counted from the dispatcher's start.
    pub number: u64,
    /// When the trips were taken.
    pub at: Timestamp,
    /// How long it took to learn who is near.
    pub queries_took_in_us: u64,
    /// How long it took to choose.
    pub choice_took_in_us: u64,
    /// Edges that the solver looked at.
    pub steps: u64,
    /// How the pairs were chosen.
    pub method: Method,
    /// The trips.
    pub requests: Vec<RequestReport>,
    /// What was chosen, all in all.
    pub chosen: Totals,
    /// What the cheapest edge first would have given.
    pub greedy: Totals,
}

/// One trip in a batch.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RequestReport {
    /// Which.
    pub trip_id: TripId,
    /// The version that the offer was made on.
    pub version: u64,
    /// Where the rider waits.
    pub pickup: Point,
    /// For how long already.
    pub waited_in_ms: u64,
    /// Rounds that found nobody.
    pub failed_rounds: u32,
    /// How far away a driver was allowed to be.
    pub eta_max_s: u32,
    /// How well it is known who is near.
    pub knowledge: Knowledge,
    /// Who may be asked.
    pub candidates: Vec<CandidateReport>,
    /// Who was asked.
    pub offer: Option<OfferReport>,
}

/// How well it is known who is near.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Knowledge {
    /// Every partition answered.
    Complete,
    /// Some did.
    Partial,
    /// None did.
    None,
}

/// A driver who may be asked.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct CandidateReport {
    /// Who.
    pub driver_id: DriverId,
    /// Where.
    pub position: Point,
    /// By road.
    pub eta_s: u32,
    /// By road.
    pub distance_m: u32,
    /// Seconds, less credits.
    pub cost: i32,
}

/// What became of a chosen pair.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct OfferReport {
    /// The proposal.
    pub offer_id: OfferId,
    /// To whom.
    pub driver_id: DriverId,
    /// Seconds, less credits.
    pub cost: i32,
    /// How it went.
    pub outcome: Made,
}

/// How a proposal went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Made {
    /// It is in the trip's history.
    Offered,
    /// It had been made before: by another dispatcher, or by this one before a crash.
    Repeated,
    /// The trip had moved on.
    Refused,
    /// The event store could not be reached; the next batch tries again.
    Failed,
}

/// Pairs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Totals {
    /// How many.
    pub pairs: usize,
    /// Their costs.
    pub cost: i64,
    /// Their ways to the pickup.
    pub eta_s: u64,
}

/// The last batches; cheap to clone and to share.
#[derive(Debug, Clone, Default)]
pub struct Inspector {
    last: Arc<Mutex<VecDeque<Arc<BatchReport>>>>,
}

impl Inspector {
    /// The last batches, newest first.
    #[must_use]
    pub fn last(&self, limit: usize) -> Vec<Arc<BatchReport>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().rev().take(limit).cloned().collect()
    }

    pub(super) fn keep(&self, report: BatchReport) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_back(Arc::new(report));
        let mut kept: usize = last.iter().map(|report| report.candidates()).sum();
        while BATCHES_MAX < last.len() || (CANDIDATES_KEPT_MAX < kept && 1 < last.len()) {
            kept -= last.pop_front().map_or(0, |oldest| oldest.candidates());
        }
    }
}

impl BatchReport {
    pub(super) fn new(
        number: u64,
        at: Timestamp,
        batch: &Batch,
        (queries_took, choice_took): (Duration, Duration),
        made: &[(TripId, OfferReport)],
    ) -> Self {
        let offer = |row: &Row| {
            made.iter().find(|(trip, _)| *trip == row.asked.open.trip).map(|(_, offer)| *offer)
        };
        Self {
            number,
            at,
            queries_took_in_us: micros(queries_took),
            choice_took_in_us: micros(choice_took),
            steps: batch.chosen.steps,
            method: batch.chosen.method,
            requests: batch
                .rows
                .iter()
                .map(|row| RequestReport::new(row, at, offer(row)))
                .collect(),
            chosen: totals(batch, &batch.chosen),
            greedy: totals(batch, &batch.greedy),
        }
    }

    fn candidates(&self) -> usize {
        self.requests.iter().map(|request| request.candidates.len()).sum()
    }
}

impl RequestReport {
    fn new(row: &Row, at: Timestamp, offer: Option<OfferReport>) -> Self {
        let open = &row.asked.open;
        let knowledge = match &row.asked.answer {
            Some(answer) if answer.is_complete => Knowledge::Complete,
            Some(_) => Knowledge::Partial,
            None => Knowledge::None,
        };
        Self {
            trip_id: open.trip,
            version: open.version,
            pickup: open.pickup,
            waited_in_ms: at.in_ms(open.requested_at),
            failed_rounds: open.failed_rounds,
            eta_max_s: row.asked.eta_max_s,
            knowledge,
            candidates: row.priced.iter().map(CandidateReport::from).collect(),
            offer,
        }
    }
}

impl From<&Priced> for CandidateReport {
    fn from(priced: &Priced) -> Self {
        Self {
            driver_id: priced.candidate.driver,
            position: priced.candidate.position,
            eta_s: priced.candidate.eta_s,
            distance_m: priced.candidate.distance_m,
            cost: priced.cost,
        }
    }
}

fn totals(batch: &Batch, found: &Assignment) -> Totals {
    Totals {
        pairs: found.pairs.len(),
        cost: found.total_cost,
        eta_s: found.pairs.iter().filter_map(|pair| batch.eta_s(pair)).map(u64::from).sum(),
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use common::clock::Timestamp;

    use super::{BATCHES_MAX, BatchReport, Inspector};
    use crate::dispatch::batch::solve;

    #[test]
    fn only_the_last_batches_are_kept_and_the_newest_comes_first() {
        let inspector = Inspector::default();
        let nothing =
            solve(Vec::new(), &std::collections::BTreeSet::new(), Timestamp::default(), 0);
        for number in 0..100 {
            let took = (std::time::Duration::ZERO, std::time::Duration::ZERO);
            inspector.keep(BatchReport::new(number, Timestamp::default(), &nothing, took, &[]));
        }
        let kept: Vec<u64> = inspector.last(usize::MAX).iter().map(|r| r.number).collect();
        assert_eq!((kept.len(), kept.first(), kept.last()), (BATCHES_MAX, Some(&99), Some(&68)));
        assert_eq!(inspector.last(1).len(), 1);
    }
}
