//! `loadgen sim`: many seeds on all cores, or one with its history; and the proof that the checks can
//! fail.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use common::planted::Planted;
use serde::Serialize;

use super::{
    coverage::Coverage,
    run::{Outcome, run},
};
use crate::report::write_json;

/// Findings of one seed that are printed.
const FINDINGS_SHOWN: usize = 8;
/// Failing seeds that are printed.
const SEEDS_SHOWN: usize = 5;

/// Which seeds to run.
#[derive(Debug, Clone, clap::Args)]
pub struct SimArgs {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000)]
    pub seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    pub first_seed: u64,
    /// How many steps with faults each seed takes at least.
    #[arg(long, default_value_t = 2_000)]
    pub steps: u64,
    /// Run this seed alone, and print its history.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Plant each of these bugs in turn and say which seed finds it: a name, or `all`. Needs a build
    /// with the feature `planted`.
    #[arg(long)]
    pub planted: Option<String>,
    /// How many seeds run at the same time; as many as there are cores if left out.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Write the report as JSON into this file, too.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What many seeds have shown.
#[derive(Debug, Default, Serialize)]
struct Report {
    seeds: u64,
    steps: u64,
    steps_min: u64,
    virtual_s: u64,
    faults: u64,
    refused: u64,
    failed: BTreeMap<u64, Outcome>,
    #[serde(serialize_with = "rows")]
    coverage: Coverage,
}

fn rows<S: serde::Serializer>(coverage: &Coverage, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(coverage.rows())
}

impl Report {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.steps += outcome.steps;
        self.steps_min =
            if self.seeds == 1 { outcome.steps } else { self.steps_min.min(outcome.steps) };
        self.virtual_s += outcome.virtual_s;
        self.faults += outcome.faults;
        self.refused += outcome.refused;
        self.coverage.add(&outcome.coverage);
        if !outcome.findings.is_empty() {
            self.failed.insert(outcome.options.seed, outcome);
        }
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{:<44} {:>9}", "rule or reaction", "seen")?;
        for (what, times) in self.coverage.rows() {
            writeln!(out, "{what:<44} {times:>9}")?;
        }
        writeln!(
            out,
            "\n{} seeds, {} steps (at least {} each), {} h of virtual time, {} messages lost or \
             delayed, {} appends refused by compare-and-set",
            self.seeds,
            self.steps,
            self.steps_min,
            self.virtual_s / 3600,
            self.faults,
            self.refused
        )?;
        for outcome in self.failed.values().take(SEEDS_SHOWN) {
            writeln!(out, "\nseed {} fails (`loadgen sim --seed {0}`):", outcome.options.seed)?;
            print_findings(out, outcome)?;
        }
        writeln!(out, "{} seeds failed", self.failed.len())
    }
}

fn print_findings(out: &mut dyn Write, outcome: &Outcome) -> io::Result<()> {
    for finding in outcome.findings.iter().take(FINDINGS_SHOWN) {
        writeln!(out, "  {}", finding.what)?;
    }
    let more = outcome.findings.len().saturating_sub(FINDINGS_SHOWN);
    if more > 0 { writeln!(out, "  … and {more} more") } else { Ok(()) }
}

/// Runs what is asked for and prints what came of it. `true`: nothing is wrong, and everything that
/// should have been seen was.
///
/// # Errors
/// When a simulation could not be set up, or nothing can be written.
pub fn print(args: &SimArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    if let Some(bugs) = &args.planted {
        #[cfg(feature = "planted")]
        return super::planted::print(args, bugs, out);
        #[cfg(not(feature = "planted"))]
        anyhow::bail!("no `{bugs}` here: build with `--features planted`");
    }
    if let Some(seed) = args.seed {
        return print_one(seed, args, out);
    }
    let report = Mutex::new(Report::default());
    each_seed(args, None, &|outcome| {
        report.lock().unwrap_or_else(PoisonError::into_inner).add(outcome);
        true
    })?;
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.print(out)?;
    if let Some(file) = &args.json {
        write_json(file, &report)?;
    }
    let missing = report.coverage.missing();
    if !missing.is_empty() {
        writeln!(out, "never seen: {}", missing.join("; "))?;
    }
    Ok(report.failed.is_empty() && missing.is_empty())
}

fn print_one(seed: u64, args: &SimArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let outcome = run(seed, args.steps, true)?;
    for line in &outcome.history {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "\n{}", serde_json::to_string_pretty(&outcome.options)?)?;
    writeln!(
        out,
        "seed {seed}: {} steps, {} s of virtual time, trace {}",
        outcome.steps, outcome.virtual_s, outcome.trace
    )?;
    print_findings(out, &outcome)?;
    if let Some(file) = &args.json {
        write_json(file, &outcome)?;
    }
    Ok(outcome.findings.is_empty())
}

/// Runs the seeds, one per core at a time, until `take` has had enough.
pub(super) fn each_seed(
    args: &SimArgs,
    bug: Option<Planted>,
    take: &(dyn Fn(Outcome) -> bool + Sync),
) -> anyhow::Result<()> {
    let cores = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = args.threads.unwrap_or_else(cores).max(1);
    let next = AtomicU64::new(args.first_seed);
    let end = args.first_seed.saturating_add(args.seeds);
    let (next, failed) = (&next, Mutex::new(None));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                plant(bug);
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    match run(seed, args.steps, false) {
                        Ok(outcome) => {
                            if !take(outcome) {
                                next.store(end, Ordering::Relaxed);
                            }
                        }
                        Err(err) => {
                            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(err);
                            return;
                        }
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(err) => Err(err),
        None => Ok(()),
    }
}

#[cfg(feature = "planted")]
use super::planted::plant;

/// Nothing can be planted in this build.
#[cfg(not(feature = "planted"))]
fn plant(_bug: Option<Planted>) {}
