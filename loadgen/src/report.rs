//! What a run has measured, for people (a table) and for programs (JSON). Nothing is measured here.

use std::{
    io::{self, Write},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer than this counts as this: ten minutes, in microseconds.
const LATENCY_MAX_US: u64 = 600_000_000;
/// Decimal digits that a histogram keeps.
const DIGITS: u8 = 3;

/// Latencies, from a microsecond to ten minutes, three digits each.
#[derive(Debug, Clone)]
pub struct Latencies(Option<Histogram<u64>>);

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    /// Nothing recorded yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LATENCY_MAX_US, DIGITS).ok())
    }

    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(micros(latency));
        }
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Self) {
        if let (Some(mine), Some(others)) = (&mut self.0, &other.0)
            && let Err(err) = mine.add(others)
        {
            tracing::warn!(%err, "latencies were left out of the report");
        }
    }

    /// The figures of a report.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        let Some(histogram) = &self.0 else { return LatencySummary::default() };
        let ms = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1e3;
        LatencySummary {
            count: histogram.len(),
            p50_ms: ms(histogram.value_at_quantile(0.5)),
            p90_ms: ms(histogram.value_at_quantile(0.9)),
            p99_ms: ms(histogram.value_at_quantile(0.99)),
            p999_ms: ms(histogram.value_at_quantile(0.999)),
            max_ms: ms(histogram.max()),
        }
    }
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// One latency, in a few numbers; all zero if nothing was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    /// How many were recorded.
    pub count: u64,
    /// Median.
    pub p50_ms: f64,
    /// Nine of ten are not longer.
    pub p90_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// 999 of 1000.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// A table with a title; the first column is left-aligned, the others right.
#[derive(Debug, Clone, Default)]
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table whose first row is its head.
    #[must_use]
    pub fn new(title: &str, head: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()],
        }
    }

    /// A table of latencies.
    #[must_use]
    pub fn latencies(title: &str) -> Self {
        Self::new(title, &["ms", "count", "p50", "p90", "p99", "p99.9", "max"])
    }

    /// Adds a row.
    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) -> &mut Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    /// Adds a row to a table of latencies.
    pub fn latency(&mut self, name: &str, summary: &LatencySummary) -> &mut Self {
        let figures =
            [summary.p50_ms, summary.p90_ms, summary.p99_ms, summary.p999_ms, summary.max_ms];
        let mut cells = vec![name.to_owned(), grouped(summary.count)];
        cells.extend(figures.iter().map(|ms| format!("{ms:.2}")));
        self.row(cells)
    }

    /// Writes the table, with a rule under its head and an empty line after it.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        writeln!(out, "{}", self.title)?;
        for (number, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            writeln!(out, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
            if number == 0 {
                let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                writeln!(out, "  {}", rules.join("  "))?;
            }
        }
        writeln!(out)
    }
}

impl Table {
    /// Writes the table as Markdown, with its title and an empty line after it.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn markdown(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "**{}**\n", self.title)?;
        for (number, row) in self.rows.iter().enumerate() {
            writeln!(out, "| {} |", row.join(" | "))?;
            if number == 0 {
                let rules = (0..row.len()).map(|column| if column == 0 { "---" } else { "---:" });
                writeln!(out, "| {} |", rules.collect::<Vec<_>>().join(" | "))?;
            }
        }
        writeln!(out)
    }
}

/// A number with its thousands apart: `200,000`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a report as JSON, readable.
///
/// # Errors
/// When it cannot be written.
pub fn write_json(path: &std::path::Path, report: &impl Serialize) -> anyhow::Result<()> {
    let mut file = io::BufWriter::new(std::fs::File::create(path)?);
    serde_json::to_writer_pretty(&mut file, report)?;
    writeln!(file)?;
    Ok(file.flush()?)
}

#[cfg(test)]
mod tests {
    use super::{Latencies, Table, grouped};
    use std::time::Duration;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            [0, 999, 1000, 200_000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "200,000", "1,234,567"]
        );
    }

    #[test]
    fn a_latency_beyond_the_range_counts_as_the_longest() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_millis(5));
        latencies.record(Duration::from_secs(100_000));
        let summary = latencies.summary();
        assert_eq!(summary.count, 2);
        assert!((5.0..5.1).contains(&summary.p50_ms), "{summary:?}");
        assert!(summary.max_ms >= 600_000.0, "{summary:?}");
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        assert!(Latencies::new().summary().max_ms.abs() < f64::EPSILON);
    }

    #[test]
    fn a_table_goes_into_a_document() {
        let mut text = Vec::new();
        Table::new("pings", &["what", "count"]).row(["sent", "1"]).markdown(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, "**pings**\n\n| what | count |\n| --- | ---: |\n| sent | 1 |\n\n");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new("pings", &["what", "count"]);
        table.row(["sent", "1,000"]).row(["rejected", "0"]);
        let mut text = Vec::new();
        table.print(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let wanted =
            "pings\n  what      count\n  --------  -----\n  sent      1,000\n  rejected      0\n\n";
        assert_eq!(text, wanted);
    }
}
