//! The pure ingest load: an open loop of pings over a few keep-alive connections, nothing else.

pub mod fleet;
mod probe;
mod schedule;
#[cfg(test)]
mod tests;
mod walker;

use std::{io::Write, path::PathBuf, sync::Arc, time::Duration};

use common::geo::Point;
use rand::{SeedableRng, rngs::ChaCha8Rng};
use serde::Serialize;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

pub use probe::{Probe, Probed};
pub use schedule::{Schedule, latency};
pub use walker::{Ping, Walker};

use crate::{
    city::{crowd, streets::Streets},
    client::{HttpClient, PhoneContext, Service},
    journal::{Journal, PingTotals},
    processes::{Meter, ProcessCost, Watched},
    pulse::{Pulse, RefusalCount},
    report::{LatencySummary, Table, grouped},
};

/// Tokens that are asked for at once, beside those that the lines ask for.
const ISSUING_MAX: usize = 8;

/// What load to put on the driver gateway.
#[derive(Debug, Clone, clap::Args)]
pub struct PingLoad {
    /// The driver gateway.
    #[arg(long, env = "DRIVER_URL", default_value = "http://127.0.0.1:7001")]
    pub driver_url: Service,
    /// Pings a minute, in all.
    #[arg(long, default_value_t = 200_000)]
    pub per_minute: u64,
    /// Points in a POST.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub batch: u32,
    /// Keep-alive connections that the drivers share.
    #[arg(long, default_value_t = 256)]
    pub connections: usize,
    /// Drivers.
    #[arg(long, default_value_t = 15_000)]
    pub drivers: u64,
    /// How long to send, in seconds; until stopped if left out.
    #[arg(long)]
    pub duration_s: Option<u64>,
    /// What the drivers' places are drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many times faster than life the cars move.
    #[arg(long, default_value_t = 1.0)]
    pub time_scale: f64,
    /// The broker, to measure how soon an accepted ping can be found; not measured if left out.
    #[arg(long, env = "NATS_URL")]
    pub nats_url: Option<String>,
    /// Processes whose CPU time and memory to report, as `name=pid`; itself always.
    #[arg(long = "watch")]
    pub watched: Vec<Watched>,
    /// Where the totals of the answers are written; among the temporary files if left out.
    #[arg(long)]
    pub journal: Option<PathBuf>,
}

/// What a load has measured.
#[derive(Debug, Clone, Serialize)]
pub struct PingReport {
    /// Pings a second that were asked for.
    pub asked_per_s: f64,
    /// Pings a second that were accepted.
    pub accepted_per_s: f64,
    /// Points in a POST.
    pub batch: u32,
    /// Connections.
    pub connections: usize,
    /// Drivers.
    pub drivers: u64,
    /// How long pings were sent.
    pub seconds: f64,
    /// How they were answered.
    pub totals: PingTotals,
    /// From the intended time of a POST to its answer.
    pub http: LatencySummary,
    /// From the 202 until a query finds the point.
    pub queryable: Option<LatencySummary>,
    /// Accepted points of the probe that no query found.
    pub lost: u64,
    /// What it cost.
    pub processes: Vec<ProcessCost>,
    /// Answers that were no success.
    pub refusals: Vec<RefusalCount>,
}

