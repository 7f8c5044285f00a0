//! What a run has done and found: tables for people, the same as JSON, and what was not reached.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use common::failpoint;
use serde::Serialize;

use super::{
    config::Profile,
    incident::Kind,
    proxy::{Counts, Fault},
    record::{Heal, Record},
    replica::Why,
    system::System,
};
use crate::{
    audit::{Examined, Verdict},
    city::CityReport,
    demo::print_verdict,
    dlq::Mended,
    report::{Table, grouped},
};

/// Rows that a run need not go through: they need people at the console, more patience than a storm has,
/// or two messages that pass each other within a millisecond. The simulation goes through them
/// (`loadgen sim`), with time of its own.
const NEEDS_MORE_THAN_A_RUN: [&str; 11] = [
    "Offer: refused, offline",
    "driver ended the offer: the trip had before",
    "trip needs the driver no more: free before",
    "given back too often: cancelled",
    "operations unlock: pin unlocked",
    "operations Close: completed",
    "operations Close: cancelled",
    "ride watchdog: stalled",
    "Finish: finishing",
    "Rate by driver: rated",
    "GoOffline with an offer in hand: offline, the offer ends",
];

/// How a fault healed, over all its trials.
#[derive(Debug, Clone, Serialize)]
struct Healing {
    trials: usize,
    p50_ms: u64,
    max_ms: u64,
    /// What was still wrong when the meter gave up.
    not_healed: Vec<String>,
}

impl Healing {
    fn of(heals: &[Heal]) -> Self {
        let mut times: Vec<Duration> = Vec::new();
        let mut not_healed = Vec::new();
        for heal in heals {
            match heal {
                Heal::After(time) => times.push(*time),
                Heal::NotYet(missing) => not_healed.push(missing.clone()),
            }
        }
        times.sort();
        let ms = |time: Option<&Duration>| {
            time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        };
        let p50 = times.len().saturating_sub(1) / 2;
        Self {
            trials: heals.len(),
            p50_ms: ms(times.get(p50)),
            max_ms: ms(times.last()),
            not_healed,
        }
    }
}

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    profile: &'static str,
    seed: u64,
    storm_s: u64,
    network_errors: Counts,
    network_errors_total: u64,
    incidents: BTreeMap<&'static str, u64>,
    processes: BTreeMap<String, BTreeMap<Why, u64>>,
    broker_kills: u64,
    broker_restarts: u64,
    broker_crashes: u64,
    failpoints: BTreeMap<&'static str, u64>,
    zombies: u64,
    /// Appends that the compare-and-set refused.
    appends_refused: u64,
    poisoned: usize,
    /// Innocent messages that were given up, and what operations made of them.
    innocents: Mended,
    rides_requested: u64,
    rides_completed: u64,
    rides_given_up: u64,
    heal_after_storm: Option<Healing>,
    heals: BTreeMap<&'static str, Healing>,
    not_reached: Vec<String>,
    unsettled: Option<String>,
    verdict: &'a Verdict,
    city: &'a CityReport,
    #[serde(skip)]
    examined: &'a Examined,
}

