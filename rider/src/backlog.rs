//! How much waits in the outbox. While the broker is away it grows with every ride; past a limit new
//! rides are sent away rather than taken up without an end in sight.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use common::metrics;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError, outbox};

/// How often it is measured: by so much of new rides the limit may be passed.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// The outbox's length; cheap to clone.
#[derive(Debug, Clone)]
pub struct Backlog {
    waiting: Arc<AtomicU64>,
    max: u64,
}

impl Backlog {
    /// With this limit.
    #[must_use]
    pub fn new(max: u64) -> Self {
        Self { waiting: Arc::default(), max }
    }

    /// Whether no more should be taken up.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= self.max
    }

    /// Measures until shutdown.
    ///
    /// # Errors
    /// Never: a store that cannot be read refuses new rides by itself.
    pub async fn keep(&self, store: &Store, shutdown: CancellationToken) -> anyhow::Result<()> {
        let gauge = metrics::OUTBOX_WAITING.with(&metrics::NO_LABELS);
        let mut measure = interval(MEASURE_EVERY);
        measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(measure.tick()).await.is_some() {
            match store.read::<_, StoreError, _>(outbox::count_waiting).await {
                Ok(waiting) => {
                    self.waiting.store(waiting, Ordering::Relaxed);
                    gauge.set(u32::try_from(waiting).unwrap_or(u32::MAX));
                }
                Err(err) => tracing::warn!(error = %err, "the outbox is not measured"),
            }
        }
        Ok(())
    }
}
