//! Where every driver is, now. Writers are the owners of the partitions (positions) and the view of
//! driver events (activities); readers are the queries, and they wait for neither.
//!
//! Three parts: a `DashMap` as the *directory* from driver to slot number (a sharded lock, touched
//! once a ping for a read); *slots* with a driver's words, written in place; *cells*, a second
//! `DashMap` from H3 cell to slot numbers, touched only when a driver changes cell or begins or ends
//! being idle. Only idle drivers are in cells: those are the ones that are searched for, and a city
//! at work has several busy drivers for an idle one, which a search would read and throw away.
//! Whether an idle driver was heard lately is judged when it is found, because silence is no event.
//!
//! What a search sees is not a snapshot. A driver that crosses cells is added to the new one before
//! it leaves the old one; a search that has read the new cell just before and comes to the old one
//! just after misses it. The crossing takes about 100 ns, a search some microseconds; the next
//! search finds the driver. Seen twice it is counted once.

mod cells;
mod honeycomb;
mod nearest;
mod place;
pub mod plain;
mod slots;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{clock::Timestamp, geo::Point, id::DriverId, subject::Partitions};
use dashmap::DashMap;
use foldhash::fast::RandomState;

use self::{
    cells::Cells,
    honeycomb::Shapes,
    slots::{Slot, Slots},
};
pub use honeycomb::CELL_RESOLUTION;
pub(crate) use honeycomb::cell_of;
pub use nearest::{LIMIT_MAX, RADIUS_MAX_M};
pub use place::E7;

/// What a driver does, as far as finding one is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activity {
    /// Not on duty, or not known.
    #[default]
    Offline,
    /// On duty and free.
    Idle,
    /// Considering an offer.
    Offered,
    /// On a trip, or on the way to one.
    Engaged,
}

impl Activity {
    /// The code used in [`common::contract::v1::LocationFrame`].
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::Offline => 0,
            Self::Idle => 1,
            Self::Offered => 2,
            Self::Engaged => 3,
        }
    }

    fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Idle,
            2 => Self::Offered,
            3 => Self::Engaged,
            _ => Self::Offline,
        }
    }
}

/// A position that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fix {
    /// Where.
    pub position: E7,
    /// When, in broker time.
    pub heard_at: Timestamp,
    /// Which way, 256 to the circle; none = as before.
    pub heading: Option<u8>,
}

/// What the index says of one driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Who.
    pub driver: DriverId,
    /// The driver's partition.
    pub partition: u32,
    /// Where, if ever heard.
    pub position: Option<E7>,
    /// When last heard; zero if never.
    pub heard_at: Timestamp,
    /// Which way, 256 to the circle.
    pub heading: u8,
    /// Doing what.
    pub activity: Activity,
    /// Since when, to the second.
    pub since: Timestamp,
}

/// A driver that a search found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    /// Who and where.
    pub sighting: Sighting,
    /// How far, by air.
    pub distance_m: f64,
}

/// An index of drivers. Two implementations: [`Index`], and the plain form that it is measured and
/// checked against.
pub trait DriverIndex {
    /// A driver is there now. Callers are single writers of a driver: the owner of its partition.
    fn moved(&self, driver: DriverId, fix: Fix);

    /// A driver does this now.
    fn set_activity(&self, driver: DriverId, activity: Activity, since: Timestamp);

    /// What is known of a driver.
    fn get(&self, driver: DriverId) -> Option<Sighting>;

    /// The `limit` nearest idle drivers within `radius_m` by air that `accept` likes, nearest first.
    fn nearest(
        &self,
        from: Point,
        limit: usize,
        radius_m: f64,
        accept: impl FnMut(&Sighting) -> bool,
    ) -> Vec<Near>;
}

/// Locks for listing; two drivers share one, which nobody notices.
const LISTING_LOCKS: usize = 64;

/// The index in use.
#[derive(Debug)]
pub struct Index {
    partitions: Partitions,
    directory: DashMap<DriverId, u32, RandomState>,
    slots: Slots,
    cells: Cells,
    shapes: Shapes,
    /// A driver is listed in a cell by two writers: its pings change the cell, its events whether it
    /// is listed at all. Readers never take these.
    listing: [Mutex<()>; LISTING_LOCKS],
}

