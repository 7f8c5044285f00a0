//! How cars move: along the fastest way, at the speed of the road, and round and round while
//! nobody needs them. Time is given, never read.

use std::{sync::Arc, time::Duration};

use common::geo::Point;
use location::roads::{Route, Waypoint};
use rand::{Rng, RngExt};

use super::streets::Streets;

/// A tour has so many legs before it is back where it began.
const TOUR_LEGS: usize = 5;

/// Where a car is going, or where it stands. Times are durations since the start of the run.
#[derive(Debug, Clone)]
pub struct Car {
    state: State,
    /// Where it stands when it does not move.
    rest: Point,
}

#[derive(Debug, Clone)]
enum State {
    Parked,
    Driving { route: Arc<Route>, departed: Duration },
    Cruising { tour: Arc<Tour>, ahead_s: f64 },
}

impl Car {
    /// A car that stands.
    #[must_use]
    pub fn parked(at: Point) -> Self {
        Self { state: State::Parked, rest: at }
    }

    /// A car that follows a tour, `ahead_s` seconds in front of its beginning.
    #[must_use]
    pub fn cruising(tour: Arc<Tour>, ahead_s: f64) -> Self {
        Self { rest: tour.start, state: State::Cruising { tour, ahead_s } }
    }

    /// Where it is, how it is turned and how fast it is.
    #[must_use]
    pub fn at(&self, now: Duration) -> Waypoint {
        let moving = match &self.state {
            State::Parked => None,
            State::Driving { route, departed } => {
                route.at(now.saturating_sub(*departed).as_secs_f64())
            }
            State::Cruising { tour, ahead_s } => tour.at(now.as_secs_f64() + ahead_s),
        };
        moving.unwrap_or_else(|| standing(self.rest))
    }

    /// Sets off for a place; returns when it will be there. Where no road leads, it stays.
    pub fn drive_to(&mut self, goal: Point, streets: &Streets, now: Duration) -> Duration {
        let here = self.at(now).point;
        let Some(route) = streets.route(here, goal) else {
            self.park(now);
            return now;
        };
        let arrives = now.saturating_add(Duration::from_secs_f64(route.seconds.max(0.0)));
        self.rest = route.points.last().copied().unwrap_or(here);
        self.state = State::Driving { route: Arc::new(route), departed: now };
        arrives
    }

    /// Stops where it is.
    pub fn park(&mut self, now: Duration) {
        self.rest = self.at(now).point;
        self.state = State::Parked;
    }
}

fn standing(point: Point) -> Waypoint {
    Waypoint { point, heading_deg: 0.0, metres_per_s: 0.0 }
}

/// A round trip through the city, shared by the cars that follow it.
#[derive(Debug)]
pub struct Tour {
    legs: Vec<Route>,
    seconds: f64,
    start: Point,
}

impl Tour {
    /// A tour by some random places; `None` where no road leads on.
    pub fn draw(streets: &Streets, rng: &mut impl Rng) -> Option<Self> {
        let mut places: Vec<Point> = (0..TOUR_LEGS).map(|_| streets.draw_place(rng)).collect();
        let start = places.first().copied()?;
        places.push(start);
        let legs: Option<Vec<Route>> = places
            .windows(2)
            .filter_map(|pair| <&[Point; 2]>::try_from(pair).ok())
            .filter(|[from, to]| from != to)
            .map(|[from, to]| streets.route(*from, *to))
            .collect();
        let legs = legs?;
        let seconds = legs.iter().map(|leg| leg.seconds).sum();
        (seconds > 0.0).then_some(Self { legs, seconds, start })
    }

    /// A place along it, as seconds from its beginning.
    pub fn draw_offset_s(&self, rng: &mut impl Rng) -> f64 {
        rng.random::<f64>() * self.seconds
    }

    fn at(&self, elapsed_s: f64) -> Option<Waypoint> {
        let mut left_s = elapsed_s.rem_euclid(self.seconds);
        for leg in &self.legs {
            if left_s <= leg.seconds {
                return leg.at(left_s);
            }
            left_s -= leg.seconds;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Car, Tour};
    use crate::city::streets::{Streets, tests::gothenburg};
    use rand::{SeedableRng, rngs::ChaCha8Rng};
    use std::{sync::Arc, time::Duration};

    /// What `location` takes for plausible at time scale 1.
    const PLAUSIBLE_M_PER_S: f64 = 200.0 / 3.6;
    const SCALE: f64 = 5.0;

    fn city() -> (Streets, ChaCha8Rng) {
        (gothenburg(SCALE), ChaCha8Rng::seed_from_u64(11))
    }

    fn holds_the_rules_of_the_road(car: &Car, streets: &Streets) {
        let mut before = car.at(Duration::ZERO).point;
        for second in 1..120 {
            let here = car.at(Duration::from_secs(second)).point;
            let metres = before.distance_m(here);
            assert!(metres <= PLAUSIBLE_M_PER_S * SCALE, "{metres} m in a second");
            // The way from where it is to where it is begins on the road beside it.
            let snapped = streets.route(here, here).unwrap();
            assert!(snapped.points[0].distance_m(here) < 3.0, "off the road");
            before = here;
        }
    }

    #[test]
    fn a_car_stays_on_the_road_and_below_what_is_plausible() {
        let (streets, mut rng) = city();
        for _ in 0..5 {
            let (from, to) = (streets.draw_place(&mut rng), streets.draw_place(&mut rng));
            let mut car = Car::parked(from);
            car.drive_to(to, &streets, Duration::ZERO);
            holds_the_rules_of_the_road(&car, &streets);
        }
        let tour = Arc::new(Tour::draw(&streets, &mut rng).unwrap());
        let ahead_s = tour.draw_offset_s(&mut rng);
        holds_the_rules_of_the_road(&Car::cruising(tour, ahead_s), &streets);
    }

    #[test]
    fn a_car_is_there_when_it_said_and_then_stands() {
        let (streets, mut rng) = city();
        let (from, to) = (streets.draw_place(&mut rng), streets.draw_place(&mut rng));
        let mut car = Car::parked(from);
        let departed = Duration::from_secs(40);
        let arrives = car.drive_to(to, &streets, departed);
        assert!(arrives > departed);
        assert!(car.at(departed).point.distance_m(from) < 5.0);
        let later = car.at(arrives + Duration::from_secs(60));
        assert!(later.point.distance_m(to) < 5.0);
        assert!(later.metres_per_s.abs() < f64::EPSILON);
    }

    #[test]
    fn a_car_turns_round_where_it_is() {
        let (streets, mut rng) = city();
        let places: Vec<_> = (0..3).map(|_| streets.draw_place(&mut rng)).collect();
        let mut car = Car::parked(places[0]);
        let arrives = car.drive_to(places[1], &streets, Duration::ZERO);
        let halfway = arrives / 2;
        let there = car.at(halfway).point;
        car.drive_to(places[2], &streets, halfway);
        assert!(car.at(halfway).point.distance_m(there) < 5.0);
        car.park(halfway);
        assert!(car.at(arrives).point.distance_m(there) < 5.0);
    }
}
