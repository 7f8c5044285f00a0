//! The system in virtual time: a few seeds of the many that CI runs, and that a seed says it all.

use loadgen::sim::{self, Options};

const STEPS: u64 = 2_000;

#[test]
fn whatever_fails_in_between_rides_end_well_and_money_is_right() {
    for seed in 9_001..9_009 {
        let outcome = sim::run(seed, STEPS, false).unwrap();
        assert!(outcome.steps >= STEPS, "seed {seed}: {} steps", outcome.steps);
        assert_eq!(outcome.findings, [], "seed {seed}: {:#?}", outcome.options);
    }
}

#[test]
fn the_same_seed_is_the_same_run_and_another_one_is_not() {
    let run = |seed| sim::run(seed, STEPS, true).unwrap();
    for seed in [9_011, 9_012] {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first.history, second.history, "seed {seed}");
        assert_eq!((first.trace, first.steps), (second.trace, second.steps), "seed {seed}");
    }
    assert_ne!(run(9_011).trace, run(9_012).trace);
}

#[test]
fn every_run_breaks_something_else() {
    let of = |seed| serde_json::to_string(&Options::of(seed)).unwrap();
    assert_eq!(of(1), of(1));
    let mishaps: std::collections::BTreeSet<String> =
        (0..100).map(|seed| format!("{:?}", Options::of(seed).mishaps)).collect();
    assert!(mishaps.len() > 30, "{} kinds of runs", mishaps.len());
}
