//! A drive as a line on the map with the time at each of its points, so that a car can be moved
//! along it.

use common::geo::Point;

use super::Snapped;
use super::arcs::Heading;
use super::network::Network;
use super::plane::{Xy, between};
use super::search::Drive;

/// The fastest drive between two places.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Travel time.
    pub seconds: f64,
    /// Length along the road.
    pub metres: f64,
    /// From the snapped start to the snapped end, at least two points.
    pub points: Vec<Point>,
    /// Seconds since the start at each of the points, never falling; as many as there are points.
    pub elapsed_s: Vec<f64>,
}

/// Where a car is on its route.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Waypoint {
    pub point: Point,
    /// Degrees clockwise from north, 0 to 360.
    pub heading_deg: f64,
    /// Speed over this piece of the route; 0 at its end.
    pub metres_per_s: f64,
}

impl Route {
    /// Where a car is after `elapsed_s` seconds; before the start at the start, later at the end.
    #[must_use]
    pub fn at(&self, elapsed_s: f64) -> Option<Waypoint> {
        let next = self.elapsed_s.partition_point(|passed| *passed <= elapsed_s);
        let has_arrived = next >= self.points.len();
        let next = next.clamp(1, self.points.len().max(2) - 1);
        let piece = |at: usize| Some((*self.points.get(at)?, *self.elapsed_s.get(at)?));
        let ((start, left_s), (end, arrived_s)) = (piece(next - 1)?, piece(next)?);
        let lasts_s = arrived_s - left_s;
        let along =
            if lasts_s > 0.0 { ((elapsed_s - left_s) / lasts_s).clamp(0.0, 1.0) } else { 1.0 };
        Some(Waypoint {
            point: between(start, end, along),
            heading_deg: heading(start, end),
            metres_per_s: if has_arrived || lasts_s <= 0.0 {
                0.0
            } else {
                start.distance_m(end) / lasts_s
            },
        })
    }
}

fn heading(start: Point, end: Point) -> f64 {
    let east = (end.lng() - start.lng()) * start.lat().to_radians().cos();
    let north = end.lat() - start.lat();
    let degrees = east.atan2(north).to_degrees();
    if degrees < 0.0 { degrees + 360.0 } else { degrees }
}

/// The line of a drive. `speed` is the factor on free-flow speeds.
pub(super) fn trace(
    network: &Network,
    drive: &Drive,
    from: &Snapped,
    to: &Snapped,
    speed: f64,
) -> Route {
    let mut line = Line { points: vec![from.point], elapsed_s: vec![0.0] };
    let last = drive.headings.len().saturating_sub(1);
    for (at, heading) in drive.headings.iter().enumerate() {
        let (begin, finish) = if heading.is_against() { (1.0, 0.0) } else { (0.0, 1.0) };
        let start = if at == 0 { from.along } else { begin };
        let (end, goal) = if at == last { (to.along, Some(to.point)) } else { (finish, None) };
        line.follow(network, *heading, start, end, goal);
    }
    if line.points.len() < 2 {
        line.points.push(to.point);
        line.elapsed_s.push(0.0);
    }
    let seconds = f64::from(drive.cost.millis) / 1000.0;
    // Each part was rounded to a millisecond; the points say the same total as the route.
    let drawn = line.elapsed_s.last().copied().unwrap_or(0.0);
    let scale = if drawn > 0.0 { seconds / drawn / speed } else { 0.0 };
    Route {
        seconds: seconds / speed,
        metres: f64::from(drive.cost.decimetres) / 10.0,
        points: line.points,
        elapsed_s: line.elapsed_s.into_iter().map(|passed| passed * scale).collect(),
    }
}

struct Line {
    points: Vec<Point>,
    elapsed_s: Vec<f64>,
}

impl Line {
    /// Drives a segment from one place on it to another (shares of its length).
    /// It ends at `goal`, or at the junction.
    fn follow(
        &mut self,
        network: &Network,
        heading: Heading,
        start: f64,
        end: f64,
        goal: Option<Point>,
    ) {
        let (shape, places) = network.shape(heading.segment());
        let (seconds, shape_m) = network.measure(heading.segment());
        let (low, high) = if heading.is_against() { (end, start) } else { (start, end) };
        let begun_s = self.elapsed_s.last().copied().unwrap_or(0.0);
        let mut passed: Vec<(Point, f64)> = shape
            .iter()
            .zip(marks(places, shape_m))
            .filter(|(_, mark)| low < *mark && *mark < high)
            .map(|(point, mark)| (*point, begun_s + (mark - start).abs() * seconds))
            .collect();
        if heading.is_against() {
            passed.reverse();
        }
        let junction = if heading.is_against() { shape.first() } else { shape.last() };
        let arrival =
            goal.or(junction.copied()).map(|point| (point, begun_s + (high - low) * seconds));
        for (point, elapsed_s) in passed.into_iter().chain(arrival) {
            // Who begins or ends at a junction passes it once.
            if self.points.last() != Some(&point) {
                self.points.push(point);
                self.elapsed_s.push(elapsed_s);
            }
        }
    }
}

/// How far along its length (0 to 1) each point of a shape lies.
fn marks(places: &[Xy], shape_m: f64) -> impl Iterator<Item = f64> {
    let mut before: Option<Xy> = None;
    let mut sum = 0.0;
    places.iter().map(move |place| {
        sum += before.map_or(0.0, |before| before.distance(*place));
        before = Some(*place);
        if shape_m > 0.0 { sum / shape_m } else { 0.0 }
    })
}
