//! Carries the outbox to the broker: riders in parallel, one event of a rider at a time, each with the
//! sequence that the one before it got.

use std::{collections::HashSet, sync::Arc, time::Duration};

use common::{clock::Timestamp, failpoint, id::RiderId, log::LogPort};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    leases::Leases,
    publisher::Publisher,
    store::{
        Store, StoreError,
        outbox::{self, Waiting},
    },
};

/// Riders whose events are on their way at the same time.
const IN_FLIGHT_MAX: usize = 256;
/// Rows that one look at the outbox takes; more than fit in flight, so that a look is never in vain.
const HEADS_MAX: u32 = 512;
/// A row that nobody announced waits this long at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The first pause after an unknown outcome; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// The longest pause while the broker is away.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// What is in flight at shutdown may take this long. What does not make it is found again.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Rows that the broker has are kept this long, to look something up.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Tells the relay that the outbox has something.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Ears>);

#[derive(Debug, Default)]
struct Ears {
    here: Notify,
    elsewhere: Notify,
}

impl Bell {
    /// After a commit that put something in the outbox: for the relay of any replica.
    pub fn ring(&self) {
        self.0.here.notify_one();
        self.0.elsewhere.notify_one();
    }

    /// For this replica's relay alone.
    pub(crate) fn ring_here(&self) {
        self.0.here.notify_one();
    }

    /// Waits for what the other replicas should hear of.
    pub(crate) async fn rung(&self) {
        self.0.elsewhere.notified().await;
    }
}

/// The relay.
#[derive(Debug, Clone)]
pub struct Relay {
    publisher: Publisher,
    store: Store,
    bell: Bell,
    leases: Leases,
}

impl Relay {
    /// Between this store and this broker, for what this replica has leased.
    #[must_use]
    pub fn new(port: impl Into<LogPort>, store: Store, bell: Bell, leases: Leases) -> Self {
        Self { publisher: Publisher::new(port, store.clone()), store, bell, leases }
    }

    /// Carries events until shutdown.
    ///
    /// # Errors
    /// When the store fails for good.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut in_flight: JoinSet<RiderId> = JoinSet::new();
        let mut busy: HashSet<RiderId> = HashSet::new();
        loop {
            if in_flight.len() < IN_FLIGHT_MAX {
                let slots = self.leases.slots();
                let heads = self.store.read(move |tx| outbox::heads_in(tx, slots, HEADS_MAX)).await;
                for head in heads.unwrap_or_else(|err: StoreError| {
                    tracing::error!(error = %err, "the outbox cannot be read");
                    Vec::new()
                }) {
                    if in_flight.len() < IN_FLIGHT_MAX && busy.insert(head.key) {
                        in_flight.spawn(self.clone().carry(head));
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.bell.0.here.notified() => {}
                _ = look.tick() => {}
                Some(carried) = in_flight.join_next() => {
                    busy.remove(&carried?);
                }
            }
            while let Some(carried) = in_flight.try_join_next() {
                busy.remove(&carried?);
            }
        }
        let drained = async { while in_flight.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
            tracing::info!("events left in the outbox for the next start");
        }
        Ok(())
    }

    /// Brings one event to the broker, however long it takes, and records where it is.
    async fn carry(self, row: Waiting) -> RiderId {
        let (id, key) = (row.id, row.key);
        let Some(sequence) = self.deliver(&row).await else { return key };
        let old = horizon(self.publisher.now());
        let recorded = self
            .store
            .outlast(move |tx| {
                outbox::published(tx, id, sequence)?;
                outbox::prune(tx, old)
            })
            .await;
        failpoint::reach("relay.recorded");
        match recorded {
            Ok(()) => tracing::debug!(rider.id = %key, sequence, "published {}", row.kind),
            // It is on the broker; the next look finds it there by its id.
            Err(StoreError::Closed) => {}
            Err(err) => tracing::error!(rider.id = %key, sequence, error = %err, "not recorded"),
        }
        key
    }

    /// The event's sequence; nothing when it is another replica's to carry, or was.
    async fn deliver(&self, row: &Waiting) -> Option<u64> {
        let mut expected = Some(row.after);
        let mut pause = RETRY_FIRST;
        loop {
            match self.publisher.attempt(row, expected).await {
                Ok(carried) => return carried,
                Err(why) => {
                    tracing::debug!(rider.id = %row.key, error = %why, "not published yet");
                    if !self.leases.hold(row.key) {
                        return None;
                    }
                    // The next attempt looks before it publishes.
                    expected = None;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }
}

/// What the broker has since before then need not be kept any longer.
fn horizon(now: Timestamp) -> Timestamp {
    let kept_for = i64::try_from(KEPT_FOR.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_sub(kept_for))
}
