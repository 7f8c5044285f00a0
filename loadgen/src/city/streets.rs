//! The city as its people see it: where they are, where they want to go, and how to drive there.
//! Roads and travel times are those of `location::roads`; what is drawn here is attraction.

use std::{collections::HashMap, sync::Arc};

use anyhow::Context;
use common::geo::Point;
use location::roads::{RoadGraph, Route};
use rand::{Rng, RngExt};

/// Side of the squares in which junctions are counted.
const SQUARE_M: f64 = 500.0;
/// How fast a place's attraction falls with its distance from the centre.
const CENTRE_FALL_M: f64 = 2500.0;
/// What remains of it at the edge of the city.
const ATTRACTION_FLOOR: f64 = 0.15;
/// How many places a traveller considers; the one at the most fitting distance is the destination.
const DESTINATIONS_CONSIDERED: usize = 32;
/// A ride is longer than this; nobody drives round the block.
const RIDE_MIN_M: f64 = 250.0;
const METRES_PER_DEGREE: f64 = 111_195.0;

/// Roads with people along them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Streets {
    roads: RoadGraph,
    places: Arc<Places>,
}

/// Junctions, and how many people are drawn to them and all before them.
#[derive(Debug)]
struct Places {
    points: Vec<Point>,
    first: Point,
    attraction_sums: Vec<f64>,
}

impl Streets {
    /// People along these roads. Their speed is the cars' speed.
    ///
    /// # Errors
    /// When there is not a single junction.
    pub fn new(roads: RoadGraph) -> anyhow::Result<Self> {
        let points: Vec<Point> =
            (0..roads.junction_count()).filter_map(|at| roads.junction(at)).collect();
        let first = points.first().copied().context("a city without junctions")?;
        let attraction_sums = attraction(&points)
            .scan(0.0, |sum, attraction| {
                *sum += attraction;
                Some(*sum)
            })
            .collect();
        Ok(Self { roads, places: Arc::new(Places { points, first, attraction_sums }) })
    }

    /// A place where somebody is: more likely in dense quarters and near the centre.
    pub fn draw_place(&self, rng: &mut impl Rng) -> Point {
        let places = &self.places;
        let total = places.attraction_sums.last().copied().unwrap_or(0.0);
        let mark = rng.random::<f64>() * total;
        let at = places.attraction_sums.partition_point(|sum| *sum <= mark);
        let last = places.points.len().saturating_sub(1);
        places.points.get(at.min(last)).copied().unwrap_or(places.first)
    }

    /// Where somebody at `pickup` goes who wants to ride about so far.
    pub fn draw_dropoff(&self, pickup: Point, length_m: f64, rng: &mut impl Rng) -> Point {
        let misfit = |place: &Point| (grid_distance_m(pickup, *place) - length_m).abs();
        let considered: Vec<Point> =
            (0..DESTINATIONS_CONSIDERED).map(|_| self.draw_place(rng)).collect();
        let far_enough = considered.iter().filter(|place| pickup.distance_m(**place) > RIDE_MIN_M);
        let chosen = far_enough.min_by(|a, b| misfit(a).total_cmp(&misfit(b))).copied();
        chosen.unwrap_or_else(|| self.farthest_from(pickup))
    }

    /// The junction at the most fitting distance of all.
    #[must_use]
    pub fn place_at(&self, from: Point, length_m: f64) -> Point {
        let misfit = |place: &Point| (grid_distance_m(from, *place) - length_m).abs();
        let nearest = self.places.points.iter().min_by(|a, b| misfit(a).total_cmp(&misfit(b)));
        nearest.copied().unwrap_or(from)
    }

    /// The fastest way, timed at the speed of this city's cars.
    #[must_use]
    pub fn route(&self, from: Point, to: Point) -> Option<Route> {
        self.roads.route(from, to)
    }

    fn farthest_from(&self, place: Point) -> Point {
        let distance = |other: &Point| place.distance_m(*other);
        let far = self.places.points.iter().max_by(|a, b| distance(a).total_cmp(&distance(b)));
        far.copied().unwrap_or(place)
    }
}

