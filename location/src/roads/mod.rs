//! Roads: where a point is on them, how long cars take to a pickup, which way a trip goes.
//! Pure and synchronous; knows nothing of drivers, trips or the broker.

pub mod map;
pub mod osm;
pub mod survey;

mod arcs;
mod contract;
mod drawing;
mod grid;
mod network;
mod packed;
mod plane;
mod route;
mod search;
mod speed;
mod strong;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::geo::Point;
use serde::Serialize;

pub use drawing::{Drawing, Layer};
pub use packed::RoadFileError;
pub use route::{Route, Waypoint};
pub use speed::{Speed, SpeedOutOfRange};

use arcs::Cost;
use map::RoadMap;
use network::Network;
use search::ScratchPool;

/// Must be shown wherever the roads are: they are a database derived from OpenStreetMap.
pub const ATTRIBUTION: &str = "© OpenStreetMap contributors (ODbL)";
/// A point farther than this from every road is not in the service area.
pub const SNAP_MAX_M: f64 = 250.0;

static GOTHENBURG: &[u8] = include_bytes!("../../assets/gothenburg.roads");

/// A rectangle of degrees; includes its edges.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bounds {
    pub south: f64,
    pub west: f64,
    pub north: f64,
    pub east: f64,
}

impl Bounds {
    /// Whether a point lies inside.
    #[must_use]
    pub fn contains(&self, point: Point) -> bool {
        (self.south..=self.north).contains(&point.lat())
            && (self.west..=self.east).contains(&point.lng())
    }

    /// The point in the middle.
    fn middle(&self) -> Option<Point> {
        Point::new(f64::midpoint(self.south, self.north), f64::midpoint(self.west, self.east)).ok()
    }

    /// The smallest rectangle around some points, if there are any.
    fn around(points: &[Point]) -> Option<Self> {
        points.iter().fold(None, |bounds: Option<Self>, point| {
            let (lat, lng) = (point.lat(), point.lng());
            let known = bounds.unwrap_or(Self { south: lat, west: lng, north: lat, east: lng });
            Some(Self {
                south: known.south.min(lat),
                west: known.west.min(lng),
                north: known.north.max(lat),
                east: known.east.max(lng),
            })
        })
    }
}

/// A place on a road.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapped {
    segment: u32,
    /// Share of the segment's length before it, from tail to head.
    along: f64,
    /// The place itself.
    pub point: Point,
    /// How far it is from the point that was asked for.
    pub distance_m: f64,
}

/// How long a drive takes and how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Eta {
    pub seconds: f64,
    pub metres: f64,
}

/// A city's roads, ready to be asked. Cheap to clone; may be asked from many threads at once.
#[derive(Debug, Clone)]
pub struct RoadGraph {
    network: Arc<Network>,
    scratch: Arc<ScratchPool>,
    speed: Speed,
}

impl RoadGraph {
    /// The city that comes with the code: Gothenburg.
    ///
    /// # Errors
    /// When the embedded file is damaged.
    pub fn gothenburg() -> Result<Self, RoadFileError> {
        Self::from_bytes(GOTHENBURG)
    }

    /// Reads a road file.
    ///
    /// # Errors
    /// When it cannot be read or is not a usable road file.
    pub fn open(path: &Path) -> Result<Self, RoadFileError> {
        let file = std::fs::read(path)
            .map_err(|source| RoadFileError::Io { path: path.display().to_string(), source })?;
        Self::from_bytes(&file)
    }

    /// Takes the bytes of a road file.
    ///
    /// # Errors
    /// When they are not a usable road file.
    pub fn from_bytes(file: &[u8]) -> Result<Self, RoadFileError> {
        Self::new(&RoadMap::unpack(file)?)
    }

    /// Makes a map ready to be asked.
    ///
    /// # Errors
    /// When an index or a place in it is out of range.
    pub fn new(map: &RoadMap) -> Result<Self, RoadFileError> {
        Ok(Self {
            network: Arc::new(Network::new(map)?),
            scratch: Arc::default(),
            speed: Speed::default(),
        })
    }

    /// The same roads at another speed.
    #[must_use]
    pub fn with_speed(self, speed: Speed) -> Self {
        Self { speed, ..self }
    }

    #[must_use]
    pub fn speed(&self) -> Speed {
        self.speed
    }

    /// The city.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.network.name
    }

    /// Where the roads come from and of what day.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.network.source
    }

    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.network.bounds
    }

    /// Whether a point is in the service area: within [`SNAP_MAX_M`] of a road.
    #[must_use]
    pub fn contains(&self, point: Point) -> bool {
        self.snap(point).is_some()
    }

    /// The nearest place on a road, within [`SNAP_MAX_M`].
    #[must_use]
    pub fn snap(&self, point: Point) -> Option<Snapped> {
        self.network.snap(point, SNAP_MAX_M)
    }

    /// How long each car takes to the pickup, in the order of `cars`: one search for all of them.
    /// `None` for a car that takes longer than `bound`, or where either is off the roads.
    #[must_use]
    pub fn eta_from_many(
        &self,
        pickup: Point,
        cars: &[Point],
        bound: Duration,
    ) -> Vec<Option<Eta>> {
        let Some(pickup) = self.snap(pickup) else { return vec![None; cars.len()] };
        let cars: Vec<Option<Snapped>> = cars.iter().map(|car| self.snap(*car)).collect();
        let bound_ms = self.free_flow_ms(bound);
        let costs = self.scratch.with(&self.network, |scratch| {
            search::costs_to(&self.network, scratch, &pickup, &cars, bound_ms)
        });
        costs.into_iter().map(|cost| cost.map(|cost| self.eta_of(cost))).collect()
    }

    /// How long a drive takes, without its line.
    #[must_use]
    pub fn eta(&self, from: Point, to: Point) -> Option<Eta> {
        let (from, to) = (self.snap(from)?, self.snap(to)?);
        let drive = self.drive(&from, &to)?;
        Some(self.eta_of(drive.cost))
    }

    /// The fastest way. `None` only where either point is off the roads.
    #[must_use]
    pub fn route(&self, from: Point, to: Point) -> Option<Route> {
        let (from, to) = (self.snap(from)?, self.snap(to)?);
        let drive = self.drive(&from, &to)?;
        Some(route::trace(&self.network, &drive, &from, &to, self.speed.factor()))
    }

    /// All roads as lines for a map.
    #[must_use]
    pub fn drawing(&self) -> Drawing {
        drawing::draw(&self.network)
    }

    #[must_use]
    pub fn junction_count(&self) -> usize {
        self.network.junctions.len()
    }

    /// Where a junction is; `None` from [`Self::junction_count`] on.
    #[must_use]
    pub fn junction(&self, index: usize) -> Option<Point> {
        self.network.junctions.get(index).copied()
    }

    /// Number of drivable connections between junctions, each direction for itself.
    #[must_use]
    pub fn directed_edge_count(&self) -> usize {
        self.network.leaving.len()
    }

    fn drive(&self, from: &Snapped, to: &Snapped) -> Option<search::Drive> {
        self.scratch.with(&self.network, |scratch| search::drive(&self.network, scratch, from, to))
    }

    fn eta_of(&self, cost: Cost) -> Eta {
        Eta {
            seconds: f64::from(cost.millis) / 1000.0 / self.speed.factor(),
            metres: f64::from(cost.decimetres) / 10.0,
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    fn free_flow_ms(&self, real: Duration) -> u32 {
        (real.as_secs_f64() * 1000.0 * self.speed.factor()) as u32
    }
}
