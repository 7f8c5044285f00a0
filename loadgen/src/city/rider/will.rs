//! What a rider is going to do, drawn before the ride from the rider's own dice, so that it repeats.

use std::time::Duration;

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp1};

use crate::city::demand::{SHORT_RIDES, Wish};

/// Share of the riders who change their mind at once, and within what time.
const FICKLE: f64 = 0.06;
const FICKLE_WITHIN_MS: u64 = 20_000;
/// Share of those whose thumb slipped: they cancel in the same breath.
const SLIPPED: f64 = 0.3;
/// The others wait so long before they begin to lose patience, and then so much longer on average.
const PATIENT_S: f64 = 45.0;
const LOSING_PATIENCE_S: f64 = 400.0;
/// Share of the assignments that the rider regrets while the driver is on the way.
const REGRETTED: f64 = 0.05;
const REGRETTED_WITHIN_MS: u64 = 30_000;
const TAPS_TWICE: f64 = 0.05;
const NEVER_COMES: f64 = 0.01;
/// In life; the city walks as fast as it drives.
const WALK_MEAN_S: f64 = 45.0;
const WALK_MAX_S: f64 = 200.0;
const RATES: f64 = 0.7;

/// One rider's will.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Will {
    pub(super) taps_twice: bool,
    /// After the request; not once the ride has begun.
    pub(super) loses_patience_after: Option<Duration>,
    /// From the car's arrival until the rider is at the kerb; `None`: never comes.
    pub(super) walks_out_in: Option<Duration>,
    pub(super) stars: Option<u8>,
    pub(super) reason: &'static str,
    never_regrets: bool,
}

impl Will {
    pub(super) fn new(wish: &Wish, rng: &mut impl Rng) -> Self {
        let is_fickle = rng.random_bool(FICKLE);
        let has_slipped = rng.random_bool(SLIPPED);
        let hesitation = Duration::from_millis(rng.random_range(300..FICKLE_WITHIN_MS));
        let at_once = if has_slipped { Duration::ZERO } else { hesitation };
        let losing: f64 = Exp1.sample(rng);
        let later = Duration::from_secs_f64(PATIENT_S + losing * LOSING_PATIENCE_S);
        let walk: f64 = Exp1.sample(rng);
        let walk = Duration::from_secs_f64((walk * WALK_MEAN_S).min(WALK_MAX_S));
        let reason = if is_fickle { "change_of_plans" } else { "wait_too_long" };
        let will = Self {
            taps_twice: rng.random_bool(TAPS_TWICE),
            loses_patience_after: Some(if is_fickle { at_once } else { later }),
            walks_out_in: (!rng.random_bool(NEVER_COMES)).then_some(walk),
            stars: rng.random_bool(RATES).then(|| rng.random_range(3..=5)),
            reason,
            never_regrets: false,
        };
        if wish.number < SHORT_RIDES { will.determined() } else { will }
    }

    /// Somebody is watching the first rides: their riders do not change their minds.
    fn determined(self) -> Self {
        let walks_out_in = Some(self.walks_out_in.unwrap_or_default());
        Self { loses_patience_after: None, walks_out_in, never_regrets: true, ..self }
    }

    /// A driver is on the way; perhaps there was a bus after all.
    pub(super) fn regrets_after(&self, rng: &mut impl Rng) -> Option<Duration> {
        let regrets = !self.never_regrets && rng.random_bool(REGRETTED);
        regrets.then(|| Duration::from_millis(rng.random_range(200..REGRETTED_WITHIN_MS)))
    }
}

#[cfg(test)]
mod tests {
    use super::Will;
    use crate::city::demand::Wish;
    use common::geo::Point;
    use rand::{SeedableRng, rngs::ChaCha8Rng};
    use std::time::Duration;

    fn will(number: u64) -> Will {
        let place = Point::new(57.7, 11.97).unwrap();
        let wish =
            Wish { number, at: Duration::ZERO, pickup: place, dropoff: place, disposition: number };
        Will::new(&wish, &mut ChaCha8Rng::seed_from_u64(number))
    }

    #[test]
    fn a_rider_of_the_same_seed_wants_the_same() {
        assert_eq!(will(9), will(9));
    }

    #[test]
    fn the_first_riders_are_determined() {
        for number in 0..3 {
            let will = will(number);
            assert!(will.loses_patience_after.is_none() && will.walks_out_in.is_some());
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            assert!((0..200).all(|_| will.regrets_after(&mut rng).is_none()));
        }
    }

    #[test]
    fn about_one_in_seventeen_changes_their_mind_at_once() {
        let soon = |will: &Will| will.loses_patience_after < Some(Duration::from_secs(20));
        let fickle = (10..1010).map(will).filter(soon).count();
        assert!((35..90).contains(&fickle), "{fickle}");
    }
}
