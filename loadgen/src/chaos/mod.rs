//! Failures injected on purpose, healed, and proven from the log: the whole system as real processes
//! under a city of phones. The phases are quiet, storm (errors and deaths at volume), trials (each
//! fault alone in calm weather, because under errors that never stop nothing can be called healed),
//! stop, and the audit of everything that was promised.

mod broker;
mod clock;
mod config;
mod deaths;
mod disk;
mod heal;
mod incident;
mod limits;
mod pace;
mod poison;
mod process;
pub mod proxy;
mod record;
mod replica;
mod report;
mod storm;
mod system;

pub use config::ChaosConfig;

use std::{future::Future, time::Duration};

use anyhow::Context as _;
use common::dead_letters::Letter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    config::Profile,
    heal::Meter,
    incident::Incident,
    record::{Heal, Record},
    report::Report,
    storm::Force,
    system::{System, SystemPlan},
};
use crate::{
    audit::{self, Examined, Marks, Services, Sources, examine},
    city::{City, CityConfig, CityReport, Progress},
    cli::streets,
    demo::RunDir,
    dlq::{Mended, mend},
};

/// Cars so fast that a ride takes seconds; the services' timers stay real.
const TIME_SCALE: f64 = 60.0;
const PING_EVERY_MS: u64 = 1_000;
/// How long rides under way may take to end once no more are wanted.
const DRAIN_S: u64 = 60;
/// How long the system may take to come to rest before the audit.
const SETTLE_WITHIN: Duration = Duration::from_secs(120);
/// How long something that must be done is tried, and how often.
const INSIST_FOR: Duration = Duration::from_secs(30);
const INSIST_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Runs it all. `false`: something was not as promised, or too little was tried.
///
/// # Errors
/// When the system cannot be started, or cannot go on.
pub async fn run(config: ChaosConfig, stop: CancellationToken) -> anyhow::Result<bool> {
    let profile = config.profile();
    let dir = RunDir::open(config.dir.as_deref())?;
    let plan = SystemPlan {
        dir: dir.path().to_owned(),
        seed: config.seed,
        time_scale: TIME_SCALE,
        log: config.service_log.clone(),
        only: config.only.clone(),
    };
    say(&format!("chaos, {} profile, seed {}: starting", profile.name, config.seed));
    let starting = Box::pin(System::start(&plan));
    let Some(started) = stop.run_until_cancelled(starting).await else {
        anyhow::bail!("stopped before everything was started");
    };
    let (system, mut supervisors) = started?;
    let run = Run { system, record: Record::new(config.seed), profile, config };
    let lived = {
        let life = Box::pin(run.live(&dir, stop));
        tokio::select! {
            lived = life => lived,
            err = supervisors.failed() => Err(err),
        }
    };
    let stopped = supervisors.stop().await;
    let concluded = lived.and_then(|(city, examined)| {
        let report = Report::new(&run.system, &run.record, &run.profile, &city, &examined);
        report.print()?;
        if let Some(file) = &run.config.json {
            crate::report::write_json(file, &report)?;
        }
        if let Some(file) = &run.config.markdown {
            report.write_markdown(file)?;
        }
        Ok(report.is_good())
    });
    if !matches!(concluded, Ok(true)) {
        say(&format!("streams, books, logs and journal are left in {}", dir.keep().display()));
    }
    let is_good = concluded?;
    stopped?;
    Ok(is_good)
}

/// Says something on standard error.
fn say(text: &str) {
    use std::io::Write as _;
    // Where standard error is gone nobody listens.
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Does what must be done, however often it takes: the broker may be away at the moment.
async fn insist<T, F, Fut>(what: &str, act: F) -> anyhow::Result<T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let deadline = Instant::now() + INSIST_FOR;
    loop {
        match act().await {
            Ok(done) => return Ok(done),
            Err(err) if Instant::now() > deadline => {
                return Err(err.context(format!("could not {what} within {INSIST_FOR:?}")));
            }
            Err(err) => tracing::debug!(error = format!("{err:#}"), "trying again to {what}"),
        }
        tokio::time::sleep(INSIST_EVERY).await;
    }
}

struct Run {
    system: System,
    record: Record,
    profile: Profile,
    config: ChaosConfig,
}

impl Run {
    /// Lets the city live through all phases, and audits what is left.
    async fn live(
        &self,
        dir: &RunDir,
        stop: CancellationToken,
    ) -> anyhow::Result<(CityReport, Examined)> {
        let since = insist("read where the log stands", || Marks::now(&self.system.nats)).await?;
        let journal = dir.path().join("city.journal.jsonl");
        let city = City::new(self.city(journal.clone())?, streets(TIME_SCALE)?)?;
        let (progress, home) = (city.progress(), CancellationToken::new());
        let story = async {
            let told = self.tell(&progress, &stop).await;
            home.cancel();
            told
        };
        let life = Box::pin(city.run(None, home.clone()));
        let (city, told) = tokio::join!(life, story);
        told?;
        let city = city.context("the city")?;
        // What is still being tried may yet be given up.
        let heal = Meter::new(&self.system).await?.measure(Instant::now()).await;
        say(&format!("the city has gone home: {heal}"));
        self.mend().await?;
        say("waiting until nothing is on its way, then auditing");
        let services = |name: &str| self.system.of(name).map(|node| node.http.clone()).collect();
        let sources = Sources {
            since,
            journals: vec![journal],
            is_whole_city: true,
            rider_store: Some(self.system.rider_store()),
            payments: Some(self.system.payments.clone()),
            asks_location: true,
            services: Services {
                driver: services("driver"),
                rider: services("rider"),
                trip: services("trip"),
            },
            poison: self.record.poison(),
        };
        let deadline = Instant::now() + SETTLE_WITHIN;
        let examined = examine(&self.system.nats, &sources, deadline).await?;
        Ok((city, examined))
    }

