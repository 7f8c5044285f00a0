//! What an audit found, for people: the numbers first, so that an empty run cannot look good.

use std::io::{self, Write};

use crate::{
    audit::{Checked, Coverage, Examined, Tallies},
    report::{Table, grouped},
};

/// How many violations are printed; all of them are in the JSON report.
const VIOLATIONS_SHOWN_MAX: usize = 50;

/// Whether a run may pass: nothing wrong, nothing on its way, and enough rides to have tried.
#[must_use]
pub fn is_good(examined: &Examined, expect_completed: u64) -> bool {
    examined.verdict.violations.is_empty()
        && examined.unsettled.is_none()
        && examined.verdict.tallies.completed >= expect_completed
}

/// Prints an audit.
///
/// # Errors
/// When the writer fails.
pub fn print_verdict(out: &mut dyn Write, examined: &Examined) -> io::Result<()> {
    let verdict = &examined.verdict;
    table(&verdict.tallies).print(out)?;
    checks(&verdict.checks).print(out)?;
    if let Some(unsettled) = &examined.unsettled {
        writeln!(out, "not settled in time, so that the audit says little: {unsettled}")?;
    }
    for violation in verdict.violations.iter().take(VIOLATIONS_SHOWN_MAX) {
        writeln!(out, "VIOLATION: {violation}")?;
    }
    let more = verdict.violations.len().saturating_sub(VIOLATIONS_SHOWN_MAX);
    if more > 0 {
        writeln!(out, "and {more} more")?;
    }
    for timeline in verdict.timelines(&examined.log) {
        writeln!(out, "\n{timeline}")?;
    }
    let count = verdict.violations.len();
    writeln!(out, "{count} violations of what was promised")
}

/// Prints what a run went through, row by row of the rules' tables.
///
/// # Errors
/// When the writer fails.
pub fn print_coverage(out: &mut dyn Write, coverage: &Coverage) -> io::Result<()> {
    let mut table = Table::new("what the run went through", &["row", "table", "times"]);
    for row in &coverage.0 {
        table.row([row.row.to_owned(), row.table.to_owned(), grouped(row.times)]);
    }
    table.print(out)
}

/// A check that looked at nothing says so: it has not passed.
fn checks(checks: &[Checked]) -> Table {
    let mut table = Table::new("checks", &["check", "looked at", "violations"]);
    for Checked { check, looked_at, violations } in checks {
        let looked = if *looked_at == 0 { "nothing".to_owned() } else { grouped(*looked_at) };
        table.row([(*check).to_owned(), looked, grouped(*violations)]);
    }
    table
}

fn table(tallies: &Tallies) -> Table {
    let mut table = Table::new("audit, from the log", &["what", "count"]);
    for (what, count) in [
        ("events", tallies.events),
        ("trips", tallies.trips),
        ("completed", tallies.completed),
        ("cancelled", tallies.cancelled),
        ("unfulfilled", tallies.unfulfilled),
        ("going on", tallies.open),
        ("drivers", tallies.drivers),
        ("promises (2xx) compared", tallies.promises),
        ("charges at the provider", tallies.charges),
        ("pings accepted", tallies.pings_accepted),
        ("pings counted", tallies.pings_counted),
    ] {
        table.row([what.to_owned(), grouped(count)]);
    }
    table
}
