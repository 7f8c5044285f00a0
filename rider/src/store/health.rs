//! Whether the store can be written, as its last writes say. A disk that is full and a database that
//! is away get well by themselves: until then nobody is sent here, and work waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Store, StoreError, Tx};

/// How often a store that fails is tried again when nobody else has anything to write.
const TRY_EVERY: Duration = Duration::from_millis(250);

/// What the last writes said; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Health(Arc<AtomicBool>);

impl Health {
    /// A write is on disk.
    pub(super) fn well(&self) {
        if self.0.swap(false, Ordering::Relaxed) {
            tracing::info!("the store can be written again");
        }
    }

    /// A write was refused.
    pub(super) fn failing(&self, err: &StoreError) {
        if err.is_outage() && !self.0.swap(true, Ordering::Relaxed) {
            tracing::error!(error = %err.cause(), "the store cannot be written");
        }
    }

    pub(super) fn is_failing(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Store {
    /// Tries a store that fails until it can be written again, until shutdown.
    ///
    /// # Errors
    /// Never; the signature lets it stand beside a service's other parts in a `try_join!`.
    pub async fn keep_trying(&self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut every = interval(TRY_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(every.tick()).await.is_some() {
            if self.is_failing()
                && let Err(err) = self.try_write::<_, StoreError, _>(probe).await
            {
                tracing::debug!(error = %err.cause(), "the store still fails");
            }
        }
        Ok(())
    }
}

/// A row that means nothing, and a page that has to be written for it.
fn probe(tx: &Tx<'_>) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO view_position (view, sequence) VALUES ($1, 1)
         ON CONFLICT (view) DO UPDATE SET sequence = view_position.sequence + 1",
        &["probe of the store".into()],
    )?;
    Ok(())
}