impl<'a> Report<'a> {
    pub(super) fn new(
        system: &System,
        record: &Record,
        profile: &Profile,
        city: &'a CityReport,
        examined: &'a Examined,
    ) -> Self {
        let hit = system.failpoints();
        let failpoints = failpoint::ALL
            .iter()
            .map(|point| (point.name, hit.get(point.name).copied().unwrap_or(0)))
            .collect();
        let incidents = record.incidents();
        let network_errors = system.network_errors();
        let mut report = Self {
            profile: profile.name,
            seed: record.seed,
            storm_s: profile.storm.as_secs(),
            network_errors,
            network_errors_total: network_errors.total(),
            zombies: incidents.get(&Kind::ServicePaused).copied().unwrap_or(0),
            incidents: Kind::ALL
                .iter()
                .map(|kind| (kind.name(), incidents.get(kind).copied().unwrap_or(0)))
                .collect(),
            processes: system.ends(),
            broker_kills: system.broker.kills(),
            broker_restarts: system.broker.restarts(),
            broker_crashes: system.broker.crashes(),
            failpoints,
            appends_refused: system.appends_refused(),
            poisoned: record.poison().len(),
            innocents: record.mends(),
            rides_requested: city.counts.rides_requested,
            rides_completed: examined.verdict.tallies.completed,
            rides_given_up: city.counts.given_up,
            heal_after_storm: record.calm().map(|heal| Healing::of(&[heal])),
            heals: record
                .heals()
                .iter()
                .map(|(kind, heals)| (kind.name(), Healing::of(heals)))
                .collect(),
            not_reached: Vec::new(),
            unsettled: examined.unsettled.as_ref().map(ToString::to_string),
            verdict: &examined.verdict,
            city,
            examined,
        };
        report.not_reached = report.missing(profile);
        report
    }

    /// Whether everything held, and enough was tried.
    pub(super) fn is_good(&self) -> bool {
        self.verdict.violations.is_empty()
            && self.unsettled.is_none()
            && self.not_reached.is_empty()
            && self.broker_crashes == 0
            && self.heals.values().chain(&self.heal_after_storm).all(|it| it.not_healed.is_empty())
    }

    fn crashes(&self) -> u64 {
        let ends = self.processes.values().flatten();
        ends.filter(|(why, _)| why.is_crash()).map(|(_, count)| count).sum()
    }

    /// What the profile asks for and was not reached.
    fn missing(&self, profile: &Profile) -> Vec<String> {
        let bars = &profile.bars;
        let errors = |fault| self.network_errors.of(fault);
        let resets = errors(Fault::ConnectionReset)
            + errors(Fault::RequestReset)
            + errors(Fault::AnswerReset);
        let mut asked = vec![
            ("network errors", self.network_errors_total, bars.errors),
            ("dropped publishes", errors(Fault::PublishDropped), bars.errors_each),
            (
                "dropped acks",
                errors(Fault::AckDropped) + errors(Fault::PublishAckDropped),
                bars.errors_each,
            ),
            ("doubled deliveries", errors(Fault::DeliveryDoubled), bars.errors_each),
            ("deliveries beyond the ack wait", errors(Fault::DeliveryDelayed), bars.errors_each),
            ("connection resets", resets, bars.errors_each),
            ("process kills", self.crashes(), bars.crashes),
            ("zombies woken", self.zombies, bars.zombies),
            ("rides completed", self.rides_completed, bars.completed),
        ];
        asked.extend(self.failpoints.iter().map(|(name, hit)| (*name, *hit, bars.failpoint)));
        asked.extend(self.incidents.iter().map(|(name, count)| (*name, *count, bars.incident)));
        let rows = self.verdict.coverage.0.iter();
        let rows = rows.filter(|row| !NEEDS_MORE_THAN_A_RUN.contains(&row.row));
        asked.extend(rows.map(|row| (row.row, row.times, bars.reaction)));
        asked
            .into_iter()
            .filter(|(_, found, wanted)| found < wanted)
            .map(|(what, found, wanted)| format!("{what}: {found} of {wanted}"))
            .collect()
    }

