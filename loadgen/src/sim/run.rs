//! One seed, from the first request to the verdict.

use std::time::Duration;

use futures_util::FutureExt as _;
use serde::Serialize;

use super::{
    coverage::Coverage,
    engine::{BEGINNING, Machine, OUTSIDE},
    faults::Options,
    nemesis, phones,
    system::World,
    verdict::{self, Finding},
};

/// Faults go on at least this long.
const FAULTS_MIN: Duration = Duration::from_secs(100);
/// Everything must settle within this after the last fault.
const SETTLES_WITHIN: Duration = Duration::from_secs(20 * 60);
/// How often it is looked whether everything has.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// One quiet look may fall between two steps of the saga.
const QUIET_LOOKS: u32 = 3;
/// More steps than any run takes; one that does goes round in circles.
const STEPS_MAX: u64 = 2_000_000;

/// What came of a seed.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// What was drawn from it.
    pub options: Options,
    /// How many steps were made.
    pub steps: u64,
    /// How much time went by in the simulation, in seconds.
    pub virtual_s: u64,
    /// Messages that were lost or delayed.
    pub faults: u64,
    /// Appends that the compare-and-set refused.
    pub refused: u64,
    /// Equal for equal runs.
    pub trace: String,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// What was seen, and how often.
    #[serde(skip)]
    pub coverage: Coverage,
    /// What happened, where it was asked for.
    #[serde(skip)]
    pub history: Vec<String>,
}

/// Runs a seed: faults for `steps` steps at least, then quiet until everything has settled.
///
/// # Errors
/// When the simulation itself cannot be set up.
pub fn run(seed: u64, steps: u64, has_history: bool) -> anyhow::Result<Outcome> {
    let options = Options::of(seed);
    let mut machine = Machine::new(seed, has_history);
    let world = World::new(machine.sim().clone(), options.clone())?;
    phones::begin(&world);
    world.sim.spawn(OUTSIDE, nemesis::run(std::sync::Arc::clone(&world)));
    let mut elapse = |now| world.elapse(now);
    while machine.steps() < steps || world.sim.now().since(BEGINNING) < FAULTS_MIN {
        if !machine.step(&mut elapse) || machine.steps() > STEPS_MAX {
            break;
        }
    }
    nemesis::heal(&world);
    phones::replay_letters(&world);
    let healed_at = world.sim.now();
    let mut looks = 0;
    let mut look_at = healed_at.plus(LOOK_EVERY);
    let mut unsettled = None;
    while looks < QUIET_LOOKS && machine.steps() < STEPS_MAX {
        let now = world.sim.now();
        if look_at <= now {
            look_at = now.plus(LOOK_EVERY);
            unsettled = verdict::unsettled(&world);
            looks = if unsettled.is_none() { looks + 1 } else { 0 };
            if now.since(healed_at) > SETTLES_WITHIN {
                break;
            }
        }
        if !machine.step(&mut elapse) {
            break;
        }
    }
    let log = verdict::log(&world);
    let findings = verdict::find(&world, &log, unsettled).now_or_never().unwrap_or_default();
    let coverage = Coverage::of(&log, world.with_witness(|witness| witness.seen.clone()));
    let (faults, refused) = world.with_witness(|witness| (witness.faults, witness.refused));
    let (steps, virtual_s) = (machine.steps(), world.sim.now().since(BEGINNING).as_secs());
    let trace = machine.into_trace();
    let hash = format!("{:016x}", trace.hash());
    let history = trace.lines().to_vec();
    Ok(Outcome {
        options,
        steps,
        virtual_s,
        faults,
        refused,
        trace: hash,
        findings,
        coverage,
        history,
    })
}
