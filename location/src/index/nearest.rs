//! The nearest idle drivers: ring by ring outwards, until no farther ring can hold a nearer one.

use common::geo::Point;
use h3o::CellIndex;

use super::{
    Activity, CELL_RESOLUTION, Index, Near, Sighting,
    honeycomb::{cell_of, centre, for_ring},
    place::Metric,
    sighting,
};

/// Nobody drives farther to a pickup; it bounds a search where nobody is near.
pub const RADIUS_MAX_M: f64 = 25_000.0;
/// The most that one search gives.
pub const LIMIT_MAX: usize = 256;

/// The best so far, nearest first.
pub(super) struct Best {
    limit: usize,
    radius_squared: f64,
    found: Vec<(f64, u32, Sighting)>,
}

impl Best {
    pub(super) fn new(limit: usize, radius_m: f64) -> Self {
        let limit = limit.min(LIMIT_MAX);
        let radius_m = radius_m.min(RADIUS_MAX_M);
        Self {
            limit,
            radius_squared: radius_m * radius_m,
            found: Vec::with_capacity(limit.saturating_add(1)),
        }
    }

    /// What is not nearer than this does not interest any more, squared metres.
    pub(super) fn bound_squared(&self) -> f64 {
        match self.found.last() {
            Some((worst, ..)) if self.found.len() >= self.limit => *worst,
            _ => self.radius_squared,
        }
    }

    /// Equally far ones are ordered by driver, so that the answer depends on nothing else.
    pub(super) fn add(&mut self, squared: f64, number: u32, sighting: Sighting) {
        if self.limit == 0 || self.found.iter().any(|(_, other, _)| *other == number) {
            return;
        }
        let at = self
            .found
            .partition_point(|(other, _, seen)| (*other, seen.driver) < (squared, sighting.driver));
        self.found.insert(at, (squared, number, sighting));
        self.found.truncate(self.limit);
    }

    pub(super) fn into_near(self) -> Vec<Near> {
        self.found
            .into_iter()
            .map(|(squared, _, sighting)| Near { sighting, distance_m: squared.sqrt() })
            .collect()
    }
}

/// How the rings lie around a query.
pub(super) struct Rings<'a> {
    pub(super) index: &'a super::honeycomb::Shapes,
    pub(super) origin: CellIndex,
    pub(super) metric: Metric,
}

impl Rings<'_> {
    /// Visits ring after ring while one may hold something within the bound that `visit` returns,
    /// in squared metres; none = enough.
    pub(super) fn walk(&self, mut visit: impl FnMut(u32) -> Option<f64>) {
        let Some(middle) = centre(self.origin) else { return };
        let Some(shape) = self.index.around(self.origin) else { return };
        let off_m = self.metric.distance_m(middle.into());
        let mut ring = 0;
        while let Some(bound_squared) = visit(ring) {
            ring += 1;
            // RADIUS_MAX_M bounds this loop: a ring is farther out than the one before it.
            let at_least = shape.ring_at_least_m(ring, off_m).max(0.0);
            if at_least * at_least > bound_squared {
                break;
            }
        }
    }
}

pub(super) fn search(
    index: &Index,
    from: Point,
    limit: usize,
    radius_m: f64,
    mut accept: impl FnMut(&Sighting) -> bool,
) -> Vec<Near> {
    let mut best = Best::new(limit, radius_m);
    let Some(origin) = cell_of(from, CELL_RESOLUTION) else { return Vec::new() };
    let metric = Metric::around(from);
    let rings = Rings { index: &index.shapes, origin, metric };
    let mut numbers = Vec::new();
    let mut read = 0;
    rings.walk(|ring| {
        // Copied first, judged after: no cell stays locked while slots are read.
        numbers.clear();
        for_ring(origin, ring, |cell| index.cells.copy(cell, &mut numbers));
        read += numbers.len();
        for number in &numbers {
            let Some(slot) = index.slots.get(*number) else { continue };
            let squared = metric.squared_m(slot.position());
            if squared > best.bound_squared() || slot.activity() != Activity::Idle {
                continue;
            }
            let seen = sighting(slot);
            if accept(&seen) {
                best.add(squared, *number, seen);
            }
        }
        // Everybody has been seen: what remains is empty country.
        (read < index.cells.listed()).then(|| best.bound_squared())
    });
    best.into_near()
}
