//! The whole system in this process: a broker of its own, the payment sandbox and the four
//! services, each a task. What dies takes the deployment with it; what stops is drained.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use clap::Parser;
use common::{
    auth::{AuthConfig, Issuer},
    broker::{self, Broker, Environment, Fsync},
    clock::Clock,
    consumer::ConsumerConfig,
    nats::{Nats, NatsConfig},
    subject::Partitions,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    doors::Doors,
    settings::{auth, flag, fresh_secret, motion},
    tasks::Tasks,
};
use crate::{
    client::{Ask, HttpClient, Service},
    payments::{self, Faults},
};

/// A service that is not ready after this will not be.
const READY_WITHIN: Duration = Duration::from_secs(30);
const READY_LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long services may take to stop; after that the deployment ends without them.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// What failed a moment ago has ended by then.
const DEAD_WITHIN: Duration = Duration::from_millis(100);

/// What to deploy.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where stores and journals are.
    pub dir: PathBuf,
    /// Decides which broker it is.
    pub environment: Environment,
    /// The documented ports if they are free, or any.
    pub fixed_ports: bool,
    /// How many times faster than life cars move.
    pub speed_scale: f64,
    /// How many times faster than life a ping may move and still be believed.
    pub plausible_scale: f64,
    /// When the broker syncs.
    pub fsync: Fsync,
    /// More settings for single services, as flags.
    pub settings: Vec<(&'static str, Vec<String>)>,
}

impl Plan {
    /// Everything as documented, in this directory, with a broker of its own.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            environment: Environment { nats_url: None, ..Environment::of_process() },
            fixed_ports: false,
            speed_scale: 1.0,
            plausible_scale: 1.0,
            fsync: Fsync::BeforeAck,
            settings: Vec::new(),
        }
    }

    /// Time runs this many times faster for cars.
    #[must_use]
    pub fn time_scale(self, scale: f64) -> Self {
        Self { speed_scale: scale, plausible_scale: scale, ..self }
    }

    /// The rider service's store.
    #[must_use]
    pub fn rider_store(&self) -> PathBuf {
        self.dir.join("rider.db")
    }
}

/// Where everything listens.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// For drivers' phones.
    pub driver: Service,
    /// For riders' phones.
    pub rider: Service,
    /// Roads and health.
    pub location: Service,
    /// Operations.
    pub trip: Service,
    /// The payment sandbox.
    pub payments: Service,
    /// The broker.
    pub nats: String,
}

/// A running deployment. Dropped without [`Deployment::stop`], its tasks are aborted.
#[derive(Debug)]
pub struct Deployment {
    /// Where everything listens.
    pub addresses: Addresses,
    /// Where the rider service keeps its books.
    pub rider_store: PathBuf,
    broker: Option<Broker>,
    tasks: Tasks,
    shutdown: CancellationToken,
}

