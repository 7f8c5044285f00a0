//! Processes that die at failpoints: each service in turn, at the place that was hit least so far, and
//! only while it is whole.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use common::failpoint;
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng, seq::SliceRandom as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    incident::Kind,
    pace::{Pace, Turn},
    poison,
    record::Record,
    replica::Armed,
    system::{Node, System},
};

/// How often an armed place is passed before it is the one.
const TIMES_MAX: u32 = 4;
/// Places that are passed rarely: the first pass is the one.
const SELDOM: [&str; 6] = [
    "consumer.burying",
    "consumer.buried",
    "checkpoint.storing",
    "checkpoint.stored",
    "payments.charged",
    "payments.settled",
];
/// How long an armed process may take to come by, and how long once its peer handed its work over.
const HIT_WITHIN: [Duration; 2] = [Duration::from_secs(4), Duration::from_secs(5)];
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Malformed messages, so that an armed process comes by where they are buried.
const MALFORMED: u32 = 6;

/// How often each place was tried, by all services together.
#[derive(Debug, Default)]
pub(super) struct Tries(Mutex<BTreeMap<&'static str, u64>>);

impl Tries {
    fn of(&self, name: &str) -> u64 {
        let tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tries.get(name).copied().unwrap_or(0)
    }

    fn note(&self, name: &'static str) {
        let mut tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *tries.entry(name).or_default() += 1;
    }
}

/// What all that die have in common.
#[derive(Debug)]
pub(super) struct Deaths<'a> {
    pub(super) system: &'a System,
    pub(super) record: &'a Record,
    pub(super) pace: &'a Pace<'a>,
    pub(super) tries: Tries,
    /// Between two deaths of a service, once it has worked off its messages.
    pub(super) between: (Duration, Duration),
}

impl Deaths<'_> {
    /// Lets processes of this service die, one after the other.
    pub(super) async fn of(
        &self,
        service: &'static str,
        seed: u64,
        over: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        loop {
            let pause = dice.random_range(self.between.0..=self.between.1);
            if over.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Ok(());
            }
            let Some(name) = self.wanted(service, &mut dice) else { return Ok(()) };
            self.tries.note(name);
            let mut nodes: Vec<&Node> = self.system.of(service).collect();
            let node = nodes.swap_remove(dice.random_range(0..nodes.len()));
            let times = if SELDOM.contains(&name) { 1 } else { dice.random_range(1..=TIMES_MAX) };
            let dying = async {
                let turn = self.pace.turn(service).await;
                // Whatever happened before it.
                turn.work_off().await;
                self.die_at(node, nodes, Armed { name, times }, &turn).await
            };
            match over.run_until_cancelled(dying).await {
                Some(died) => died?,
                // An armed process would die when nothing is to fail any more.
                None => {
                    node.replica.arm(None);
                    node.replica.restart().await;
                }
            }
        }
    }

    /// The place of this service that was hit least, or tried least where trying is in vain.
    fn wanted(&self, service: &str, dice: &mut ChaCha8Rng) -> Option<&'static str> {
        let hit = self.system.failpoints();
        let own = failpoint::ALL.iter().filter(|point| point.services.contains(&service));
        let mut names: Vec<&'static str> = own.map(|point| point.name).collect();
        names.shuffle(dice);
        names.into_iter().min_by_key(|name| {
            let tried = self.tries.of(name);
            (hit.get(name).copied().unwrap_or(0).max(tried / 3), tried)
        })
    }

    async fn die_at(
        &self,
        node: &Node,
        peers: Vec<&Node>,
        armed: Armed,
        turn: &Turn<'_>,
    ) -> anyhow::Result<()> {
        let name = armed.name;
        let hits = || node.replica.failpoints().get(name).copied().unwrap_or(0);
        let (before, life) = (hits(), node.replica.life());
        // In order, so that the death that counts is the only one.
        node.replica.arm(Some(armed));
        node.replica.restart().await;
        self.record.happened(Kind::ServiceRestarted);
        node.replica.reborn(life).await;
        for (number, patience) in HIT_WITHIN.into_iter().enumerate() {
            // One that does not know its world yet does not come by, nor could it replace its peers.
            turn.until_ready(|| hits() > before).await;
            // Whoever works on what leads there hands it over.
            for peer in peers.iter().filter(|_| number > 0) {
                peer.replica.restart().await;
                self.record.happened(Kind::ServiceRestarted);
            }
            let asked = Instant::now();
            if matches!(name, "consumer.burying" | "consumer.buried") {
                let service = node.replica.plan.service;
                poison::publish_to(self.system, self.record, service, MALFORMED).await?;
            }
            while asked.elapsed() < patience {
                if hits() > before {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        tracing::info!(failpoint = name, node = node.replica.plan.name, "nobody came by");
        Ok(())
    }
}
