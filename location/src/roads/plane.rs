//! A flat picture of a city in metres: exact enough for snapping within some kilometres, and with
//! straight lines that obey the triangle inequality, which the route search depends on. Distances
//! to the nearest road are out by a percent some 100 km north or south of the middle.

use common::geo::Point;

/// Metres in a degree of latitude on the mean sphere.
const METRES_PER_DEGREE: f64 = 111_195.08;

/// A place in metres east and north of the projection's origin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Xy {
    pub(super) x: f64,
    pub(super) y: f64,
}

impl Xy {
    /// Straight-line distance in metres.
    pub(super) fn distance(self, other: Self) -> f64 {
        self.distance_squared(other).sqrt()
    }

    /// Cheaper than the distance, and enough to compare.
    pub(super) fn distance_squared(self, other: Self) -> f64 {
        let (dx, dy) = (self.x - other.x, self.y - other.y);
        dx * dx + dy * dy
    }

    /// How far along `start`–`end` (0 to 1) the nearest place to `self` lies, and the square of
    /// its distance.
    pub(super) fn nearest_on(self, start: Self, end: Self) -> (f64, f64) {
        let (dx, dy) = (end.x - start.x, end.y - start.y);
        let length_squared = dx * dx + dy * dy;
        let along = if length_squared > 0.0 {
            (((self.x - start.x) * dx + (self.y - start.y) * dy) / length_squared).clamp(0.0, 1.0)
        } else {
            0.0
        };
        (along, self.distance_squared(Self { x: start.x + along * dx, y: start.y + along * dy }))
    }
}

/// Equirectangular projection around one origin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plane {
    lat: f64,
    lng: f64,
    metres_per_degree_east: f64,
}

impl Plane {
    pub(super) fn around(origin: Point) -> Self {
        Self {
            lat: origin.lat(),
            lng: origin.lng(),
            metres_per_degree_east: METRES_PER_DEGREE * origin.lat().to_radians().cos(),
        }
    }

    pub(super) fn project(&self, point: Point) -> Xy {
        Xy {
            x: (point.lng() - self.lng) * self.metres_per_degree_east,
            y: (point.lat() - self.lat) * METRES_PER_DEGREE,
        }
    }
}

/// The point that lies `along` (0 to 1) of the way from `start` to `end`.
pub(super) fn between(start: Point, end: Point, along: f64) -> Point {
    let mix = |from: f64, to: f64| from + (to - from) * along;
    // Between two points in range lies a point in range; rounding cannot leave it.
    Point::new(mix(start.lat(), end.lat()), mix(start.lng(), end.lng())).unwrap_or(start)
}