    /// Prints it all.
    pub(super) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for table in self.city.counts.tables().iter().chain(&self.tables()) {
            table.print(&mut out)?;
        }
        print_verdict(&mut out, self.examined)?;
        for missing in &self.not_reached {
            writeln!(out, "NOT REACHED: {missing}")?;
        }
        Ok(())
    }

    /// Writes what was done and how it healed as Markdown, for a document.
    pub(super) fn write_markdown(&self, file: &Path) -> io::Result<()> {
        let mut out = io::BufWriter::new(std::fs::File::create(file)?);
        for table in self.tables() {
            table.markdown(&mut out)?;
        }
        let violations = grouped(self.verdict.violations.len().try_into().unwrap_or(u64::MAX));
        writeln!(out, "Violations: {violations}.")?;
        out.flush()
    }

    fn tables(&self) -> Vec<Table> {
        vec![
            self.errors(),
            self.processes(),
            counts("failpoints", &["place", "hit"], &self.failpoints),
            counts("faults", &["kind", "times"], &self.incidents),
            self.rows(),
            self.meanwhile(),
            self.healing(),
        ]
    }

    fn errors(&self) -> Table {
        let mut table = Table::new("errors of the network", &["kind", "count", "a minute"]);
        let each = self.network_errors.iter().map(|(fault, count)| (fault.name(), count));
        for (name, count) in each.chain([("all", self.network_errors_total)]) {
            let a_minute = count.saturating_mul(60) / self.storm_s.max(1);
            table.row([name.to_owned(), grouped(count), grouped(a_minute)]);
        }
        table
    }

    fn meanwhile(&self) -> Table {
        let mut table = Table::new("meanwhile", &["what", "count"]);
        for (what, count) in [
            ("rides requested", self.rides_requested),
            ("rides completed", self.rides_completed),
            ("phones that gave up", self.rides_given_up),
            ("process kills", self.crashes()),
            ("zombies woken", self.zombies),
            ("innocents given up and replayed", self.innocents.handled),
            ("innocents given up that cannot be sent back", self.innocents.unsendable),
            ("appends refused by compare-and-set", self.appends_refused),
        ] {
            table.row([what.to_owned(), grouped(count)]);
        }
        table
    }

    fn processes(&self) -> Table {
        let columns = [Why::Killed, Why::Failpoint, Why::Aborted, Why::Stopped, Why::GaveUp];
        let head = ["service", "kill -9", "at a failpoint", "by poison", "in order", "gave up"];
        let mut table = Table::new("processes that ended", &head);
        for (service, ends) in &self.processes {
            let cells = columns.iter().map(|why| grouped(ends.get(why).copied().unwrap_or(0)));
            table.row([service.clone()].into_iter().chain(cells));
        }
        let broker = [self.broker_kills, 0, 0, self.broker_restarts, self.broker_crashes];
        table.row(["broker".to_owned()].into_iter().chain(broker.map(grouped)));
        table
    }

    /// The rows of the rules' and the saga's tables.
    fn rows(&self) -> Table {
        let mut table = Table::new("rows of the tables", &["table", "row", "times"]);
        for row in &self.verdict.coverage.0 {
            let is_asked = !NEEDS_MORE_THAN_A_RUN.contains(&row.row);
            let times = match (row.times, is_asked) {
                (0, false) => "needs more than a run".to_owned(),
                (times, _) => grouped(times),
            };
            table.row([row.table.to_owned(), row.row.to_owned(), times]);
        }
        table
    }

    fn healing(&self) -> Table {
        let head = ["fault", "trials", "p50 ms", "max ms", "not healed"];
        let mut table = Table::new("healed, from the end of the fault", &head);
        let storm = self.heal_after_storm.iter().map(|healing| (&"the whole storm", healing));
        for (name, healing) in self.heals.iter().chain(storm) {
            table.row([
                (*name).to_owned(),
                healing.trials.to_string(),
                grouped(healing.p50_ms),
                grouped(healing.max_ms),
                healing.not_healed.join("; "),
            ]);
        }
        table
    }
}

fn counts(title: &str, head: &[&str], counts: &BTreeMap<&'static str, u64>) -> Table {
    let mut table = Table::new(title, head);
    for (name, count) in counts {
        table.row([(*name).to_owned(), grouped(*count)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{Heal, Healing};
    use std::time::Duration;

    #[test]
    fn the_median_is_a_trial_and_the_worst_is_shown() {
        let heals: Vec<Heal> =
            [300, 100, 900].map(|ms| Heal::After(Duration::from_millis(ms))).into();
        let healing = Healing::of(&heals);
        assert_eq!((healing.p50_ms, healing.max_ms, healing.trials), (300, 900, 3));
    }
}
