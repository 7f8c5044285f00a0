//! The index as one would write it first: two maps, and H3 asked at every ping. It is what [`super::Index`]
//! is measured against, and its oracle beside brute force. Not used by the service.

use std::collections::HashSet;

use common::{clock::Timestamp, geo::Point, id::DriverId, subject::Partitions};
use dashmap::DashMap;
use foldhash::fast::RandomState;
use h3o::CellIndex;

use super::{
    Activity, CELL_RESOLUTION, DriverIndex, Fix, Near, Sighting,
    honeycomb::{Shapes, cell_of, for_ring},
    nearest::{Best, Rings},
    place::Metric,
};

#[derive(Debug, Clone, Copy)]
struct Entry {
    sighting: Sighting,
    cell: Option<CellIndex>,
    number: u32,
}

/// Two maps: driver to what is known of it, cell to the drivers in it.
#[derive(Debug)]
pub struct PlainIndex {
    partitions: Partitions,
    drivers: DashMap<DriverId, Entry, RandomState>,
    cells: DashMap<CellIndex, HashSet<DriverId, RandomState>, RandomState>,
    shapes: Shapes,
}

impl PlainIndex {
    /// An empty index.
    #[must_use]
    pub fn new(partitions: Partitions) -> Self {
        Self {
            partitions,
            drivers: DashMap::default(),
            cells: DashMap::default(),
            shapes: Shapes::default(),
        }
    }

    /// Every idle driver, in no order: what brute force searches.
    #[must_use]
    pub fn idle(&self) -> Vec<Sighting> {
        self.drivers
            .iter()
            .map(|entry| entry.sighting)
            .filter(|sighting| sighting.activity == Activity::Idle)
            .collect()
    }

    fn change(&self, driver: DriverId, change: impl FnOnce(&mut Entry)) {
        let new = || {
            let sighting = Sighting {
                driver,
                partition: self.partitions.ping_of(driver),
                position: None,
                heard_at: Timestamp::default(),
                heading: 0,
                activity: Activity::Offline,
                since: Timestamp::default(),
            };
            let number = u32::try_from(self.drivers.len()).unwrap_or(u32::MAX);
            Entry { sighting, cell: None, number }
        };
        // Numbered before the shard is locked: `len` locks every shard.
        let fresh = new();
        let mut entry = self.drivers.entry(driver).or_insert(fresh);
        let before = entry.cell;
        change(&mut entry);
        let idle = entry.sighting.activity == Activity::Idle;
        let place = entry.sighting.position.and_then(super::E7::point).filter(|_| idle);
        let after = place.and_then(|place| cell_of(place, CELL_RESOLUTION));
        entry.cell = after;
        drop(entry);
        if before != after {
            if let Some(cell) = after {
                self.cells.entry(cell).or_default().insert(driver);
            }
            if let Some(mut drivers) = before.and_then(|cell| self.cells.get_mut(&cell)) {
                drivers.remove(&driver);
            }
        }
    }
}

impl DriverIndex for PlainIndex {
    fn moved(&self, driver: DriverId, fix: Fix) {
        self.change(driver, |entry| {
            entry.sighting.position = Some(fix.position);
            entry.sighting.heard_at = fix.heard_at;
            entry.sighting.heading = fix.heading.unwrap_or(entry.sighting.heading);
        });
    }

    fn set_activity(&self, driver: DriverId, activity: Activity, since: Timestamp) {
        self.change(driver, |entry| {
            entry.sighting.activity = activity;
            entry.sighting.since = Timestamp::from_micros(since.micros() / 1_000_000 * 1_000_000);
        });
    }

    fn get(&self, driver: DriverId) -> Option<Sighting> {
        self.drivers.get(&driver).map(|entry| entry.sighting)
    }

    fn nearest(
        &self,
        from: Point,
        limit: usize,
        radius_m: f64,
        mut accept: impl FnMut(&Sighting) -> bool,
    ) -> Vec<Near> {
        let mut best = Best::new(limit, radius_m);
        let Some(origin) = cell_of(from, CELL_RESOLUTION) else { return Vec::new() };
        let metric = Metric::around(from);
        let rings = Rings { index: &self.shapes, origin, metric };
        let mut drivers: Vec<DriverId> = Vec::new();
        rings.walk(|ring| {
            drivers.clear();
            for_ring(origin, ring, |cell| {
                if let Some(list) = self.cells.get(&cell) {
                    drivers.extend(list.iter());
                }
            });
            for driver in &drivers {
                let Some(entry) = self.drivers.get(driver).map(|entry| *entry) else { continue };
                let Some(position) = entry.sighting.position else { continue };
                let squared = metric.squared_m(position);
                let is_near = squared <= best.bound_squared();
                if is_near && entry.sighting.activity == Activity::Idle && accept(&entry.sighting) {
                    best.add(squared, entry.number, entry.sighting);
                }
            }
            Some(best.bound_squared())
        });
        best.into_near()
    }
}
