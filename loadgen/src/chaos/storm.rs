//! Faults at volume: while the network drops, doubles, delays and resets at its rates, processes die
//! at failpoints and by chance, and one incident after the other takes place.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

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
/// Incidents of nodes at the same time, most of which wait for their turn: one alone would be passed
/// over by all that die.
const NODE_INCIDENTS: usize = 3;
/// So many turns count as one where the fault does not take place, because its target dies meanwhile.
const TURNS_IN_VAIN: u64 = 3;
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
    /// How many more zombies there are than other incidents of each kind.
    pub(super) more_zombies: u64,
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
/// A reset takes all that is on its way with it; what is as frequent as pings would have no connection
/// for long.
const RESETS_SHARE: f64 = 0.02;
const RESETS_SHARE_OF_PINGS: f64 = 0.000_2;
/// A partition of pings whose deliveries are lost or late all the time is asked for again all the time.
/// To its consumer one that comes too late is a lost one that comes twice, so few are lost for good.
const PINGS_LOST_SHARE: f64 = 0.1;
/// A gap in what is read in bulk costs a question, and there are so many more frames.
const BULK_SHARE: f64 = 0.1;

impl Weather {
    fn on_broker(self) -> Faults {
        let rates = |rate: f64, resets_share: f64| {
            Rates::each(&FRAMES, rate)
                .with(Fault::ConnectionReset, rate * resets_share)
                .with(Fault::ConnectionStalled, rate * resets_share)
        };
        let facts = rates(self.facts, RESETS_SHARE);
        let pings = rates(self.pings, RESETS_SHARE_OF_PINGS)
            .with(Fault::DeliveryDropped, self.pings * PINGS_LOST_SHARE);
        // What has no consumer of its own reads a stream in order and begins anew at every gap.
        let of_views = |rates: Rates, each: f64| {
            rates
                .with(Fault::DeliveryDropped, each)
                .with(Fault::DeliveryDoubled, each)
                .with(Fault::DeliveryDelayed, each)
        };
        let mut faults = Faults::new(of_views(facts, self.views));
        for spec in stream::CONSUMERS {
            let rates = if spec.stream == stream::PINGS { pings } else { facts };
            faults = faults.of_stream(&format!("{}.{}", spec.stream, spec.name), rates);
        }
        // A location that starts reads minutes of pings, tens of thousands of frames.
        faults.of_stream(stream::PINGS, of_views(pings, self.views * BULK_SHARE))
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
    let more_zombies = force.more_zombies;
    let turns = Mutex::default();
    let incidents = Incidents { system, record, pace: &pace, ends, more_zombies, turns };
    let of_nodes =
        join_all((0..NODE_INCIDENTS).map(|_| incidents.follow(&of_nodes, dice.random(), &over)));
    let (died, of_nodes, of_others, ()) =
        tokio::join!(dying, of_nodes, incidents.follow(&of_others, dice.random(), &over), end);
    calm(system);
    died.into_iter().chain(of_nodes).chain([of_others]).collect()
}

struct Incidents<'a> {
    system: &'a System,
    record: &'a Record,
    pace: &'a Pace<'a>,
    /// When the storm is over.
    ends: Instant,
    more_zombies: u64,
    /// Those that had a turn, whether they took place or not.
    turns: Mutex<BTreeMap<Kind, u64>>,
}

impl Incidents<'_> {
    /// One incident after the other.
    async fn follow(
        &self,
        kinds: &[Kind],
        seed: u64,
        over: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        loop {
            let pause = tokio::time::sleep(dice.random_range(BETWEEN_INCIDENTS));
            if over.run_until_cancelled(pause).await.is_none() {
                return Ok(());
            }
            let Some(kind) = self.next(kinds, &mut dice) else { return Ok(()) };
            let node = dice.random_range(0..self.system.nodes.len());
            self.happens(Incident { kind, node }, over).await?;
        }
    }

    /// What took place least often, or was tried least where trying is in vain. Messages that cannot be handled come
    /// before others, because they take longest.
    fn next(&self, kinds: &[Kind], dice: &mut ChaCha8Rng) -> Option<Kind> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let is_late = Instant::now() + POISON_ENDS_BEFORE > self.ends;
        let happened = self.record.incidents();
        let times = |kind: &Kind| {
            let of = |counts: &BTreeMap<Kind, u64>| counts.get(kind).copied().unwrap_or(0);
            let times = of(&happened).max(of(&turns).div_ceil(TURNS_IN_VAIN));
            if *kind == Kind::ServicePaused { times / (1 + self.more_zombies) } else { times }
        };
        let mut kinds = kinds.to_vec();
        kinds.retain(|kind| !(is_late && kind.is_message()));
        kinds.shuffle(dice);
        let next = kinds.into_iter().min_by_key(|kind| (times(kind), !kind.is_message()))?;
        *turns.entry(next).or_default() += 1;
        Some(next)
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