/// Puts the load on until it is over or `shutdown`.
///
/// # Errors
/// When the journal or the broker cannot be had.
pub async fn run(
    load: &PingLoad,
    streets: &Streets,
    shutdown: CancellationToken,
) -> anyhow::Result<PingReport> {
    let temporary =
        || std::env::temp_dir().join(format!("ride-pings-{}.journal.jsonl", std::process::id()));
    let (journal, writer) = Journal::create(&load.journal.clone().unwrap_or_else(temporary))?;
    let context = PhoneContext {
        http: HttpClient::new(ISSUING_MAX),
        journal: journal.clone(),
        pulse: Arc::new(Pulse::default()),
        issuing: Arc::new(Semaphore::new(ISSUING_MAX)),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(load.seed);
    let start = streets.draw_place(&mut rng);
    let over = shutdown.child_token();
    let watched: Vec<Watched> = load.watched.iter().cloned().chain([Watched::own()]).collect();
    let (started_tx, started_rx) = tokio::sync::oneshot::channel();
    let sending = send(load, streets, &context, over.clone(), move || {
        // Nobody waits any more when the load was stopped before it began.
        drop(started_tx.send((Instant::now(), Meter::start(&watched))));
    });
    let probing = probe(load, &context, start, over.clone());
    let ending = async {
        let started = started_rx.await.ok();
        match load.duration_s {
            Some(seconds) => {
                over.run_until_cancelled(tokio::time::sleep(Duration::from_secs(seconds))).await;
            }
            None => over.cancelled().await,
        }
        over.cancel();
        anyhow::Ok(started)
    };
    let (http, probed, started) = tokio::try_join!(sending, probing, ending)?;
    let seconds = started.as_ref().map_or(0.0, |(at, _)| at.elapsed().as_secs_f64());
    let totals = journal.pings().totals();
    let finished = tokio::task::spawn_blocking(move || writer.finish());
    finished.await??;
    #[expect(clippy::cast_precision_loss, reason = "rates, to be read")]
    let (asked_per_s, accepted) = (load.per_minute as f64 / 60.0, totals.accepted as f64);
    Ok(PingReport {
        asked_per_s,
        accepted_per_s: accepted / seconds.max(f64::MIN_POSITIVE),
        batch: load.batch,
        connections: load.connections,
        drivers: load.drivers,
        seconds,
        totals,
        http: http.summary(),
        queryable: probed.as_ref().map(|probed| probed.queryable.summary()),
        lost: probed.map_or(0, |probed| probed.lost),
        processes: started.map_or_else(Vec::new, |(_, meter)| meter.read()),
        refusals: context.pulse.snapshot(totals).refusals,
    })
}

async fn send(
    load: &PingLoad,
    streets: &Streets,
    context: &PhoneContext,
    shutdown: CancellationToken,
    started: impl FnOnce(),
) -> anyhow::Result<crate::report::Latencies> {
    let run = common::id::SessionId::fresh().0;
    let walkers = crowd::draw(streets, load.seed, run, 0..load.drivers);
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let pings_per_s = load.per_minute as f64 / 60.0;
    let pace = fleet::Pace {
        service: load.driver_url.clone(),
        pings_per_s,
        batch: load.batch,
        lines: load.connections,
        seed: load.seed,
        epoch: Instant::now(),
        when_late: fleet::WhenLate::Queue,
    };
    let ears = fleet::Ears {
        journal: context.journal.clone(),
        pulse: Arc::clone(&context.pulse),
        shutdown,
    };
    fleet::send(pace, walkers, ears, started).await
}

async fn probe(
    load: &PingLoad,
    context: &PhoneContext,
    start: Point,
    shutdown: CancellationToken,
) -> anyhow::Result<Option<Probed>> {
    let Some(url) = &load.nats_url else { return Ok(None) };
    let nats = async_nats::connect(url).await?;
    let probe = Probe::new(nats, load.driver_url.clone(), context.clone(), start);
    Ok(Some(probe.run(shutdown).await))
}

impl PingReport {
    /// Writes the report as tables.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut counts = Table::new("pings", &["what", "count"]);
        counts.row(["asked for, a second".to_owned(), format!("{:.0}", self.asked_per_s)]);
        counts.row(["accepted, a second".to_owned(), format!("{:.0}", self.accepted_per_s)]);
        counts.row(["seconds".to_owned(), format!("{:.1}", self.seconds)]);
        counts.row(["POSTs answered 202".to_owned(), grouped(self.totals.posts)]);
        counts.row(["accepted".to_owned(), grouped(self.totals.accepted)]);
        counts.row(["rejected".to_owned(), grouped(self.totals.rejected)]);
        counts.row(["unanswered".to_owned(), grouped(self.totals.unknown)]);
        counts.row(["not sent".to_owned(), grouped(self.totals.unsent)]);
        counts.print(out)?;
        let mut latencies = Table::latencies("latencies");
        latencies.latency("POST, from its intended time", &self.http);
        if let Some(queryable) = &self.queryable {
            latencies.latency("accepted to queryable", queryable);
        }
        latencies.print(out)?;
        processes(&self.processes).print(out)?;
        for refusal in &self.refusals {
            writeln!(
                out,
                "{} x {} {} {}",
                grouped(refusal.count),
                refusal.request,
                refusal.status,
                refusal.code
            )?;
        }
        Ok(())
    }
}

/// What processes cost, as a table.
#[must_use]
pub fn processes(costs: &[ProcessCost]) -> Table {
    let mut table = Table::new("processes", &["name", "CPU s", "cores", "memory MiB"]);
    for cost in costs {
        table.row([
            cost.name.clone(),
            format!("{:.2}", cost.cpu_s),
            format!("{:.2}", cost.cores),
            format!("{:.0}", cost.memory_mib),
        ]);
    }
    table
}
