//! One batch: from open trips and who is near each of them to who is asked for which.

use std::collections::BTreeSet;

use common::{clock::Timestamp, id::DriverId};

use super::{
    assign::{Assignment, Edge, assign, greedy},
    candidates::{Answer, Candidate},
    cost::{Pair, cost},
    view::OpenTrip,
};

/// A trip and who is near.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The trip.
    pub open: OpenTrip,
    /// How far a driver was allowed to be.
    pub eta_max_s: u32,
    /// Who is near; `None` where nobody could tell.
    pub answer: Option<Answer>,
}

/// A driver in the batch, and what it would cost to send that one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Priced {
    /// The driver.
    pub candidate: Candidate,
    /// Seconds, less credits.
    pub cost: i32,
}

/// A trip in the batch.
#[derive(Debug, Clone)]
pub struct Row {
    /// The trip and the answer.
    pub asked: Asked,
    /// Those of the answer who may be asked.
    pub priced: Vec<Priced>,
    /// Who is to be asked.
    pub chosen: Option<Priced>,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Batch {
    /// A row for each trip, in the order of their ids.
    pub rows: Vec<Row>,
    /// The pairs by number of row and driver.
    pub chosen: Assignment,
    /// What cheapest-first would have found, for comparison.
    pub greedy: Assignment,
    /// The drivers by number: in the order of their ids.
    drivers: Vec<DriverId>,
}

impl Batch {
    /// How far the driver of a pair, chosen or not, is from the pickup.
    #[must_use]
    pub fn eta_s(&self, pair: &Edge) -> Option<u32> {
        let row = self.rows.get(pair.request)?;
        let driver = self.drivers.get(pair.driver)?;
        row.priced(*driver, pair.cost).map(|priced| priced.candidate.eta_s)
    }
}

impl Row {
    fn priced(&self, driver: DriverId, cost: i32) -> Option<Priced> {
        let is_it = |p: &&Priced| p.candidate.driver == driver && p.cost == cost;
        self.priced.iter().find(is_it).copied()
    }
}

/// Matches trips with drivers. `held` are drivers who are not to be asked just now.
#[must_use]
pub fn solve(
    mut asked: Vec<Asked>,
    held: &BTreeSet<DriverId>,
    now: Timestamp,
    steps_max: u64,
) -> Batch {
    // By id, so that nothing depends on which answer came first.
    asked.sort_by_key(|asked| asked.open.trip);
    let mut rows: Vec<Row> = asked
        .into_iter()
        .map(|asked| Row { priced: priced(&asked, held, now), asked, chosen: None })
        .collect();
    let drivers: BTreeSet<DriverId> =
        rows.iter().flat_map(|row| &row.priced).map(|p| p.candidate.driver).collect();
    let drivers: Vec<DriverId> = drivers.into_iter().collect();
    let edges = edges(&rows, &drivers);
    let chosen = assign(&edges, steps_max);
    for pair in &chosen.pairs {
        if let (Some(row), Some(driver)) = (rows.get_mut(pair.request), drivers.get(pair.driver)) {
            row.chosen = row.priced(*driver, pair.cost);
        }
    }
    Batch { rows, greedy: greedy(&edges), chosen, drivers }
}

fn edges(rows: &[Row], drivers: &[DriverId]) -> Vec<Edge> {
    let edge = |request: usize, priced: &Priced| {
        let driver = drivers.binary_search(&priced.candidate.driver).ok()?;
        Some(Edge { request, driver, cost: priced.cost })
    };
    let rows = rows.iter().enumerate();
    rows.flat_map(|(request, row)| row.priced.iter().filter_map(move |p| edge(request, p)))
        .collect()
}

fn priced(asked: &Asked, held: &BTreeSet<DriverId>, now: Timestamp) -> Vec<Priced> {
    let open = &asked.open;
    let may_be_asked = |candidate: &&Candidate| {
        candidate.eta_s <= asked.eta_max_s
            && !open.excluded.contains(&candidate.driver)
            && !held.contains(&candidate.driver)
    };
    let candidates = asked.answer.iter().flat_map(|answer| &answer.candidates);
    candidates
        .filter(may_be_asked)
        .map(|&candidate| {
            let pair = Pair {
                eta_s: candidate.eta_s,
                idle_since: candidate.idle_since,
                requested_at: open.requested_at,
                failed_offers: open.failed_offers.get(&candidate.driver).copied().unwrap_or(0),
            };
            Priced { candidate, cost: cost(&pair, now) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use common::{
        clock::Timestamp,
        event_store::Cause,
        geo::Point,
        id::{DriverId, TripId},
    };
    use uuid::Uuid;

    use super::{Answer, Asked, Batch, Candidate, OpenTrip, solve};

    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

    fn driver(number: u128) -> DriverId {
        DriverId(Uuid::from_u128(number))
    }

    fn asked(trip: u128, candidates: &[(u128, u32)]) -> Asked {
        let pickup = Point::new(57.7, 11.9).unwrap();
        let candidates = candidates.iter().map(|&(number, eta_s)| Candidate {
            driver: driver(number),
            position: pickup,
            eta_s,
            distance_m: eta_s * 8,
            idle_since: None,
        });
        let answer = Answer { candidates: candidates.collect(), is_complete: true };
        let open = OpenTrip {
            trip: TripId(Uuid::from_u128(trip)),
            version: 1,
            pickup,
            requested_at: NOW,
            excluded: BTreeSet::new(),
            failed_offers: BTreeMap::new(),
            failed_rounds: 0,
            cause: Cause::default(),
        };
        Asked { open, eta_max_s: 480, answer: Some(answer) }
    }

    fn chosen(batch: &Batch) -> Vec<Option<DriverId>> {
        batch.rows.iter().map(|row| row.chosen.map(|priced| priced.candidate.driver)).collect()
    }

    #[test]
    fn two_trips_share_two_drivers_so_that_both_wait_least() {
        let trips =
            vec![asked(2, &[(1, 240), (2, 540), (2, 480)]), asked(1, &[(1, 120), (2, 240)])];
        let batch = solve(trips, &BTreeSet::new(), NOW, u64::MAX);
        assert_eq!(chosen(&batch), [Some(driver(2)), Some(driver(1))], "by trip id");
        assert_eq!((batch.chosen.total_cost, batch.greedy.total_cost), (480, 600));
    }

    #[test]
    fn who_is_excluded_held_or_too_far_away_is_not_asked() {
        let mut excluding = asked(1, &[(1, 10), (2, 20), (3, 481), (4, 480)]);
        excluding.open.excluded = BTreeSet::from([driver(1)]);
        let batch = solve(vec![excluding], &BTreeSet::from([driver(2)]), NOW, u64::MAX);
        assert_eq!(chosen(&batch), [Some(driver(4))]);
    }

    #[test]
    fn a_trip_of_which_nobody_could_tell_who_is_near_gets_no_driver() {
        let unanswered = Asked { answer: None, ..asked(1, &[]) };
        let batch = solve(vec![unanswered, asked(2, &[(1, 60)])], &BTreeSet::new(), NOW, u64::MAX);
        assert_eq!(chosen(&batch), [None, Some(driver(1))]);
    }
}
