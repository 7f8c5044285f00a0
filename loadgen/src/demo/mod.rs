//! The demo: the whole system and a city in one process, and an audit at the end. Also the same
//! city against services that run elsewhere.

mod config;
mod deployment;
mod doors;
mod progress;
mod room;
mod run_dir;
pub(crate) mod settings;
mod tasks;
mod verdict;
mod watch;

pub use config::{CityAudit, DemoConfig};
pub use deployment::{Addresses, Deployment, Plan, connect};
pub use run_dir::RunDir;
pub use verdict::{is_good, print_coverage, print_verdict};

use std::{io, path::Path, time::Duration};

use anyhow::Context as _;
use common::{broker::Environment, nats::Nats};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{progress::Voice, tasks::SERVICE_THREADS, watch::Watch};
use crate::{
    audit::{Examined, Marks, Sources, Verdict, examine},
    city::{City, CityConfig, CityReport},
    cli::streets,
    client::Service,
    processes::{Meter, ProcessCost, Watched, threads_cpu_s},
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
pub async fn run(mut config: DemoConfig, stop: CancellationToken) -> anyhow::Result<bool> {
    let voice = Voice::new();
    let dir = RunDir::open(config.dir.as_deref())?;
    let plan = Plan {
        environment: Environment::of_process(),
        fixed_ports: true,
        ..Plan::new(dir.path()).time_scale(config.time_scale)
    };
    voice.say("starting the broker and the services");
    let mut say = |text: &str| voice.say(text);
    room::fit(&mut config, &mut say);
    let starting = Box::pin(Deployment::start(&plan, &mut say));
    let Some(started) = stop.run_until_cancelled(starting).await else {
        anyhow::bail!("stopped before everything was started");
    };
    let mut deployment = started?;
    introduce(&voice, &deployment.addresses, dir.path());
    let lived = {
        let nats = deployment.connect("loadgen").await?;
        let cost = Cost::start(&deployment);
        let city = config.city(&deployment.addresses, dir.path().join("city.journal.jsonl"));
        let since = Marks::now(&nats).await?;
        let mut sources = Sources::of_deployment(
            since,
            &city.journal,
            &deployment.rider_store,
            &deployment.addresses,
        );
        if !config.has_phones() {
            // Whoever is at the gateways instead keeps no journal of what they were promised.
            sources.journals.clear();
            voice.say("no phones of its own: the audit will compare log, ledger and provider");
        }
        let operations = deployment.addresses.trip.clone();
        let life = Box::pin(live(city, Some(&nats), Some(&operations), &voice, stop));
        tokio::select! {
            lived = life => {
                let report = lived?;
                let processes = cost.read();
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
    conclude(&report, &processes, Some(&examined), config.json.as_deref())?;
    say_if_few(&voice, examined.verdict.tallies.completed, config.expect_completed);
    stopped?;
    let is_good = is_good(&examined, config.expect_completed);
    if !is_good {
        voice.say(&format!("streams, books and journal are left in {}", dir.keep().display()));
    }
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
        let report = live(city, None, None, &voice, stop).await?;
        conclude(&report, &[], None, audit.json.as_deref())?;
        let completed = report.counts.completed;
        say_if_few(&voice, completed, audit.expect_completed);
        return Ok(completed >= audit.expect_completed);
    };
    let nats = connect(nats_url, "loadgen").await?;
    let sources = Sources {
        since: Marks::now(&nats).await?,
        journals: vec![journal],
        rider_store: audit.rider_store.clone(),
        payments: audit.payments_url.clone(),
        ..Sources::default()
    };
    let report = live(city, Some(&nats), None, &voice, stop).await?;
    voice.say("waiting until nothing is on its way, then auditing");
    let examined = examine(&nats, &sources, Instant::now() + SETTLE_WITHIN).await?;
    conclude(&report, &[], Some(&examined), audit.json.as_deref())?;
    say_if_few(&voice, examined.verdict.tallies.completed, audit.expect_completed);
    Ok(is_good(&examined, audit.expect_completed))
}

/// Lets a city live, and says how it does.
async fn live(
    config: CityConfig,
    nats: Option<&Nats>,
    operations: Option<&Service>,
    voice: &Voice,
    stop: CancellationToken,
) -> anyhow::Result<CityReport> {
    let city = City::new(config.clone(), streets(config.time_scale)?)?;
    let (progress, watch, over) = (city.progress(), Watch::default(), CancellationToken::new());
    let life = async {
        let report = Box::pin(city.run(nats.map(|nats| nats.client.clone()), stop.clone())).await;
        over.cancel();
        report
    };
    let watching = async {
        if let Some(operations) = operations {
            watch.run(operations, over.clone()).await;
        }
    };
    let farewell = async {
        if over.run_until_cancelled(stop.cancelled()).await.is_some() {
            voice.say("no more rides are wanted; those under way may end (Ctrl-C again aborts)");
        }
    };
    let following = voice.follow(&progress, &watch, over.clone());
    let (report, (), (), ()) = tokio::join!(life, watching, farewell, following);
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
    voice.say(&format!("streams in  {}", dir.display()));
}

/// What the run costs: the broker is a process, services and city are threads of this one.
struct Cost {
    meter: Meter,
    services_cpu_s: f64,
}

impl Cost {
    fn start(deployment: &Deployment) -> Self {
        let broker = deployment.broker_pid();
        let broker = broker.map(|pid| Watched { name: "nats-server".to_owned(), pid });
        let watched: Vec<Watched> = broker.into_iter().chain([Watched::own()]).collect();
        let services_cpu_s = threads_cpu_s(SERVICE_THREADS);
        Self { meter: Meter::start(&watched), services_cpu_s }
    }

    fn read(&self) -> Vec<ProcessCost> {
        let services_cpu_s = threads_cpu_s(SERVICE_THREADS) - self.services_cpu_s;
        let mut costs = self.meter.read();
        if let Some(own) = costs.last_mut() {
            let seconds = own.cpu_s / own.cores.max(f64::MIN_POSITIVE);
            let services = ProcessCost {
                name: "services (threads)".to_owned(),
                cpu_s: services_cpu_s,
                cores: services_cpu_s / seconds.max(f64::MIN_POSITIVE),
                memory_mib: own.memory_mib,
            };
            "services and city".clone_into(&mut own.name);
            costs.push(services);
        }
        costs
    }
}

/// Prints and writes the report.
fn conclude(
    report: &CityReport,
    processes: &[ProcessCost],
    examined: Option<&Examined>,
    json: Option<&Path>,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for table in report.counts.tables() {
        table.print(&mut out)?;
    }
    if !processes.is_empty() {
        crate::pings::processes(processes).print(&mut out)?;
    }
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
    Ok(())
}

fn say_if_few(voice: &Voice, completed: u64, expected: u64) {
    if completed < expected {
        voice.say(&format!("only {completed} rides were completed, {expected} were expected"));
    }
}
