//! The proof that the checks can fail: every planted bug must be found by the default seeds, without
//! the checks being told which one is on, and the clean build must pass the very same seeds.

use std::{
    io::Write,
    sync::{Mutex, PoisonError},
};

use common::planted::{self, Planted};
use serde::Serialize;

use super::{
    report::{SimArgs, each_seed},
    run::{Outcome, run},
};
use crate::report::write_json;

/// Which seed found a bug, and by what.
#[derive(Debug, Clone, Serialize)]
struct Found {
    bug: &'static str,
    seed: Option<u64>,
    finding: String,
}

/// Plants the bugs one after the other. `true`: each of them was found, and without them nothing.
///
/// # Errors
/// When there is no such bug, or a simulation could not be set up.
pub(super) fn print(args: &SimArgs, bugs: &str, out: &mut dyn Write) -> anyhow::Result<bool> {
    let bugs = match bugs {
        "all" => Planted::ALL.to_vec(),
        name => vec![name.parse()?],
    };
    let mut table = Vec::new();
    writeln!(out, "{:<30} {:>6}  found by", "planted bug", "seed")?;
    for bug in bugs {
        let found = first_to_find(args, bug)?;
        let seed = found.seed.map_or_else(|| "none".to_owned(), |seed| seed.to_string());
        writeln!(out, "{:<30} {seed:>6}  {}", found.bug, found.finding)?;
        out.flush()?;
        table.push(found);
    }
    // Whatever found a bug must have nothing to say without it.
    let seeds = table.iter().filter_map(|found| found.seed).max();
    let last = seeds.unwrap_or(args.first_seed);
    let clean = SimArgs { seeds: last + 1 - args.first_seed, ..args.clone() };
    let failed = Mutex::new(Vec::new());
    each_seed(&clean, None, &|outcome| {
        if !outcome.findings.is_empty() {
            failed.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        }
        true
    })?;
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    writeln!(out, "without a bug: {} of {} seeds fail", failed.len(), clean.seeds)?;
    for outcome in &failed {
        writeln!(out, "  seed {}: {}", outcome.options.seed, first(outcome))?;
    }
    if let Some(file) = &args.json {
        write_json(file, &table)?;
    }
    Ok(failed.is_empty() && table.iter().all(|found| found.seed.is_some()))
}

/// The lowest of the seeds that find it. Seeds that were begun before it was found are waited for.
fn first_to_find(args: &SimArgs, bug: Planted) -> anyhow::Result<Found> {
    let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
    each_seed(args, Some(bug), &|outcome| {
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        let seed = outcome.options.seed;
        let is_lower = found.as_ref().is_none_or(|(before, _)| seed < *before);
        if !outcome.findings.is_empty() && is_lower && is_clean_without(bug, seed, args.steps) {
            *found = Some((seed, first(&outcome)));
        }
        found.is_none()
    })?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (seed, finding) = found.unzip();
    let finding = finding.unwrap_or_else(|| "nothing".to_owned());
    Ok(Found { bug: bug.name(), seed, finding })
}

/// A seed that fails without the bug, too, has not found it.
fn is_clean_without(bug: Planted, seed: u64, steps: u64) -> bool {
    plant(None);
    let clean = run(seed, steps, false);
    plant(Some(bug));
    clean.is_ok_and(|outcome| outcome.findings.is_empty())
}

fn first(outcome: &Outcome) -> String {
    outcome.findings.first().map(|finding| finding.what.clone()).unwrap_or_default()
}

/// Plants a bug in what this thread runs from now on.
pub(super) fn plant(bug: Option<Planted>) {
    planted::plant(bug);
}
