//! Faults at volume: while the network drops, doubles, delays and resets at its rates, processes die
//! at failpoints and by chance, and one incident after the other takes place.

use std::{collections::BTreeMap, time::Duration};

use common::{failpoint, stream};
use futures_util::future::join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng, seq::SliceRandom as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    incident::{Incident, Kind, arm},
    poison,
    proxy::{Fault, Faults, Rates},
    record::Record,
    replica::Armed,
    system::{Node, System},
};
use crate::client::HttpClient;

/// Services that take turns at dying. A few chains, so that there is always somebody left.
const DYING: [&[&str]; 3] = [&["trip", "location"], &["driver"], &["rider"]];

/// How often an armed place is passed before it is the one.
const TIMES_MAX: u32 = 6;
/// Places that are passed rarely.
const SELDOM: [&str; 4] =
    ["consumer.burying", "consumer.buried", "checkpoint.storing", "checkpoint.stored"];
/// How long an armed process may take to come by, and how long once its peer handed its work over.
const HIT_WITHIN: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(6)];
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Malformed messages, so that an armed process comes by where they are buried.
const MALFORMED: u32 = 6;
/// After a death all replicas of its service are waited for, so that somebody lives to do the work;
/// longer than this, they may die again.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Between two deaths, once they are ready, and between two incidents.
const BETWEEN_DEATHS: std::ops::Range<Duration> =
    Duration::from_millis(500)..Duration::from_millis(3_000);
const BETWEEN_INCIDENTS: std::ops::Range<Duration> =
    Duration::from_millis(200)..Duration::from_millis(1_500);
/// Incidents of nodes that come several times in a round.
const OFTEN: [Kind; 2] = [Kind::ServicePaused, Kind::ServicePaused];

/// How likely each error of the network is, for facts and for pings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// For all that carries facts.
    pub(super) facts: f64,
    /// For pings, which make the volume.
    pub(super) pings: f64,
    /// For each message that a view is given.
    pub(super) views: f64,
    /// For each HTTP exchange.
    pub(super) http: f64,
}

/// Everything that a connection to the broker may meet.
const FRAMES: [Fault; 10] = [
    Fault::PublishDropped,
    Fault::PublishDoubled,
    Fault::PublishDelayed,
    Fault::PublishAckDropped,
    Fault::AckDropped,
    Fault::DeliveryDropped,
    Fault::DeliveryDoubled,
    Fault::DeliveryDelayed,
    Fault::RequestDropped,
    Fault::AnswerDropped,
];
/// A reset takes all that is on its way with it.
const RESETS_SHARE: f64 = 0.02;

impl Weather {
    fn on_broker(self) -> Faults {
        let rates = |rate: f64| {
            Rates::each(&FRAMES, rate)
                .with(Fault::ConnectionReset, rate * RESETS_SHARE)
                .with(Fault::ConnectionStalled, rate * RESETS_SHARE)
        };
        // What has no consumer of its own reads a stream in order and begins anew at every gap.
        let views = rates(self.facts)
            .with(Fault::DeliveryDropped, self.views)
            .with(Fault::DeliveryDoubled, self.views)
            .with(Fault::DeliveryDelayed, self.views);
        let mut faults = Faults::new(views);
        for spec in stream::CONSUMERS {
            let rate = if spec.stream == stream::PINGS { self.pings } else { self.facts };
            faults = faults.of_stream(&format!("{}.{}", spec.stream, spec.name), rates(rate));
        }
        let pings = rates(self.pings)
            .with(Fault::DeliveryDropped, self.views)
            .with(Fault::DeliveryDoubled, self.views)
            .with(Fault::DeliveryDelayed, self.views);
        faults.of_stream(stream::PINGS, pings)
    }

    fn on_http(self) -> Faults {
        Faults::new(Rates::each(
            &[
                Fault::RequestReset,
                Fault::AnswerReset,
                Fault::RequestDelayed,
                Fault::AnswerStalled,
                Fault::ConnectionRefused,
            ],
            self.http,
        ))
    }

    /// It begins.
    pub(super) fn break_over(self, system: &System) {
        for node in &system.nodes {
            node.proxy.set(self.on_broker());
        }
        system.driver.set(self.on_http());
        system.rider.set(self.on_http());
    }
}

/// Nothing fails any more.
pub(super) fn calm(system: &System) {
    for node in &system.nodes {
        node.proxy.calm();
    }
    system.driver.calm();
    system.rider.calm();
}

