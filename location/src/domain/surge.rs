//! How scarce cars are, by H3 cell: requests of the last minutes over cars that are free, smoothed,
//! in steps that a rider can read.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use common::{clock::Timestamp, geo::Point, id::TripId};
use h3o::{CellIndex, Resolution};

use crate::index::{CELL_RESOLUTION, cell_of};

/// Cells of about a kilometre.
pub const SURGE_RESOLUTION: Resolution = Resolution::Eight;
/// Requests of the last five minutes count.
pub const DEMAND_WINDOW: Duration = Duration::from_secs(300);
/// The most requests that are remembered; beyond, the oldest are forgotten early.
const REQUESTS_MAX: usize = 200_000;
/// How much one reading counts: after six of them, two thirds.
const SMOOTHING: f64 = 1.0 / 6.0;
/// No surge.
pub const SURGE_LEAST_PERCENT: u32 = 100;
/// As high as it gets.
pub const SURGE_MOST_PERCENT: u32 = 250;
const STEP_PERCENT: f64 = 10.0;
/// A factor this near to its floor is forgotten.
const FORGOTTEN: f64 = 1.001;

/// The surge cell of a place.
#[must_use]
pub fn surge_cell(place: Point) -> Option<CellIndex> {
    cell_of(place, SURGE_RESOLUTION)
}

/// A surge cell and its neighbours: supply does not end at a cell's edge.
#[must_use]
pub fn neighbourhood(cell: CellIndex) -> Vec<CellIndex> {
    cell.grid_disk(1)
}

/// The cells of the index that make up a surge cell.
pub fn index_cells(cell: CellIndex) -> impl Iterator<Item = CellIndex> {
    cell.children(CELL_RESOLUTION)
}

/// Rides requested lately.
#[derive(Debug, Default)]
pub struct Demand {
    /// Oldest first.
    requests: VecDeque<(Timestamp, TripId, CellIndex)>,
    known: HashSet<TripId>,
    by_cell: HashMap<CellIndex, u32>,
}

impl Demand {
    /// A ride was requested there; said twice, it counts once.
    pub fn requested(&mut self, trip: TripId, at: Timestamp, cell: CellIndex, now: Timestamp) {
        self.forget_before(now);
        if now.since(at) > DEMAND_WINDOW || !self.known.insert(trip) {
            return;
        }
        let place = self.requests.partition_point(|(earlier, ..)| *earlier <= at);
        self.requests.insert(place, (at, trip, cell));
        *self.by_cell.entry(cell).or_default() += 1;
        if self.requests.len() > REQUESTS_MAX {
            self.forget_oldest();
        }
    }

    /// How many of the last minutes' requests were in this cell.
    #[must_use]
    pub fn in_cell(&self, cell: CellIndex) -> u32 {
        self.by_cell.get(&cell).copied().unwrap_or(0)
    }

    /// The cells that anybody asked for a ride in.
    pub fn cells(&self) -> impl Iterator<Item = CellIndex> {
        self.by_cell.keys().copied()
    }

    /// Forgets what is too long ago.
    pub fn forget_before(&mut self, now: Timestamp) {
        while self.requests.front().is_some_and(|(at, ..)| now.since(*at) > DEMAND_WINDOW) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, trip, cell)) = self.requests.pop_front() else { return };
        self.known.remove(&trip);
        if let Some(count) = self.by_cell.get_mut(&cell) {
            *count -= 1;
            if *count == 0 {
                self.by_cell.remove(&cell);
            }
        }
    }
}

/// Smoothed factors, for cells that differ from 1.
#[derive(Debug, Default)]
pub struct Surge {
    factors: HashMap<CellIndex, f64>,
}

impl Surge {
    /// Moves all factors towards what demand and supply say now. `supply` counts the free cars of
    /// a surge cell.
    pub fn update(&mut self, demand: &Demand, supply: impl Fn(CellIndex) -> u32) {
        let cells: HashSet<CellIndex> =
            demand.cells().flat_map(neighbourhood).chain(self.factors.keys().copied()).collect();
        for cell in cells {
            let around = neighbourhood(cell);
            let demanded: u32 = around.iter().map(|cell| demand.in_cell(*cell)).sum();
            let free: u32 = around.iter().map(|cell| supply(*cell)).sum();
            let ratio = f64::from(demanded) / (f64::from(free) + 1.0);
            let most = f64::from(SURGE_MOST_PERCENT) / 100.0;
            let factor = self.factors.entry(cell).or_insert(1.0);
            *factor += (ratio.clamp(1.0, most) - *factor) * SMOOTHING;
        }
        self.factors.retain(|_, factor| *factor > FORGOTTEN);
    }

    /// The factor of a cell in percent, in steps of ten; 100 is none.
    #[must_use]
    pub fn percent(&self, cell: CellIndex) -> u32 {
        let factor = self.factors.get(&cell).copied().unwrap_or(1.0);
        let stepped = (factor * 100.0 / STEP_PERCENT).round() * STEP_PERCENT;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "100 to 250")]
        let percent = stepped as u32;
        percent.clamp(SURGE_LEAST_PERCENT, SURGE_MOST_PERCENT)
    }
}
