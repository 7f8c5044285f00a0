//! Faults at volume: while the network drops, doubles, delays and resets at its rates, processes die
//! at failpoints and by chance, and one incident after the other takes place.

use std::time::Duration;

use common::stream;
use futures_util::future::join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng, seq::SliceRandom as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    deaths::{Deaths, Tries},
    incident::{Incident, Kind},
    pace::Pace,
    proxy::{Fault, Faults, Rates},
    record::Record,
    system::System,
};

/// Those that die, each at a pace of its own.
const SERVICES: [&str; 4] = ["trip", "driver", "rider", "location"];
/// Between two incidents.
const BETWEEN_INCIDENTS: std::ops::Range<Duration> =
    Duration::from_millis(200)..Duration::from_millis(1_500);
/// Messages that cannot be handled hold up their lane for so long until they are given up. What is put
/// into it later would outlast the storm, and its heal time would be the poison's own.
const POISON_ENDS_BEFORE: Duration = Duration::from_secs(60);

/// How hard it rages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Force {
    pub(super) weather: Weather,
    pub(super) lasts: Duration,
    /// Between two deaths of a service, once it has worked off what the last one left.
    pub(super) between_deaths: (Duration, Duration),
    /// How many more zombies there are in a round of incidents.
    pub(super) more_zombies: usize,
}

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
    /// For each POST of pings.
    pub(super) http_pings: f64,
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
/// Everything that an HTTP exchange may meet.
const EXCHANGES: [Fault; 5] = [
    Fault::RequestReset,
    Fault::AnswerReset,
    Fault::RequestDelayed,
    Fault::AnswerStalled,
    Fault::ConnectionRefused,
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
        let rates = |rate| Rates::each(&EXCHANGES, rate);
        Faults::new(rates(self.http)).of_stream(stream::PINGS, rates(self.http_pings))
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

/// Rages for its time or until told to end; incidents under way are brought to their end.
pub(super) async fn rage(
    system: &System,
    record: &Record,
    force: Force,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    force.weather.break_over(system);
    let over = stop.child_token();
    let ends = Instant::now() + force.lasts;
    let end = async {
        over.run_until_cancelled(tokio::time::sleep_until(ends)).await;
        over.cancel();
    };
    let mut dice = ChaCha8Rng::seed_from_u64(record.seed);
    let pace = Pace::new(system);
    let deaths = Deaths {
        system,
        record,
        pace: &pace,
        tries: Tries::default(),
        between: force.between_deaths,
    };
    let dying = join_all(SERVICES.map(|service| deaths.of(service, dice.random(), &over)));
    let (of_nodes, of_others): (Vec<Kind>, Vec<Kind>) =
        system.kinds().into_iter().partition(|kind| kind.is_of_node());
    let zombies = std::iter::repeat_n(Kind::ServicePaused, force.more_zombies);
    let of_nodes = of_nodes.into_iter().chain(zombies).collect();
    let incidents = Incidents { system, record, pace: &pace, ends };
    let (died, of_nodes, of_others, ()) = tokio::join!(
        dying,
        incidents.rounds(of_nodes, dice.random(), &over),
        incidents.rounds(of_others, dice.random(), &over),
        end,
    );
    calm(system);
    died.into_iter().chain([of_nodes, of_others]).collect()
}

struct Incidents<'a> {
    system: &'a System,
    record: &'a Record,
    pace: &'a Pace<'a>,
    /// When the storm is over.
    ends: Instant,
}

impl Incidents<'_> {
    /// One incident after the other: each kind once, in a new order every round. Messages that cannot
    /// be handled come first, because they take longest.
    async fn rounds(
        &self,
        mut kinds: Vec<Kind>,
        seed: u64,
        over: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        if kinds.is_empty() {
            return Ok(());
        }
        loop {
            kinds.shuffle(&mut dice);
            kinds.sort_by_key(|kind| !kind.is_message());
            for kind in &kinds {
                let pause = tokio::time::sleep(dice.random_range(BETWEEN_INCIDENTS));
                if over.run_until_cancelled(pause).await.is_none() {
                    return Ok(());
                }
                if kind.is_message() && Instant::now() + POISON_ENDS_BEFORE > self.ends {
                    continue;
                }
                let node = dice.random_range(0..self.system.nodes.len());
                self.happens(Incident { kind: *kind, node }, over).await?;
            }
        }
    }

    /// What has begun is brought to its end.
    async fn happens(&self, incident: Incident, over: &CancellationToken) -> anyhow::Result<()> {
        let target = self.system.nodes.get(incident.node).filter(|_| incident.kind.is_of_node());
        let turn = match target {
            Some(node) => {
                let waiting = self.pace.turn(node.replica.plan.service);
                let Some(turn) = over.run_until_cancelled(waiting).await else { return Ok(()) };
                Some(turn)
            }
            None => None,
        };
        incident.take_place(self.system, self.record).await?;
        drop(turn);
        Ok(())
    }
}
