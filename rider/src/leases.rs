//! This replica's share of the outbox, kept for as long as it says in time that it is alive, and
//! handed over at once when it stops. Where one process has the store for itself it carries all.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::{id::RiderId, nats::Nats, subject};
use futures_util::StreamExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    relay::Bell,
    store::{
        Store, StoreError,
        lease::{self, Slots},
    },
};

/// How long a replica counts as alive that says nothing: what it carried waits that long at most.
pub const ALIVE_FOR: Duration = Duration::from_secs(2);
/// How often it says so.
const RENEW_EVERY: Duration = Duration::from_millis(500);
/// What a replica says to the others when it leaves; else that there is something in the outbox.
const LEFT: &[u8] = b"left";

/// What this replica carries; cheap to clone.
#[derive(Debug, Clone)]
pub struct Leases(Arc<Mutex<Held>>);

#[derive(Debug, Clone, Copy)]
struct Held {
    slots: Slots,
    /// Not after this, by this machine's monotonic clock; `None` = for ever.
    until: Option<Instant>,
}

impl Leases {
    /// Of this store: all of it, unless replicas share it. Then nothing, until [`Self::keep`] runs.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        let held = if store.is_shared() {
            Held { slots: Slots::default(), until: Some(Instant::now()) }
        } else {
            Held { slots: Slots::ALL, until: None }
        };
        Self(Arc::new(Mutex::new(held)))
    }

    /// What is this replica's to carry now.
    #[must_use]
    pub fn slots(&self) -> Slots {
        let held = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.until {
            Some(until) if until <= Instant::now() => Slots::default(),
            _ => held.slots,
        }
    }

    /// Whether a rider's events are this replica's to carry now.
    #[must_use]
    pub fn hold(&self, key: RiderId) -> bool {
        self.slots().hold(key)
    }

    /// Keeps its share until shutdown, and tells the other replicas what concerns them. That is a
    /// hint and may get lost: each looks by itself.
    ///
    /// # Errors
    /// When the connection to the broker is closed for good.
    pub async fn keep(
        &self,
        store: &Store,
        nats: &Nats,
        bell: &Bell,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        if !store.is_shared() {
            shutdown.cancelled().await;
            return Ok(());
        }
        let mut hints = nats.client.subscribe(subject::RIDER_OUTBOX).await?;
        let mut renew = interval(RENEW_EVERY);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = renew.tick() => self.renew(store, bell).await,
                () = bell.rung() => hint(nats, b"").await,
                Some(hint) = hints.next() => {
                    if hint.payload == LEFT {
                        self.renew(store, bell).await;
                    }
                    bell.ring_here();
                }
            }
        }
        // From here on the others may carry it. What is under way here does no harm.
        self.hold_nothing();
        let replica = store.replica();
        match store.write::<_, StoreError, _>(move |tx| lease::leave(tx, replica)).await {
            Ok(()) => hint(nats, LEFT).await,
            Err(err) => tracing::warn!(error = %err, "the others wait for this replica's lease"),
        }
        Ok(())
    }

    async fn renew(&self, store: &Store, bell: &Bell) {
        // Before the call: the database counts from a later time on.
        let until = Instant::now() + ALIVE_FOR;
        let replica = store.replica();
        let renewed =
            store.write::<_, StoreError, _>(move |tx| lease::renew(tx, replica, ALIVE_FOR)).await;
        match renewed {
            Ok(slots) => {
                let had = self.slots();
                let held = Held { slots, until: Some(until) };
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = held;
                if slots.has_more_than(had) {
                    bell.ring_here();
                }
                if slots != had {
                    tracing::info!(slots = slots.count(), "this replica's share of the outbox");
                }
            }
            Err(err) => tracing::warn!(error = %err, "the share of the outbox is not renewed"),
        }
    }

    fn hold_nothing(&self) {
        let held = Held { slots: Slots::default(), until: Some(Instant::now()) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
}

async fn hint(nats: &Nats, says: &'static [u8]) {
    if let Err(err) = nats.client.publish(subject::RIDER_OUTBOX, says.into()).await {
        tracing::debug!(error = %err, "the other replicas look by themselves");
    }
}
