//! The demo: the whole system and a city in one process, and an audit at the end. Also the same
//! city against services that run elsewhere.

mod config;
mod deployment;
mod progress;
mod verdict;

pub use config::{CityAudit, DemoConfig};
pub use deployment::{Addresses, Deployment, Plan, RunDir, connect};
pub use verdict::{is_good, print_verdict};

use std::{io, path::Path, time::Duration};

use anyhow::Context as _;
use common::nats::Nats;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::progress::Voice;
use crate::{
    audit::{Examined, Marks, Sources, Verdict, examine},
    city::{City, CityConfig, CityReport},
    cli::streets,
    processes::{Meter, ProcessCost, Watched},
    report::write_json,
};

/// How long the system may take to come to rest before the audit.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(60);

/// What a run leaves behind.
#[derive(Debug, Serialize)]
struct Report<'a> {
    city: &'a CityReport,
    processes: &'a [ProcessCost],
    audit: Option<&'a Verdict>,
    /// What was still on its way at the audit.
    unsettled: Option<String>,
}

/// Runs the demo until its time is over or `stop`. `false`: something was not as promised.
///
/// # Errors
/// When the system cannot be started, or a part of it dies.
pub async fn run(config: DemoConfig, stop: CancellationToken) -> anyhow::Result<bool> {
    let voice = Voice::new();
    let dir = RunDir::open(config.dir.as_deref())?;
    let plan = Plan { fixed_ports: true, ..Plan::new(dir.path()).time_scale(config.time_scale) };
    voice.say("starting the broker and the services");
    let mut say = |text: &str| voice.say(text);
    let starting = Box::pin(Deployment::start(&plan, &mut say));
    let Some(started) = stop.run_until_cancelled(starting).await else {
        anyhow::bail!("stopped before everything was started");
    };
    let mut deployment = started?;
    introduce(&voice, &deployment.addresses, dir.path());
    let lived = {
        let nats = deployment.connect("loadgen").await?;
        let meter = Meter::start(&watched(&deployment));
        let city = config.city(&deployment.addresses, dir.path().join("city.journal.jsonl"));
        let since = Marks::now(&nats).await?;
        let sources = Sources::of_deployment(
            since,
            &city.journal,
            &deployment.rider_store,
            &deployment.addresses.payments,
        );
        let life = Box::pin(live(city, &nats, &voice, stop));
        tokio::select! {
            lived = life => {
                let report = lived?;
                let processes = meter.read();
                voice.say("waiting until nothing is on its way, then auditing");
                let auditing = Box::pin(examine(&nats, &sources, Instant::now() + SETTLE_WITHIN));
                tokio::select! {
                    examined = auditing => Ok((report, processes, examined?)),
                    err = deployment.failed() => Err(err),
                }
            }
            err = deployment.failed() => Err(err),
        }
    };
    let stopped = deployment.stop().await;
    let (report, processes, examined) = lived?;
    let is_good = conclude(&report, &processes, Some(&examined), config.json.as_deref())?
        && is_good(&examined, config.expect_completed);
    say_why_not(&voice, &examined, config.expect_completed);
    stopped?;
    Ok(is_good)
}

/// Runs a city against services that run already, and audits it where the broker is known.
///
/// # Errors
/// When the services cannot be reached.
pub async fn run_city(
    city: CityConfig,
    audit: CityAudit,
    stop: CancellationToken,
) -> anyhow::Result<bool> {
    let voice = Voice::new();
    let journal = city.journal.clone();
    let Some(nats_url) = &audit.nats_url else {
        let (city, progress) = prepared(city)?;
        let report = lived(city, None, &progress, &voice, stop).await?;
        return conclude(&report, &[], None, audit.json.as_deref());
    };
    let nats = connect(nats_url, "loadgen").await?;
    let sources = Sources {
        since: Marks::now(&nats).await?,
        journal: Some(journal),
        rider_store: audit.rider_store.clone(),
        payments: audit.payments_url.clone(),
    };
    let report = live(city, &nats, &voice, stop).await?;
    voice.say("waiting until nothing is on its way, then auditing");
    let examined = examine(&nats, &sources, Instant::now() + SETTLE_WITHIN).await?;
    conclude(&report, &[], Some(&examined), audit.json.as_deref())?;
    say_why_not(&voice, &examined, audit.expect_completed);
    Ok(is_good(&examined, audit.expect_completed))
}

async fn live(
    config: CityConfig,
    nats: &Nats,
    voice: &Voice,
    stop: CancellationToken,
) -> anyhow::Result<CityReport> {
    let (city, progress) = prepared(config)?;
    lived(city, Some(nats.client.clone()), &progress, voice, stop).await
}

fn prepared(config: CityConfig) -> anyhow::Result<(City, crate::city::Progress)> {
    let streets = streets(config.time_scale)?;
    let city = City::new(config, streets)?;
    let progress = city.progress();
    Ok((city, progress))
}

async fn lived(
    city: City,
    nats: Option<async_nats::Client>,
    progress: &crate::city::Progress,
    voice: &Voice,
    stop: CancellationToken,
) -> anyhow::Result<CityReport> {
    let over = CancellationToken::new();
    let life = async {
        let report = Box::pin(city.run(nats, stop.clone())).await;
        over.cancel();
        report
    };
    let farewell = async {
        tokio::select! {
            () = stop.cancelled() => {
                voice.say("no more rides are wanted; those under way may end (Ctrl-C again aborts)");
            }
            () = over.cancelled() => {}
        }
    };
    let (report, (), ()) = tokio::join!(life, voice.follow(progress, over.clone()), farewell);
    report.context("the city")
}

fn introduce(voice: &Voice, addresses: &Addresses, dir: &Path) {
    voice.say(&format!("broker      {}", addresses.nats));
    for (name, service) in [
        ("driver", &addresses.driver),
        ("rider", &addresses.rider),
        ("location", &addresses.location),
        ("trip", &addresses.trip),
    ] {
        voice.say(&format!("{name:<11} {service} (API: {service}/docs)"));
    }
    voice.say(&format!("payments    {}", addresses.payments));
    voice.say(&format!("kept in     {}", dir.display()));
}

fn watched(deployment: &Deployment) -> Vec<Watched> {
    let broker = deployment.broker_pid();
    let broker = broker.map(|pid| Watched { name: "nats-server".to_owned(), pid });
    let own = Watched { name: "services and city".to_owned(), ..Watched::own() };
    broker.into_iter().chain([own]).collect()
}

/// Prints and writes the report. `false`: phones met what no script reckoned with.
fn conclude(
    report: &CityReport,
    processes: &[ProcessCost],
    examined: Option<&Examined>,
    json: Option<&Path>,
) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    for table in report.counts.tables() {
        table.print(&mut out)?;
    }
    crate::pings::processes(processes).print(&mut out)?;
    if let Some(examined) = examined {
        print_verdict(&mut out, examined)?;
    }
    if let Some(file) = json {
        let unsettled = examined.and_then(|examined| examined.unsettled.as_ref());
        let audit = examined.map(|examined| &examined.verdict);
        let unsettled = unsettled.map(ToString::to_string);
        write_json(file, &Report { city: report, processes, audit, unsettled })
            .with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    Ok(true)
}

fn say_why_not(voice: &Voice, examined: &Examined, expected: u64) {
    let completed = examined.verdict.tallies.completed;
    if completed < expected {
        voice.say(&format!("only {completed} rides were completed, {expected} were expected"));
    }
}
