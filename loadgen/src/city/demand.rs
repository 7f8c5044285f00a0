//! Who wants to ride when, from where to where: drawn from a seed, so that it repeats.

use std::time::Duration;

use common::geo::Point;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rand_distr::{Distribution, Exp1};

use super::{profile::Profile, streets::Streets};

/// The first rides are short, so that whoever watches soon sees one end.
pub(super) const SHORT_RIDES: u64 = 3;
const SHORT_RIDE_M: f64 = 700.0;
/// When the first of them is wanted, and how far apart the others are.
const SHORT_RIDE_EVERY: Duration = Duration::from_secs(2);

/// One person's wish to ride.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// Counts from 0.
    pub number: u64,
    /// When, after the start of the run.
    pub at: Duration,
    /// From where.
    pub pickup: Point,
    /// To where.
    pub dropoff: Point,
    /// The person's own dice.
    pub disposition: u64,
}

/// How much demand there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Wishes a minute in the mean of the week.
    pub rides_per_minute: f64,
    /// Hours after the first Monday began at which the run starts.
    pub start_hour: f64,
    /// City seconds in a second.
    pub time_scale: f64,
}

/// All wishes, in the order of their times; it never ends.
#[derive(Debug)]
pub struct Demand {
    rng: ChaCha8Rng,
    profile: Profile,
    streets: Streets,
    rate: Rate,
    number: u64,
    at_s: f64,
}

impl Demand {
    /// The demand of this seed.
    #[must_use]
    pub fn new(seed: u64, profile: Profile, streets: Streets, rate: Rate) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { rng, profile, streets, rate, number: 0, at_s: 0.0 }
    }

    /// A Poisson process whose rate follows the profile, by thinning: points at the peak's rate,
    /// of which each stays with the probability that its hour is as busy.
    fn next_at(&mut self) -> Option<Duration> {
        let peak = self.profile.peak();
        let peak_per_s = self.rate.rides_per_minute / 60.0 * peak;
        loop {
            let gap: f64 = Exp1.sample(&mut self.rng);
            self.at_s += gap / peak_per_s;
            let hours = self.rate.start_hour + self.at_s * self.rate.time_scale / 3600.0;
            let chance = self.profile.intensity(hours) / peak;
            if self.rng.random::<f64>() < chance {
                return Duration::try_from_secs_f64(self.at_s).ok();
            }
        }
    }
}

impl Iterator for Demand {
    type Item = Wish;

    fn next(&mut self) -> Option<Wish> {
        if self.rate.rides_per_minute <= 0.0 {
            return None;
        }
        let number = self.number;
        self.number += 1;
        let pickup = self.streets.draw_place(&mut self.rng);
        let (at, dropoff) = if number < SHORT_RIDES {
            let after = u32::try_from(number).ok()?;
            (SHORT_RIDE_EVERY * after, self.streets.place_at(pickup, SHORT_RIDE_M))
        } else {
            let length_m = self.profile.draw_length_m(&mut self.rng);
            let dropoff = self.streets.draw_dropoff(pickup, length_m, &mut self.rng);
            (self.next_at()?.max(SHORT_RIDE_EVERY * u32::try_from(SHORT_RIDES).ok()?), dropoff)
        };
        Some(Wish { number, at, pickup, dropoff, disposition: self.rng.random() })
    }
}

#[cfg(test)]
mod tests {
    use super::{Demand, Rate, Wish};
    use crate::city::{profile::Profile, streets};
    use std::time::Duration;

    const RATE: Rate = Rate { rides_per_minute: 120.0, start_hour: 12.0, time_scale: 5.0 };

    fn demand(seed: u64, rate: Rate) -> Demand {
        Demand::new(seed, Profile::measured().unwrap(), streets::tests::gothenburg(5.0), rate)
    }

    #[test]
    fn the_same_seed_gives_the_same_demand_and_another_seed_another() {
        let first: Vec<Wish> = demand(7, RATE).take(50).collect();
        assert_eq!(first, demand(7, RATE).take(50).collect::<Vec<_>>());
        assert_ne!(first, demand(8, RATE).take(50).collect::<Vec<_>>());
    }

    #[test]
    fn wishes_come_in_the_order_of_their_times() {
        let times: Vec<Duration> = demand(1, RATE).take(100).map(|wish| wish.at).collect();
        assert!(times.is_sorted(), "{times:?}");
    }

    #[test]
    fn a_city_without_riders_wants_nothing() {
        assert_eq!(demand(7, Rate { rides_per_minute: 0.0, ..RATE }).next(), None);
    }

    #[test]
    fn the_first_rides_are_short() {
        for wish in demand(1, RATE).take(3) {
            let metres = wish.pickup.distance_m(wish.dropoff);
            assert!((400.0..=701.0).contains(&metres), "{metres}");
        }
    }

    #[test]
    fn a_minute_at_a_mean_hour_has_as_many_wishes_as_asked_for() {
        let steady = Profile::measured().unwrap().steady();
        let streets = streets::tests::gothenburg(5.0);
        let wishes = Demand::new(2, steady, streets, RATE);
        let in_ten_minutes = wishes.take_while(|wish| wish.at < Duration::from_secs(600)).count();
        assert!((1080..1320).contains(&in_ten_minutes), "{in_ten_minutes}");
    }
}