/// Rages until told to end; incidents under way are brought to their end.
pub(super) async fn rage(
    system: &System,
    record: &Record,
    weather: Weather,
    over: &CancellationToken,
) -> anyhow::Result<()> {
    weather.break_over(system);
    let mut dice = ChaCha8Rng::seed_from_u64(record.seed);
    let deaths = DYING.map(|services| (services, ChaCha8Rng::seed_from_u64(dice.random())));
    let (of_nodes, of_others): (Vec<Kind>, Vec<Kind>) =
        system.kinds().into_iter().partition(|kind| kind.is_of_node());
    let of_nodes = of_nodes.into_iter().chain(OFTEN).collect();
    let (first, second) = (dice.random(), dice.random());
    let dying = join_all(
        deaths.into_iter().map(|(services, dice)| die(system, record, services, dice, over)),
    );
    let (died, of_nodes, of_others) = tokio::join!(
        dying,
        incidents(system, record, of_nodes, first, over),
        incidents(system, record, of_others, second, over),
    );
    calm(system);
    died.into_iter().chain([of_nodes, of_others]).collect()
}

/// One incident after the other: each kind once, in a new order every round.
async fn incidents(
    system: &System,
    record: &Record,
    mut kinds: Vec<Kind>,
    seed: u64,
    over: &CancellationToken,
) -> anyhow::Result<()> {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    loop {
        kinds.shuffle(&mut dice);
        for kind in &kinds {
            let pause = tokio::time::sleep(dice.random_range(BETWEEN_INCIDENTS));
            if over.run_until_cancelled(pause).await.is_none() {
                return Ok(());
            }
            let incident = Incident { kind: *kind, node: dice.random_range(0..system.nodes.len()) };
            incident.take_place(system, record).await?;
        }
    }
}

/// Lets the processes of services die, one after the other, at the failpoint that was hit least so
/// far.
async fn die(
    system: &System,
    record: &Record,
    services: &[&str],
    mut dice: ChaCha8Rng,
    over: &CancellationToken,
) -> anyhow::Result<()> {
    let http = HttpClient::new(1);
    let own = || {
        failpoint::ALL.iter().flat_map(|point| {
            let of_these = point.services.iter().filter(|service| services.contains(service));
            of_these.map(move |service| (point.name, *service))
        })
    };
    let mut tries: BTreeMap<&str, u64> = BTreeMap::new();
    loop {
        let pause = tokio::time::sleep(dice.random_range(BETWEEN_DEATHS));
        if over.run_until_cancelled(pause).await.is_none() {
            return Ok(());
        }
        let hit = system.failpoints();
        let wanted = |(name, _): &(&'static str, &'static str)| {
            let tried = tries.get(name).copied().unwrap_or(0);
            (hit.get(name).copied().unwrap_or(0).max(tried / 2), tried)
        };
        let mut points: Vec<_> = own().collect();
        points.shuffle(&mut dice);
        let Some((name, service)) = points.into_iter().min_by_key(wanted) else { return Ok(()) };
        *tries.entry(name).or_default() += 1;
        let mut nodes: Vec<&Node> = system.of(service).collect();
        let turn = dice.random_range(0..nodes.len());
        let node = nodes.swap_remove(turn);
        let times = if SELDOM.contains(&name) { 1 } else { dice.random_range(1..=TIMES_MAX) };
        let dying = async {
            die_at(system, record, node, nodes, Armed { name, times }).await?;
            wait_until_ready(system, service, &http).await;
            anyhow::Ok(())
        };
        if let Some(died) = over.run_until_cancelled(dying).await {
            died?;
        }
    }
}

async fn wait_until_ready(system: &System, service: &str, http: &HttpClient) {
    let asked = Instant::now();
    let is_of_it = |name: &String| name.starts_with(service);
    while system.not_ready(http).await.iter().any(is_of_it) && asked.elapsed() < READY_WITHIN {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn die_at(
    system: &System,
    record: &Record,
    node: &Node,
    peers: Vec<&Node>,
    armed: Armed,
) -> anyhow::Result<()> {
    let name = armed.name;
    let hits = || node.replica.failpoints().get(name).copied().unwrap_or(0);
    let (before, life) = (hits(), node.replica.life());
    arm(node, armed).await;
    record.happened(Kind::ServiceKilled);
    node.replica.reborn(life).await;
    for (number, patience) in HIT_WITHIN.into_iter().enumerate() {
        // Whoever works on what leads there hands it over.
        for peer in peers.iter().filter(|_| number > 0) {
            peer.replica.restart().await;
            record.happened(Kind::ServiceRestarted);
        }
        let asked = Instant::now();
        if matches!(name, "consumer.burying" | "consumer.buried") {
            poison::publish_to(system, record, node.replica.plan.service, MALFORMED).await?;
        }
        while asked.elapsed() < patience {
            if hits() > before {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    tracing::debug!(failpoint = name, node = node.replica.plan.name, "nobody came by");
    Ok(())
}