impl Index {
    /// An empty index.
    #[must_use]
    pub fn new(partitions: Partitions) -> Self {
        Self {
            partitions,
            directory: DashMap::default(),
            slots: Slots::new(),
            cells: Cells::default(),
            shapes: Shapes::default(),
            listing: [const { Mutex::new(()) }; LISTING_LOCKS],
        }
    }

    /// How many drivers have a slot.
    #[must_use]
    pub fn driver_count(&self) -> u32 {
        self.slots.count()
    }

    /// The driver in this slot; slots are numbered from 0 to [`Index::driver_count`].
    #[must_use]
    pub fn by_number(&self, number: u32) -> Option<Sighting> {
        self.slots.get(number).map(sighting)
    }

    /// How many idle drivers in this cell of [`CELL_RESOLUTION`] `accept` likes.
    pub fn count_in(&self, cell: h3o::CellIndex, accept: impl Fn(&Sighting) -> bool) -> usize {
        let mut numbers = Vec::new();
        self.cells.copy(cell, &mut numbers);
        numbers.into_iter().filter_map(|number| self.by_number(number)).filter(accept).count()
    }

    /// The slot of a driver, made if there is none. None when the index is full.
    fn slot(&self, driver: DriverId) -> Option<(u32, &Slot)> {
        // The number is copied out: no guard outlives this statement.
        let known = self.directory.get(&driver).map(|number| *number);
        let number = match known {
            Some(number) => number,
            None => *self
                .directory
                .entry(driver)
                .or_try_insert_with(|| {
                    self.slots.add(driver, self.partitions.ping_of(driver)).ok_or(())
                })
                .ok()?,
        };
        Some((number, self.slots.get(number)?))
    }

    fn lock(&self, number: u32) -> Option<MutexGuard<'_, ()>> {
        let lock = self.listing.get(usize::try_from(number).ok()? % LISTING_LOCKS)?;
        Some(lock.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The driver may have changed cell.
    fn rehome(&self, number: u32, slot: &Slot, place: E7) -> Option<()> {
        let cell = cell_of(place.point()?, CELL_RESOLUTION)?;
        let before = slot.home();
        if before == Some(cell) {
            // In a corner of the cell, outside the circle.
            return Some(());
        }
        slot.draw_circle(self.shapes.circle(cell)?);
        let _listing = self.lock(number)?;
        slot.set_home(cell);
        let (activity, was_listed) = (slot.activity(), slot.is_listed());
        let is_listed = activity == Activity::Idle;
        if is_listed {
            self.cells.add(cell, number);
        }
        if let Some(before) = before.filter(|_| was_listed) {
            self.cells.remove(before, number);
        }
        slot.set_activity(activity, is_listed);
        Some(())
    }

    fn relist(&self, number: u32, slot: &Slot, activity: Activity) -> Option<()> {
        let _listing = self.lock(number)?;
        let was_listed = slot.is_listed();
        let home = slot.home().filter(|_| activity == Activity::Idle);
        match (home, was_listed) {
            (Some(cell), false) => self.cells.add(cell, number),
            (None, true) => self.cells.remove(slot.home()?, number),
            (Some(_), true) | (None, false) => (),
        }
        slot.set_activity(activity, home.is_some());
        Some(())
    }
}

impl DriverIndex for Index {
    fn moved(&self, driver: DriverId, fix: Fix) {
        let Some((number, slot)) = self.slot(driver) else { return };
        slot.put(&fix);
        if !slot.is_at_home(fix.position) {
            self.rehome(number, slot, fix.position);
        }
    }

    fn set_activity(&self, driver: DriverId, activity: Activity, since: Timestamp) {
        let Some((number, slot)) = self.slot(driver) else { return };
        slot.set_since(since);
        self.relist(number, slot, activity);
    }

    fn get(&self, driver: DriverId) -> Option<Sighting> {
        let number = self.directory.get(&driver).map(|number| *number)?;
        self.by_number(number)
    }

    fn nearest(
        &self,
        from: Point,
        limit: usize,
        radius_m: f64,
        accept: impl FnMut(&Sighting) -> bool,
    ) -> Vec<Near> {
        nearest::search(self, from, limit, radius_m, accept)
    }
}

fn sighting(slot: &Slot) -> Sighting {
    let position = slot.position();
    Sighting {
        driver: slot.driver(),
        partition: slot.partition(),
        position: position.is_somewhere().then_some(position),
        heard_at: slot.heard_at(),
        heading: slot.heading(),
        activity: slot.activity(),
        since: slot.since(),
    }
}
