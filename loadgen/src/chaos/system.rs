//! The whole system as processes: the broker, two replicas of every service that may have them, each
//! behind a proxy of its own on its way to the broker, and the gateways behind balancers. The payment
//! sandbox is here, because its faults are.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail};
use common::{
    auth::{AuthConfig, Issuer},
    clock::Clock,
    consumer::ConsumerConfig,
    nats::{Nats, NatsConfig},
    subject::Partitions,
};
use rand::RngExt as _;
use rider::store::Place;
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    broker::BrokerHost,
    disk::Disk,
    incident::Kind,
    proxy::{Balancer, Counts, Proxy},
    replica::{Replica, ReplicaPlan, Why},
};
use crate::{
    client::{Ask, HttpClient, Service},
    demo::settings::{auth, flag, fresh_secret, motion},
    payments::{self, Faults},
};

/// A system that is not ready after this will not be.
const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Below the range from which connections get their ports, so that a port stays free while its
/// service is down.
const PORTS: std::ops::Range<u16> = 18_000..31_000;
const PORT_TRIES_MAX: u32 = 1_000;
/// A hung message is given up within a minute.
const HANDLING_MAX_MS: u64 = 6_000;
/// What the broker may store, as far as services know: more than streams with a limit may take.
const STORE_MAX_BYTES: u64 = 32 << 30;
/// Cars are so much faster than life that what people are waited for has to be shorter, too, or no storm
/// would see the end of it. What the services wait for each other is as in life.
const TERMS_MS: [(&str, u32); 5] = [
    ("--match-deadline-ms", 60_000),
    ("--no-show-wait-ms", 20_000),
    ("--pickup-grace-ms", 30_000),
    ("--ride-grace-ms", 60_000),
    ("--free-cancellation-ms", 5_000),
];
/// Longer than a network that is cut off, shorter than a phone that is.
const SILENCE_MS: [(&str, u32); 2] = [("--stale-ms", 30_000), ("--idle-silence-ms", 60_000)];
/// How many replicas each service has.
const REPLICAS: [(&str, usize); 4] = [("location", 2), ("driver", 2), ("trip", 2), ("rider", 1)];

/// What to start.
#[derive(Debug, Clone)]
pub(super) struct SystemPlan {
    pub(super) dir: PathBuf,
    pub(super) seed: u64,
    /// How many times faster than life cars move.
    pub(super) time_scale: f64,
    /// What services log, as `RUST_LOG` has it.
    pub(super) log: String,
    /// The faults that it is to have; none for all.
    pub(super) only: Vec<Kind>,
}

/// A replica and its way to the broker.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) replica: Replica,
    pub(super) proxy: Proxy,
    pub(super) http: Service,
}

/// The running system.
#[derive(Debug)]
pub(super) struct System {
    pub(super) broker: BrokerHost,
    pub(super) nodes: Vec<Node>,
    pub(super) driver: Balancer,
    pub(super) rider: Balancer,
    pub(super) payments: Service,
    /// Of the audit's and the meter's own, past all proxies.
    pub(super) nats: Nats,
    disk: Disk,
    only: Vec<Kind>,
}

/// What keeps the system's processes running. Dropped without [`Supervisors::stop`], they are killed.
#[derive(Debug)]
pub(super) struct Supervisors {
    tasks: JoinSet<anyhow::Result<()>>,
    over: CancellationToken,
    broker_over: CancellationToken,
}