    fn city(&self, journal: std::path::PathBuf) -> anyhow::Result<CityConfig> {
        Ok(CityConfig {
            driver_url: self.system.driver.url().parse()?,
            rider_url: self.system.rider.url().parse()?,
            seed: self.config.seed,
            drivers: self.profile.cars,
            on_shift: self.profile.on_shift,
            ping_every_ms: PING_EVERY_MS,
            connections: self.profile.connections,
            rides_per_minute: self.profile.rides_per_minute,
            start_hour: 0.0,
            steady: true,
            time_scale: TIME_SCALE,
            duration_s: None,
            drain_s: DRAIN_S,
            journal,
        })
    }

    /// The phases, up to the moment when no more rides are wanted.
    async fn tell(&self, progress: &Progress, stop: &CancellationToken) -> anyhow::Result<()> {
        let over = CancellationToken::new();
        let phases = async {
            let told = self.phases(stop).await;
            over.cancel();
            told
        };
        let (told, ()) = tokio::join!(phases, self.follow(progress, over.clone()));
        told
    }

    async fn phases(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        let meter = Meter::new(&self.system).await?;
        say("quiet");
        if stop.run_until_cancelled(tokio::time::sleep(self.profile.quiet)).await.is_none() {
            return Ok(());
        }
        say("storm");
        let force = Force {
            weather: self.profile.weather,
            lasts: self.profile.storm,
            between_deaths: self.profile.between_deaths,
            more_zombies: self.profile.more_zombies,
        };
        Box::pin(storm::rage(&self.system, &self.record, force, stop)).await?;
        let heal = meter.measure(Instant::now()).await;
        say(&format!("the storm is over: {heal}"));
        self.record.calmed(heal);
        self.mend().await?;
        if !stop.is_cancelled() && self.profile.trials > 0 {
            say("trials, one fault at a time");
            self.trials(&meter, stop).await?;
        }
        Ok(())
    }

    /// What operations do after a storm: what was given up and is no poison goes back, and is handled.
    async fn mend(&self) -> anyhow::Result<()> {
        let poison = self.record.poison();
        let is_innocent = |letter: &Letter| {
            let is_it = |it: &audit::Poison| {
                (&it.stream, it.sequence) == (&letter.stream, letter.original_sequence)
            };
            !poison.iter().any(is_it)
        };
        let trip = self.system.of("trip").next().context("no trip service")?;
        let reason = "innocent: its process died, or nobody could be reached";
        let mending = || mend(&trip.http, reason, is_innocent);
        let mended = match insist("send dead letters back", mending).await {
            Ok(mended) => mended,
            // The audit finds what was not handled.
            Err(err) => {
                say(&format!("{err:#}"));
                return Ok(());
            }
        };
        if mended != Mended::default() {
            say(&format!("innocent messages given up: {mended:?}"));
        }
        self.record.mended(mended);
        Ok(())
    }

    /// Each fault alone, and how long the system takes to be whole again.
    async fn trials(&self, meter: &Meter<'_>, stop: &CancellationToken) -> anyhow::Result<()> {
        for trial in 0..self.profile.trials {
            for (turn, kind) in self.system.kinds().into_iter().enumerate() {
                if stop.is_cancelled() {
                    return Ok(());
                }
                let node = (turn + usize::try_from(trial)?) % self.system.nodes.len();
                let incident = Incident { kind, node };
                let mut ended = incident.take_place(&self.system, &self.record).await?;
                if kind.is_message() {
                    poison::buried(&self.system, &self.record).await?;
                    say(&format!(
                        "  {}: given up after {:.2} s",
                        kind.name(),
                        ended.elapsed().as_secs_f64()
                    ));
                    ended = Instant::now();
                }
                let heal = meter.measure(ended).await;
                let target = self.system.nodes.get(node).filter(|_| kind.is_of_node());
                let target = target.map_or("", |node| node.replica.plan.name.as_str());
                say(&format!("  {} {target}: {heal}", kind.name()));
                self.record.healed(kind, heal);
            }
        }
        Ok(())
    }

    /// The live line.
    async fn follow(&self, progress: &Progress, over: CancellationToken) {
        let started = Instant::now();
        let mut ticks = tokio::time::interval(LINE_EVERY);
        while over.run_until_cancelled(ticks.tick()).await.is_some() {
            let lived = started.elapsed().as_secs();
            let pulse = progress.pulse();
            let deaths: u64 = self.system.ends().values().flat_map(|ends| ends.values()).sum();
            say(&format!(
                "{:02}:{:02} | {} network errors | {deaths} processes ended | {} of {} failpoints \
                 | rides: {} requested, {} open, {} completed, {} given up",
                lived / 60,
                lived % 60,
                self.system.network_errors().total(),
                self.system.failpoints().len(),
                common::failpoint::ALL.len(),
                pulse.rides_requested.get(),
                pulse.rides_open.get(),
                pulse.completed.get(),
                pulse.given_up.get(),
            ));
        }
    }
}

impl std::fmt::Display for Heal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::After(time) => write!(f, "whole after {:.2} s", time.as_secs_f64()),
            Self::NotYet(missing) => write!(f, "NOT WHOLE: {missing}"),
        }
    }
}
