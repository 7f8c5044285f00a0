//! What the index has to know of H3: in which cell a place is, how far one may move in it without
//! asking again, and how far away a ring of cells is at least.

use common::geo::Point;
use dashmap::DashMap;
use h3o::{CellIndex, LatLng, Resolution};

use super::place::{E7, Metric};

/// Cells 350 m wide: a ring holds few drivers in a dense city, and few rings do in a sparse one.
pub const CELL_RESOLUTION: Resolution = Resolution::Nine;
/// One shape is measured for each cell of this size (16 km across).
const SHAPE_RESOLUTION: Resolution = Resolution::Five;
/// Cells of one region differ a little in shape; what is measured on one is trusted so far.
const SAFETY: f64 = 0.95;

/// Lengths of the cells of a region, metres, on the safe side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Whoever is so near to a cell's centre is in it.
    pub(super) inradius_m: f64,
    /// Nobody in a cell is farther from its centre.
    circumradius_m: f64,
    /// A ring is at least so much farther out than the one before it.
    pub(super) step_m: f64,
}

impl Shape {
    /// How far cells of ring `ring` are at least from a place that is `off_m` from the centre of
    /// ring zero.
    pub(super) fn ring_at_least_m(&self, ring: u32, off_m: f64) -> f64 {
        f64::from(ring) * self.step_m - self.circumradius_m - off_m
    }

    fn of(cell: CellIndex) -> Option<Self> {
        let metric = Metric::around(centre(cell)?);
        // Corners as metres from the centre, by the metric's own axes.
        let corners: Vec<(f64, f64)> = cell
            .boundary()
            .iter()
            .filter_map(|corner| Point::new(corner.lat(), corner.lng()).ok())
            .map(|corner| metric.offset_m(corner.into()))
            .collect();
        let next = || corners.iter().cycle().skip(1);
        let edges = || corners.iter().zip(next());
        let inradius = edges().map(|(a, b)| from_origin(*a, *b)).fold(f64::INFINITY, f64::min);
        let circumradius = corners.iter().map(|(x, y)| x.hypot(*y)).fold(0.0, f64::max);
        // The honeycomb is a lattice: a neighbour's centre is twice the middle of the shared edge,
        // and ring k lies outside the hexagon through the k-fold of the neighbours' centres.
        let neighbours: Vec<(f64, f64)> = edges().map(|(a, b)| (a.0 + b.0, a.1 + b.1)).collect();
        let step = neighbours
            .iter()
            .zip(neighbours.iter().cycle().skip(1))
            .map(|(a, b)| from_origin(*a, *b))
            .fold(f64::INFINITY, f64::min);
        Some(Self {
            inradius_m: inradius * SAFETY,
            circumradius_m: circumradius / SAFETY,
            step_m: step * SAFETY,
        })
    }
}

/// Distance of the origin from a segment.
fn from_origin(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 { -(a.0 * dx + a.1 * dy) / length } else { 0.0 };
    let along = along.clamp(0.0, 1.0);
    (a.0 + along * dx).hypot(a.1 + along * dy)
}

/// The middle of a cell.
pub(super) fn centre(cell: CellIndex) -> Option<Point> {
    let middle = LatLng::from(cell);
    Point::new(middle.lat(), middle.lng()).ok()
}

/// The cell of a place, at any resolution.
pub(crate) fn cell_of(place: Point, resolution: Resolution) -> Option<CellIndex> {
    LatLng::new(place.lat(), place.lng()).ok().map(|at| at.to_cell(resolution))
}

/// Shapes by region. It grows with the regions in which anybody drives, one entry per 250 km².
#[derive(Debug, Default)]
pub(super) struct Shapes(DashMap<CellIndex, Shape>);

impl Shapes {
    /// The shape of cells around this one.
    pub(super) fn around(&self, cell: CellIndex) -> Option<Shape> {
        let region = cell.parent(SHAPE_RESOLUTION)?;
        if let Some(shape) = self.0.get(&region).map(|shape| *shape) {
            return Some(shape);
        }
        let shape = Shape::of(cell)?;
        self.0.insert(region, shape);
        Some(shape)
    }
}

