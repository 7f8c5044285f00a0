//! The index against the plain form and against brute force, alone and with several writers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use common::{clock::Timestamp, geo::Point, id::DriverId, subject::Partitions};
use proptest::{
    collection::vec,
    prelude::{Just, ProptestConfig, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest},
};
use uuid::Uuid;

use super::{
    Activity, DriverIndex, E7, Fix, Index, Near, Sighting, place::Metric, plain::PlainIndex,
};

const TOWN: (f64, f64) = (57.70, 11.97);

fn driver(n: u32) -> DriverId {
    DriverId(Uuid::from_u128(u128::from(n) + 1))
}

fn at(north_m: f64, east_m: f64) -> E7 {
    let (lat, lng) = TOWN;
    let east = east_m / 111_195.0 / lat.to_radians().cos();
    Point::new(lat + north_m / 111_195.0, lng + east).unwrap().into()
}

fn fix(position: E7) -> Fix {
    Fix { position, heard_at: Timestamp::from_micros(1), heading: None }
}

fn idle_at(index: &impl DriverIndex, n: u32, place: E7) {
    index.moved(driver(n), fix(place));
    index.set_activity(driver(n), Activity::Idle, Timestamp::from_micros(0));
}

fn found(near: &[Near]) -> Vec<DriverId> {
    near.iter().map(|near| near.sighting.driver).collect()
}

fn town() -> Point {
    Point::new(TOWN.0, TOWN.1).unwrap()
}

#[test]
fn the_nearest_idle_drivers_come_nearest_first() {
    let index = Index::new(Partitions::default());
    idle_at(&index, 1, at(900.0, 0.0));
    idle_at(&index, 2, at(0.0, 300.0));
    idle_at(&index, 3, at(-2500.0, 100.0));
    let near = index.nearest(town(), 2, 3000.0, |_| true);
    assert_eq!(found(&near), [driver(2), driver(1)]);
    assert!((near[0].distance_m - 300.0).abs() < 2.0, "{near:?}");
}

#[test]
fn a_driver_that_gets_an_offer_is_not_found_any_more_and_is_again_when_it_ends() {
    let index = Index::new(Partitions::default());
    idle_at(&index, 1, at(50.0, 0.0));
    let search = || found(&index.nearest(town(), 5, 3000.0, |_| true));
    index.set_activity(driver(1), Activity::Offered, Timestamp::from_micros(0));
    assert_eq!(search(), []);
    // It drives on meanwhile, into another cell.
    index.moved(driver(1), fix(at(800.0, 0.0)));
    assert_eq!(search(), []);
    index.set_activity(driver(1), Activity::Idle, Timestamp::from_micros(0));
    assert_eq!(search(), [driver(1)]);
}

#[test]
fn a_driver_of_whom_only_events_are_known_is_not_found() {
    let index = Index::new(Partitions::default());
    index.set_activity(driver(1), Activity::Idle, Timestamp::from_micros(0));
    assert_eq!(found(&index.nearest(town(), 5, 9000.0, |_| true)), []);
    assert_eq!(index.get(driver(1)).unwrap().position, None);
    index.moved(driver(1), fix(at(0.0, 0.0)));
    assert_eq!(found(&index.nearest(town(), 5, 9000.0, |_| true)), [driver(1)]);
}

#[test]
fn a_refused_driver_leaves_its_place_to_the_next() {
    let index = Index::new(Partitions::default());
    idle_at(&index, 1, at(10.0, 0.0));
    idle_at(&index, 2, at(20.0, 0.0));
    let near = index.nearest(town(), 1, 3000.0, |seen| seen.driver != driver(1));
    assert_eq!(found(&near), [driver(2)]);
}

#[test]
fn nobody_is_found_beyond_the_radius() {
    let index = Index::new(Partitions::default());
    idle_at(&index, 1, at(0.0, 1100.0));
    assert_eq!(found(&index.nearest(town(), 5, 1000.0, |_| true)), []);
    assert_eq!(found(&index.nearest(town(), 5, 1200.0, |_| true)), [driver(1)]);
    assert_eq!(found(&index.nearest(town(), 0, 1200.0, |_| true)), []);
}

#[test]
fn the_index_knows_what_a_driver_did_last() {
    let index = Index::new(Partitions::default());
    let since = Timestamp::from_micros(1_767_225_600_000_000);
    index.moved(driver(1), Fix { heading: Some(64), ..fix(at(1.0, 2.0)) });
    index.set_activity(driver(1), Activity::Engaged, since);
    index.moved(driver(1), fix(at(3.0, 4.0)));
    let seen = index.get(driver(1)).unwrap();
    assert_eq!((seen.heading, seen.activity, seen.since), (64, Activity::Engaged, since));
    assert_eq!(seen.position, Some(at(3.0, 4.0)));
    assert_eq!(seen.partition, Partitions::default().ping_of(driver(1)));
    assert_eq!(index.get(driver(2)), None);
    assert_eq!(index.driver_count(), 1);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Move(u32, E7),
    Do(u32, Activity),
}