impl System {
    /// Starts everything and waits until it is ready.
    pub(super) async fn start(plan: &SystemPlan) -> anyhow::Result<(Self, Supervisors)> {
        let logs = plan.dir.join("logs");
        std::fs::create_dir_all(&logs)
            .with_context(|| format!("cannot make `{}`", logs.display()))?;
        let (over, broker_over) = (CancellationToken::new(), CancellationToken::new());
        let mut supervisors = JoinSet::new();
        let store = plan.dir.join("nats");
        let broker = BrokerHost::start(store, &mut supervisors, broker_over.clone()).await?;
        let config = NatsConfig {
            nats_url: broker.url.clone(),
            partitions: Partitions::default(),
            consuming: ConsumerConfig::default(),
        };
        let nats = Nats::connect(&config, "loadgen-chaos").await?;
        nats.prepare().await?;
        let payments = start_payments(&mut supervisors, over.clone()).await?;
        let disk = Disk::open(&plan.dir).await?;
        let settings = Settings::new(plan, &payments, &disk)?;
        let mut nodes = Vec::new();
        for (service, count) in REPLICAS {
            for number in 1..=count {
                let seed = plan.seed.wrapping_add(nodes.len() as u64);
                let proxy = Proxy::start(broker.address, seed).await?;
                let listen = free_port().await?;
                let plan = ReplicaPlan {
                    name: format!("{service}-{number}"),
                    service,
                    listen,
                    program: std::env::current_exe().context("where this program is")?,
                    arguments: settings.of(service, (number - 1, count), listen, &proxy.url()),
                    log: plan.log.clone(),
                    logs: logs.clone(),
                };
                let http = format!("http://{listen}").parse()?;
                let replica = Replica::start(plan, &mut supervisors, over.clone());
                nodes.push(Node { replica, proxy, http });
            }
        }
        let of = |service: &str| -> Vec<SocketAddr> {
            let nodes = nodes.iter().filter(|node| node.replica.plan.service == service);
            nodes.map(|node| node.replica.plan.listen).collect()
        };
        let ready = Some("/readyz");
        let system = Self {
            driver: Balancer::start(&of("driver"), ready, plan.seed).await?,
            rider: Balancer::start(&of("rider"), None, plan.seed).await?,
            nats,
            disk,
            only: plan.only.clone(),
            payments,
            broker,
            nodes,
        };
        system.wait_until_ready().await?;
        Ok((system, Supervisors { tasks: supervisors, over, broker_over }))
    }

    async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let http = HttpClient::new(1);
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let not_ready = self.not_ready(&http).await;
            if not_ready.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("not ready after {READY_WITHIN:?}: {}", not_ready.join(", "));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The replicas that do not say that they are ready.
    pub(super) async fn not_ready(&self, http: &HttpClient) -> Vec<String> {
        let looks = self.nodes.iter().map(async |node| {
            let answer = http.send(&node.http, &Ask::get("/readyz"), None).await;
            let is_ready = answer.is_ok_and(|answer| answer.is_success());
            (!is_ready).then(|| node.replica.plan.name.clone())
        });
        futures_util::future::join_all(looks).await.into_iter().flatten().collect()
    }

    /// The nodes of this service.
    pub(super) fn of(&self, service: &str) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.replica.plan.service == service)
    }

    /// Where the audit finds what the rider wrote.
    pub(super) fn rider_store(&self) -> Place {
        Place::File(self.disk.store())
    }

    /// The faults that this system can have.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let is_wanted = |kind: &Kind| self.only.is_empty() || self.only.contains(kind);
        Kind::ALL.into_iter().filter(is_wanted).collect()
    }

    /// Leaves no room under the outbox; `false` when nobody noticed.
    pub(super) async fn fill_disk(&self) -> anyhow::Result<bool> {
        self.disk.fill(self).await
    }

    /// Gives it back.
    pub(super) async fn free_disk(&self) -> anyhow::Result<()> {
        self.disk.free(self).await
    }

    /// All errors that the network was made to have.
    pub(super) fn network_errors(&self) -> Counts {
        let proxies = self.nodes.iter().map(|node| node.proxy.counts());
        proxies.chain([self.driver.counts(), self.rider.counts()]).sum()
    }

    /// How many appends the compare-and-set refused.
    pub(super) fn appends_refused(&self) -> u64 {
        self.nodes.iter().map(|node| node.proxy.appends_refused()).sum()
    }

    /// How often processes ended, by service and why.
    pub(super) fn ends(&self) -> BTreeMap<String, BTreeMap<Why, u64>> {
        let mut ends: BTreeMap<String, BTreeMap<Why, u64>> = BTreeMap::new();
        for node in &self.nodes {
            let of_service = ends.entry(node.replica.plan.service.to_owned()).or_default();
            for (why, count) in node.replica.ends() {
                *of_service.entry(why).or_default() += count;
            }
        }
        ends
    }

    /// How often each failpoint was hit.
    pub(super) fn failpoints(&self) -> BTreeMap<&'static str, u64> {
        let mut hit = BTreeMap::new();
        for node in &self.nodes {
            for (name, count) in node.replica.failpoints() {
                *hit.entry(name).or_default() += count;
            }
        }
        hit
    }

    /// How reliable the payment provider is from now on.
    pub(super) async fn set_payments(&self, faults: Faults) -> anyhow::Result<()> {
        let ask = Ask {
            method: hyper::Method::PUT,
            path: "/v1/faults".to_owned(),
            key: None,
            body: serde_json::to_vec(&faults)?.into(),
        };
        let answer = HttpClient::new(1).send(&self.payments, &ask, None).await?;
        anyhow::ensure!(answer.is_success(), "the payment sandbox answers {}", answer.status);
        Ok(())
    }
}

