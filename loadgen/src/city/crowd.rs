//! Cars whose drivers are not on shift: the app is open and says where they are, but they take no
//! rides. Most of them cruise, the others stand.

use std::{ops::Range, sync::Arc};

use rand::{Rng, RngExt, SeedableRng, rngs::ChaCha8Rng};
use uuid::Uuid;

use super::{
    motion::{Car, Tour},
    streets::Streets,
};
use crate::pings::Walker;

/// Cars share so many round trips, each at its own place in it.
const TOURS: usize = 48;
const CRUISING_SHARE: f64 = 0.6;
/// Share of the phones whose clock is wrong, and by how much at most.
const WRONG_CLOCK_SHARE: f64 = 0.05;
const WRONG_CLOCK_MAX_US: i64 = 10 * 60 * 1_000_000;

/// The driver of this number in this run.
#[must_use]
pub fn driver_id(run: Uuid, number: u64) -> Uuid {
    Uuid::new_v5(&run, format!("driver {number}").as_bytes())
}

/// How wrong a phone's clock is; most are right.
pub fn draw_skew_us(rng: &mut impl Rng) -> i64 {
    if rng.random_bool(WRONG_CLOCK_SHARE) {
        rng.random_range(-WRONG_CLOCK_MAX_US..=WRONG_CLOCK_MAX_US)
    } else {
        0
    }
}

/// The cars with these numbers, each with a phone.
#[must_use]
pub fn draw(streets: &Streets, seed: u64, run: Uuid, numbers: Range<u64>) -> Vec<(Walker, Car)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let tours: Vec<Arc<Tour>> =
        (0..TOURS).filter_map(|_| Tour::draw(streets, &mut rng)).map(Arc::new).collect();
    let car = |number| {
        let is_cruising = rng.random_bool(CRUISING_SHARE);
        let tour = tours.get(rng.random_range(0..TOURS)).filter(|_| is_cruising);
        let place = streets.draw_place(&mut rng);
        let car = match tour {
            Some(tour) => Car::cruising(Arc::clone(tour), tour.draw_offset_s(&mut rng)),
            None => Car::parked(place),
        };
        (Walker::new(driver_id(run, number), draw_skew_us(&mut rng)), car)
    };
    numbers.map(car).collect()
}

#[cfg(test)]
mod tests {
    use super::draw;
    use crate::city::streets::tests::gothenburg;
    use std::time::Duration;
    use uuid::Uuid;

    #[test]
    fn the_same_seed_puts_the_same_cars_in_the_same_places() {
        let streets = gothenburg(5.0);
        let places = |run| {
            let cars = draw(&streets, 3, Uuid::from_u128(run), 0..50);
            let place = |(_, car): &(_, crate::city::motion::Car)| car.at(Duration::ZERO).point;
            cars.iter().map(place).collect::<Vec<_>>()
        };
        assert_eq!(places(1), places(2));
    }

    #[test]
    fn two_runs_have_different_drivers() {
        let streets = gothenburg(5.0);
        let first = |run| draw(&streets, 3, Uuid::from_u128(run), 0..1)[0].0.driver;
        assert_ne!(first(1), first(2));
    }
}