impl Deployment {
    /// Starts everything and waits until it is ready. `say` is told what a person should know.
    ///
    /// # Errors
    /// When something cannot be started.
    pub async fn start(plan: &Plan, say: &mut dyn FnMut(&str)) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&plan.dir)
            .with_context(|| format!("cannot make `{}`", plan.dir.display()))?;
        let acquired = broker::acquire(broker::Options {
            store: Some(plan.dir.join("nats")),
            fsync: plan.fsync,
            ..broker::Options::new(plan.environment.clone())
        })
        .await
        .context("no broker")?;
        let doors = Doors::open(plan.fixed_ports, say).await?;
        let addresses = doors.addresses(acquired.url)?;
        let mut deployment = Self {
            rider_store: plan.rider_store(),
            broker: acquired.child,
            tasks: Tasks::start()?,
            shutdown: CancellationToken::new(),
            addresses,
        };
        deployment.spawn_all(plan, doors)?;
        deployment.ready().await?;
        Ok(deployment)
    }

    fn spawn_all(&mut self, plan: &Plan, doors: Doors) -> anyhow::Result<()> {
        let issuer = Issuer::generate(Clock::new())?;
        let keys = issuer.config();
        let nats = ["--nats-url".to_owned(), self.addresses.nats.clone()];
        let flags = |name: &str, own: Vec<String>| -> Vec<String> {
            let more = plan.settings.iter().filter(|(of, _)| *of == name);
            nats.iter().cloned().chain(own).chain(more.flat_map(|(_, more)| more.clone())).collect()
        };
        let location: location::Config =
            parsed("location", flags("location", motion(plan.speed_scale, plan.plausible_scale)))?;
        let driver = flags("driver", [auth(&keys), self.room()].concat());
        let driver: driver::Config = parsed("driver", driver)?;
        let trip: trip::Config = parsed("trip", flags("trip", auth(&keys)))?;
        let rider: rider::Config = parsed("rider", flags("rider", self.money(plan, &keys)))?;

        let stop = || self.shutdown.clone();
        let tasks = &mut self.tasks;
        tasks.spawn("payments", payments::serve(doors.payments, Faults::default(), stop()));
        tasks.spawn("location", location::serve(location, doors.location, stop()));
        tasks.spawn("driver", driver::serve(driver, doors.driver, stop()));
        tasks.spawn("trip", trip::serve(trip, doors.trip, stop()));
        tasks.spawn("rider", rider::serve(rider, doors.rider, stop()));
        Ok(())
    }

    /// What the broker may store, where it is ours.
    fn room(&self) -> Vec<String> {
        let max = self.broker.as_ref().map(Broker::max_file_bytes);
        max.map(|max| flag("--store-max-bytes", &max.to_string()).into()).unwrap_or_default()
    }

    fn money(&self, plan: &Plan, keys: &AuthConfig) -> Vec<String> {
        let mut flags = [auth(keys), self.room()].concat();
        // Quotes hold for two minutes, so a secret of this run's own will do.
        let secret = fresh_secret();
        flags.extend(flag("--fare-secret", &secret));
        flags.extend(flag("--store", &plan.rider_store().to_string_lossy()));
        flags.extend(flag("--payments-url", &self.addresses.payments.to_string()));
        flags
    }

    /// Waits until every service says that it is ready.
    async fn ready(&mut self) -> anyhow::Result<()> {
        let http = HttpClient::new(1);
        let services = [
            &self.addresses.location,
            &self.addresses.driver,
            &self.addresses.trip,
            &self.addresses.rider,
        ]
        .map(Clone::clone);
        let all = async {
            for service in &services {
                ready(&http, service).await?;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            ready = all => ready,
            err = self.failed() => Err(err),
        }
    }

    /// Waits for a part that ends though nobody asked it to, and says which and why.
    pub async fn failed(&mut self) -> anyhow::Error {
        let broker = async {
            match &mut self.broker {
                Some(broker) => match broker.exited().await {
                    Ok(status) => anyhow!("the broker ended with {status}"),
                    Err(err) => anyhow!(err).context("the broker"),
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            err = broker => err,
            err = self.tasks.failed() => err,
        }
    }

    /// What died already, if anything did.
    pub async fn dead(&mut self) -> Option<anyhow::Error> {
        tokio::time::timeout(DEAD_WITHIN, self.failed()).await.ok()
    }

    /// A connection of the caller's own to the broker.
    ///
    /// # Errors
    /// When there is none.
    pub async fn connect(&self, name: &str) -> anyhow::Result<Nats> {
        connect(&self.addresses.nats, name).await
    }

    /// The broker's process, for what it costs.
    #[must_use]
    pub fn broker_pid(&self) -> Option<u32> {
        self.broker.as_ref().and_then(Broker::pid)
    }

    /// Drains and stops everything, the broker last.
    ///
    /// # Errors
    /// When a service fails while stopping.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        let drained = tokio::time::timeout(STOP_WITHIN, self.tasks.drained()).await;
        if let Some(broker) = self.broker.take() {
            broker.stop().await?;
        }
        drained.with_context(|| format!("services still run after {STOP_WITHIN:?}"))?
    }
}

/// A prepared connection with broker time.
///
/// # Errors
/// When the broker cannot be reached.
pub async fn connect(nats_url: &str, name: &str) -> anyhow::Result<Nats> {
    let config = NatsConfig {
        nats_url: nats_url.to_owned(),
        partitions: Partitions::default(),
        consuming: ConsumerConfig::default(),
    };
    let nats = Nats::connect(&config, name).await?;
    nats.read_clock().await?;
    Ok(nats)
}

fn parsed<C: Parser>(name: &'static str, flags: Vec<String>) -> anyhow::Result<C> {
    let line = std::iter::once(name.to_owned()).chain(flags).map(OsString::from);
    C::try_parse_from(line).with_context(|| format!("settings of `{name}`"))
}

async fn ready(http: &HttpClient, service: &Service) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let missing = match http.send(service, &Ask::get("/readyz"), None).await {
            Ok(answer) if answer.is_success() => return Ok(()),
            Ok(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
            Err(err) => err.to_string(),
        };
        if Instant::now() > deadline {
            bail!("{service} is not ready after {READY_WITHIN:?}: {missing}");
        }
        tokio::time::sleep(READY_LOOK_EVERY).await;
    }
}