/// The cells at this many steps from `origin`.
pub(super) fn for_ring(origin: CellIndex, ring: u32, mut visit: impl FnMut(CellIndex)) {
    for cell in origin.grid_ring_fast(ring) {
        let Some(cell) = cell else {
            // A pentagon (there are twelve, all at sea) bends the ring: take the slow way. Cells
            // visited twice do no harm.
            origin
                .grid_disk_distances_safe(ring)
                .filter(|(_, distance)| *distance == ring)
                .for_each(|(cell, _)| visit(cell));
            return;
        };
        visit(cell);
    }
}

/// The circle inside a cell in which nobody has to ask H3 again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circle {
    pub(super) centre: E7,
    pub(super) radius_m: f64,
    /// Cosine of the latitude.
    pub(super) east: f64,
}

impl Shapes {
    pub(super) fn circle(&self, cell: CellIndex) -> Option<Circle> {
        let (shape, centre) = (self.around(cell)?, centre(cell)?);
        let east = centre.lat().to_radians().cos();
        Some(Circle { centre: centre.into(), radius_m: shape.inradius_m, east })
    }
}

#[cfg(test)]
mod tests {
    use super::{CELL_RESOLUTION, Metric, Shapes, cell_of, centre, for_ring};
    use common::geo::Point;
    use h3o::LatLng;
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whoever_is_in_the_inscribed_circle_is_in_the_cell(
            lat in -65.0_f64..65.0, lng in -180.0_f64..180.0, turn in 0.0_f64..std::f64::consts::TAU, near in 0.0_f64..0.05,
        ) {
            let shapes = Shapes::default();
            let first = cell_of(Point::new(lat, lng).unwrap(), CELL_RESOLUTION).unwrap();
            shapes.around(first).unwrap();
            // Another cell of the same region, up to 5 km away, judged by the first one's shape.
            let other = Point::new(lat + near * turn.sin(), lng).unwrap();
            let cell = cell_of(other, CELL_RESOLUTION).unwrap();
            let circle = shapes.circle(cell).unwrap();
            let middle = centre(cell).unwrap();
            let reach = (circle.radius_m / 111_195.0) * 0.999;
            let rim = LatLng::new(
                middle.lat() + reach * turn.sin(),
                middle.lng() + reach * turn.cos() / middle.lat().to_radians().cos(),
            ).unwrap();
            prop_assert_eq!(rim.to_cell(CELL_RESOLUTION), cell);
        }

        #[test]
        fn no_ring_is_nearer_than_its_bound(
            lat in -65.0_f64..65.0, lng in -180.0_f64..180.0, ring in 1_u32..24,
        ) {
            let shapes = Shapes::default();
            let from = Point::new(lat, lng).unwrap();
            let origin = cell_of(from, CELL_RESOLUTION).unwrap();
            let shape = shapes.around(origin).unwrap();
            let metric = Metric::around(from);
            let off = metric.distance_m(centre(origin).unwrap().into());
            let bound = shape.ring_at_least_m(ring, off);
            let mut cells = 0;
            let mut nearest = f64::INFINITY;
            for_ring(origin, ring, |cell| {
                cells += 1;
                let outline: Vec<(f64, f64)> = cell
                    .boundary()
                    .iter()
                    .map(|corner| metric.offset_m(Point::new(corner.lat(), corner.lng()).unwrap().into()))
                    .collect();
                for (a, b) in outline.iter().zip(outline.iter().cycle().skip(1)) {
                    nearest = nearest.min(super::from_origin(*a, *b));
                }
            });
            prop_assert!(cells >= 6 * ring - 6);
            prop_assert!(bound <= nearest, "{bound} {nearest}");
            // And it is worth something: it grows by most of a cell's width a ring.
            prop_assert!(shape.step_m > 200.0);
        }
    }
}
