//! What a road file holds: junctions and the segments between them, nothing derived.
//! `survey` makes it, `packed` writes and reads it, `graph` answers queries from it.

use common::geo::{OutOfRange, Point};
use serde::Serialize;

/// Millionths of a degree: about a decimetre, and half the bytes of a float.
const PER_DEGREE: f64 = 1e6;

/// A place in millionths of a degree, the precision in which roads are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micro {
    /// Millionths of a degree north.
    pub lat: i32,
    /// Millionths of a degree east.
    pub lng: i32,
}

impl From<Point> for Micro {
    #[expect(clippy::cast_possible_truncation, reason = "180e6 fits; a Point is in range")]
    fn from(point: Point) -> Self {
        Self {
            lat: (point.lat() * PER_DEGREE).round() as i32,
            lng: (point.lng() * PER_DEGREE).round() as i32,
        }
    }
}

impl TryFrom<Micro> for Point {
    type Error = OutOfRange;
    fn try_from(micro: Micro) -> Result<Self, OutOfRange> {
        Self::new(f64::from(micro.lat) / PER_DEGREE, f64::from(micro.lng) / PER_DEGREE)
    }
}

/// How important a road is; links count with the road that they lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoadClass {
    Motorway,
    Trunk,
    Primary,
    Secondary,
    Tertiary,
    /// Unclassified and residential streets.
    Minor,
    /// Driveways, alleys and parking aisles.
    Service,
}

impl RoadClass {
    /// All classes, the widest first; a class's place here is its code in a road file.
    pub const ALL: [Self; 7] = [
        Self::Motorway,
        Self::Trunk,
        Self::Primary,
        Self::Secondary,
        Self::Tertiary,
        Self::Minor,
        Self::Service,
    ];

    /// The class's code in a road file.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The class of a code, if there is one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// One road between two junctions, with everything that was folded into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoadSegment {
    /// Index of the junction where the segment begins.
    pub tail: u32,
    /// Index of the junction where it ends; may be the same one (a loop).
    pub head: u32,
    /// Free-flow travel time in milliseconds, at least 1; the same both ways, and the speed is
    /// the same all along.
    pub millis: u32,
    /// Length in decimetres, measured before the shape was simplified.
    pub decimetres: u32,
    /// The same all along.
    pub class: RoadClass,
    /// Drivable from tail to head only.
    pub is_oneway: bool,
    /// Bends between the two junctions, simplified.
    pub bends: Vec<Micro>,
}

/// A city's drivable roads, strongly connected: from every junction to every other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoadMap {
    /// The city.
    pub name: String,
    /// Where the roads come from and of what day, for people.
    pub source: String,
    /// Junctions, near ones near each other in this list.
    pub junctions: Vec<Micro>,
    /// Segments, ordered by their tail.
    pub segments: Vec<RoadSegment>,
}

impl RoadMap {
    /// Number of drivable directions over all segments.
    #[must_use]
    pub fn directed_edge_count(&self) -> usize {
        self.segments.iter().map(|segment| if segment.is_oneway { 1 } else { 2 }).sum()
    }

    /// Number of places where a segment bends between its junctions.
    #[must_use]
    pub fn bend_count(&self) -> usize {
        self.segments.iter().map(|segment| segment.bends.len()).sum()
    }
}
