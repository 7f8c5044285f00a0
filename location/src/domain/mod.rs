//! What a ping is worth, when a driver counts as gone, and how scarce cars are: rules without clock,
//! broker or threads.

pub mod frames;
pub mod liveness;
pub mod session;
pub mod surge;
#[cfg(test)]
mod tests;

use std::ops::AddAssign;

use common::contract::v1;

/// What a ping turned out to be. Every ping is exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The newest of its driver: it moves the index.
    Fresh,
    /// Older than the newest, or old when it came: for the trail only. The trail is the stream
    /// itself; no points but the newest are kept here.
    Late,
    /// The same number of the same session was read before.
    Duplicate,
    /// Claims to be from the future: its time is set to its reception; it moves the index.
    Clamped,
    /// Too inaccurate, or no car drives that fast: the index stays.
    Implausible,
}

/// How many pings were of which class. Their sum is the number of pings read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub fresh: u64,
    pub late: u64,
    pub duplicate: u64,
    pub clamped: u64,
    pub implausible: u64,
}

impl Counts {
    /// One more of this class.
    pub fn count(&mut self, class: Class) {
        let count = match class {
            Class::Fresh => &mut self.fresh,
            Class::Late => &mut self.late,
            Class::Duplicate => &mut self.duplicate,
            Class::Clamped => &mut self.clamped,
            Class::Implausible => &mut self.implausible,
        };
        *count = count.saturating_add(1);
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { fresh, late, duplicate, clamped, implausible } = self;
        fresh + late + duplicate + clamped + implausible
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.fresh += other.fresh;
        self.late += other.late;
        self.duplicate += other.duplicate;
        self.clamped += other.clamped;
        self.implausible += other.implausible;
    }
}

impl From<Counts> for v1::PingCounts {
    fn from(counts: Counts) -> Self {
        let Counts { fresh, late, duplicate, clamped, implausible } = counts;
        Self { fresh, late, duplicate, clamped, implausible }
    }
}

impl From<v1::PingCounts> for Counts {
    fn from(counts: v1::PingCounts) -> Self {
        let v1::PingCounts { fresh, late, duplicate, clamped, implausible } = counts;
        Self { fresh, late, duplicate, clamped, implausible }
    }
}