/// Distance along a street grid that runs north and east.
fn grid_distance_m(a: Point, b: Point) -> f64 {
    let north = (a.lat() - b.lat()).abs();
    let east = (a.lng() - b.lng()).abs() * a.lat().to_radians().cos();
    (north + east) * METRES_PER_DEGREE
}

/// Gravity: the root of the density around a junction (a junction counts itself already, so dense
/// quarters win twice), falling with the distance from the densest square.
fn attraction(points: &[Point]) -> impl Iterator<Item = f64> {
    let square_of = |point: &Point| {
        let north = point.lat() * METRES_PER_DEGREE / SQUARE_M;
        let east = point.lng() * point.lat().to_radians().cos() * METRES_PER_DEGREE / SQUARE_M;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most 40,000 squares round the earth"
        )]
        (north.floor() as i64, east.floor() as i64)
    };
    let mut counts: HashMap<(i64, i64), u32> = HashMap::new();
    for point in points {
        *counts.entry(square_of(point)).or_default() += 1;
    }
    let densities: Vec<f64> = points
        .iter()
        .map(|point| {
            let (north, east) = square_of(point);
            let around = (-1..=1).flat_map(|n| (-1..=1).map(move |e| (north + n, east + e)));
            around.filter_map(|square| counts.get(&square)).map(|count| f64::from(*count)).sum()
        })
        .collect();
    let densest = densities.iter().zip(points).max_by(|a, b| a.0.total_cmp(b.0));
    let centre = densest.map(|(_, point)| *point);
    let pull = move |(density, point): (f64, Point)| {
        let away_m = centre.map_or(0.0, |centre| centre.distance_m(point));
        density.sqrt() * (ATTRACTION_FLOOR + (-away_m / CENTRE_FALL_M).exp())
    };
    densities.into_iter().zip(points.to_vec()).map(pull)
}

#[cfg(test)]
pub(super) mod tests {
    use super::Streets;
    use location::roads::{RoadGraph, Speed};
    use rand::{SeedableRng, rngs::ChaCha8Rng};

    pub(in crate::city) fn gothenburg(time_scale: f64) -> Streets {
        let speed = Speed::CONGESTED.times(time_scale).unwrap();
        Streets::new(RoadGraph::gothenburg().unwrap().with_speed(speed)).unwrap()
    }

    #[test]
    fn rides_are_about_as_long_as_people_want() {
        let (streets, mut rng) = (gothenburg(1.0), ChaCha8Rng::seed_from_u64(3));
        let misses = (0..200).filter(|_| {
            let pickup = streets.draw_place(&mut rng);
            let dropoff = streets.draw_dropoff(pickup, 2500.0, &mut rng);
            (super::grid_distance_m(pickup, dropoff) - 2500.0).abs() > 1000.0
        });
        assert!(misses.count() < 10);
    }

    #[test]
    fn nobody_rides_round_the_block() {
        let (streets, mut rng) = (gothenburg(1.0), ChaCha8Rng::seed_from_u64(4));
        for _ in 0..200 {
            let pickup = streets.draw_place(&mut rng);
            let dropoff = streets.draw_dropoff(pickup, 10.0, &mut rng);
            assert!(pickup.distance_m(dropoff) > 200.0);
        }
    }

    #[test]
    fn more_people_are_in_the_middle_than_at_the_edge() {
        let (streets, mut rng) = (gothenburg(1.0), ChaCha8Rng::seed_from_u64(5));
        let drawn: Vec<_> = (0..1000).map(|_| streets.draw_place(&mut rng)).collect();
        let near = |point: &&common::geo::Point| {
            drawn.iter().filter(|other| other.distance_m(**point) < 2000.0).count()
        };
        let busiest = drawn.iter().take(200).map(|point| near(&point)).max().unwrap();
        assert!(busiest > 250, "{busiest}");
    }

    #[test]
    fn every_ride_can_be_driven() {
        let (streets, mut rng) = (gothenburg(5.0), ChaCha8Rng::seed_from_u64(6));
        for _ in 0..20 {
            let pickup = streets.draw_place(&mut rng);
            let dropoff = streets.draw_dropoff(pickup, 3000.0, &mut rng);
            assert!(streets.route(pickup, dropoff).unwrap().seconds > 0.0);
        }
    }
}