impl Step {
    fn apply(self, index: &impl DriverIndex) {
        match self {
            Self::Move(n, place) => index.moved(driver(n), fix(place)),
            Self::Do(n, activity) => {
                index.set_activity(driver(n), activity, Timestamp::from_micros(0));
            }
        }
    }

    fn driver(self) -> u32 {
        match self {
            Self::Move(n, _) | Self::Do(n, _) => n,
        }
    }
}

/// Steps of a few drivers in a few square kilometres: they meet in cells, and cross them often.
fn steps(drivers: u32, count: usize) -> impl Strategy<Value = Vec<Step>> {
    let place = (-4000.0_f64..4000.0, -4000.0_f64..4000.0).prop_map(|(n, e)| at(n, e));
    let activity = prop_oneof![
        3 => Just(Activity::Idle),
        1 => Just(Activity::Offered),
        1 => Just(Activity::Offline),
    ];
    let step = prop_oneof![
        4 => (0..drivers, place).prop_map(|(n, place)| Step::Move(n, place)),
        2 => (0..drivers, activity).prop_map(|(n, activity)| Step::Do(n, activity)),
    ];
    vec(step, 1..count)
}

fn by_force(idle: &[Sighting], from: Point, limit: usize, radius_m: f64) -> Vec<DriverId> {
    let metric = Metric::around(from);
    let mut all: Vec<(f64, DriverId)> = idle
        .iter()
        .filter_map(|seen| Some((metric.squared_m(seen.position?), seen.driver)))
        .filter(|(squared, _)| *squared <= radius_m * radius_m)
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.into_iter().take(limit).map(|(_, driver)| driver).collect()
}

fn queries() -> impl Strategy<Value = Vec<(E7, usize, f64)>> {
    let place = (-5000.0_f64..5000.0, -5000.0_f64..5000.0).prop_map(|(n, e)| at(n, e));
    vec((place, 1_usize..20, 100.0_f64..9000.0), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_index_answers_as_brute_force_and_as_two_plain_maps_do(
        steps in steps(60, 400), queries in queries(),
    ) {
        let (index, plain) = (Index::new(Partitions::default()), PlainIndex::new(Partitions::default()));
        for step in &steps {
            step.apply(&index);
            step.apply(&plain);
        }
        let idle = plain.idle();
        for (from, limit, radius_m) in queries {
            let from = from.point().unwrap();
            let expected = by_force(&idle, from, limit, radius_m);
            prop_assert_eq!(&found(&index.nearest(from, limit, radius_m, |_| true)), &expected);
            prop_assert_eq!(&found(&plain.nearest(from, limit, radius_m, |_| true)), &expected);
        }
        for n in 0..60 {
            prop_assert_eq!(index.get(driver(n)), plain.get(driver(n)));
        }
    }

    #[test]
    fn after_writers_and_readers_at_once_the_index_equals_brute_force(
        steps in steps(40, 1500), queries in queries(),
    ) {
        let index = Arc::new(Index::new(Partitions::default()));
        let steps = Arc::new(steps);
        let done = Arc::new(AtomicBool::new(false));
        // As in the service: each driver's pings come from one writer, its events from another.
        let writers: Vec<_> = [0_u32, 1, 2]
            .into_iter()
            .map(|writer| {
                let (index, steps) = (Arc::clone(&index), Arc::clone(&steps));
                std::thread::spawn(move || {
                    for step in steps.iter() {
                        let mine = match step {
                            Step::Move(n, _) => n % 2 == writer,
                            Step::Do(..) => writer == 2,
                        };
                        if mine {
                            step.apply(&*index);
                        }
                    }
                })
            })
            .collect();
        let reader = {
            let (index, done) = (Arc::clone(&index), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut is_sound = true;
                while !done.load(Ordering::Acquire) {
                    let near = index.nearest(town(), 8, 3000.0, |_| true);
                    let mut drivers = found(&near);
                    drivers.sort_unstable();
                    drivers.dedup();
                    let sorted = near.windows(2).all(|two| two[0].distance_m <= two[1].distance_m);
                    is_sound &= sorted && drivers.len() == near.len();
                }
                is_sound
            })
        };
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Release);
        prop_assert!(reader.join().unwrap(), "a search gave a driver twice or out of order");

        // The last word of each kind for each driver, in one thread.
        let plain = PlainIndex::new(Partitions::default());
        for n in 0..40 {
            let of_driver = || steps.iter().rev().filter(|step| step.driver() == n);
            let last = [
                of_driver().find(|step| matches!(step, Step::Move(..))),
                of_driver().find(|step| matches!(step, Step::Do(..))),
            ];
            last.into_iter().flatten().for_each(|step| step.apply(&plain));
        }
        for (from, limit, radius_m) in queries {
            let from = from.point().unwrap();
            let expected = by_force(&plain.idle(), from, limit, radius_m);
            prop_assert_eq!(&found(&index.nearest(from, limit, radius_m, |_| true)), &expected);
        }
    }
}