impl Supervisors {
    /// Waits for a supervisor that cannot go on, and says why.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Ok(()))) => anyhow::anyhow!("a supervisor ended by itself"),
            Some(Ok(Err(err))) => err,
            Some(Err(err)) => anyhow::Error::new(err).context("a supervisor died"),
            None => anyhow::anyhow!("nothing runs"),
        }
    }

    /// Stops everything in order, the broker last.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.over.cancel();
        // All but the broker's.
        while self.tasks.len() > 1 {
            if let Some(ended) = self.tasks.join_next().await {
                ended.context("a supervisor died")??;
            }
        }
        self.broker_over.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("the broker's supervisor died")??;
        }
        Ok(())
    }
}

/// Flags of the services.
struct Settings {
    keys: AuthConfig,
    fare_secret: String,
    rider_store: Place,
    payments: Service,
    time_scale: f64,
}

impl Settings {
    fn new(plan: &SystemPlan, payments: &Service, disk: &Disk) -> anyhow::Result<Self> {
        Ok(Self {
            keys: Issuer::generate(Clock::new())?.config(),
            fare_secret: fresh_secret(),
            rider_store: Place::File(disk.store()),
            payments: payments.clone(),
            time_scale: plan.time_scale,
        })
    }

    fn of(
        &self,
        service: &str,
        (replica, replicas): (usize, usize),
        listen: SocketAddr,
        nats_url: &str,
    ) -> Vec<String> {
        let mut flags = vec!["service".to_owned(), service.to_owned()];
        flags.extend(flag("--nats-url", nats_url));
        flags.extend(flag("--listen", &listen.to_string()));
        flags.extend(flag("--handling-max-ms", &HANDLING_MAX_MS.to_string()));
        flags.extend(flag("--replica", &replica.to_string()));
        flags.extend(flag("--replicas", &replicas.to_string()));
        if matches!(service, "driver" | "rider") {
            flags.extend(flag("--store-max-bytes", &STORE_MAX_BYTES.to_string()));
        }
        match service {
            "trip" => {
                flags.extend(auth(&self.keys));
                flags.extend(TERMS_MS.iter().flat_map(|(name, ms)| flag(name, &ms.to_string())));
            }
            "location" => {
                flags.extend(motion(self.time_scale, self.time_scale));
                flags.extend(SILENCE_MS.iter().flat_map(|(name, ms)| flag(name, &ms.to_string())));
            }
            "rider" => {
                flags.extend(auth(&self.keys));
                flags.extend(flag("--fare-secret", &self.fare_secret));
                flags.extend(flag("--store", &self.rider_store.to_string()));
                flags.extend(flag("--payments-url", &self.payments.to_string()));
            }
            _ => flags.extend(auth(&self.keys)),
        }
        flags
    }
}

async fn start_payments(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    over: CancellationToken,
) -> anyhow::Result<Service> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let service = format!("http://{}", listener.local_addr()?).parse()?;
    tasks.spawn(payments::serve(listener, Faults::default(), over));
    Ok(service)
}

async fn free_port() -> anyhow::Result<SocketAddr> {
    for _ in 0..PORT_TRIES_MAX {
        let port = rand::rng().random_range(PORTS);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).await.is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port on the loopback interface")
}
