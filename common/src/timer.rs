//! Durable timers: what happens when one fires, and the sweeper that finds those that did not.
//! The timers themselves are schedules in the log, written by the event store.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    contract::{self, v1},
    decider::Recorder,
    event_store::{Cause, EventStore, ExecuteError},
    id::EventId,
    nats::Nats,
    planted::{self, Planted},
    view::{self, CaughtUp, Start, Stored, ViewSpec},
};
use prost::Message as _;

/// A timer this much overdue is treated as fired.
const OVERDUE: Duration = Duration::from_secs(5);
/// How often the sweeper looks.
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Handles what a schedule fired: nothing, unless the snapshot still names that timer.
///
/// # Errors
/// As [`EventStore::fire`]; a payload that is no [`v1::Due`] is [`ExecuteError::Corrupt`].
pub async fn on_due<D: Recorder>(
    store: &EventStore<D>,
    payload: &[u8],
    cause: &Cause,
) -> Result<(), ExecuteError<D>> {
    let due: v1::Due = contract::decode("due", payload)?;
    let aggregate: EventId = contract::id("aggregate id", &due.aggregate_id)?;
    let timer: EventId = contract::id("timer id", &due.timer_id)?;
    fire(store, aggregate.0, timer, cause).await
}

async fn fire<D: Recorder>(
    store: &EventStore<D>,
    aggregate: Uuid,
    timer: EventId,
    cause: &Cause,
) -> Result<(), ExecuteError<D>> {
    match store.fire(D::Id::from(aggregate), timer, cause).await {
        // A rule that stands in the way of a timer means that it came too late to matter.
        Ok(_) | Err(ExecuteError::Rejected { .. }) => Ok(()),
        Err(err) => Err(err),
    }
}

/// Treats overdue timers as fired: at the start, once all histories' last events are read, and
/// again every `every`. It is the answer to schedules that were lost with a full account.
///
/// # Errors
/// When the view cannot go on.
pub async fn sweep<D: Recorder>(
    nats: &Nats,
    store: EventStore<D>,
    every: Duration,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let sweeper = Sweeper::new(store);
    let caught_up = CaughtUp::default();
    let spec =
        ViewSpec { stream: D::STREAM, filter: D::SUBJECTS.events(), start: Start::LastPerSubject };
    let watch = view::follow(nats, spec, &caught_up, shutdown.clone(), |stored| {
        sweeper.see(&stored);
        std::future::ready(Ok(()))
    });
    let act = async {
        let mut ticks = tokio::time::interval(every);
        if shutdown.run_until_cancelled(caught_up.wait()).await.is_none() {
            return Ok(());
        }
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            sweeper.fire_overdue().await;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(watch, act)?;
    Ok(())
}

/// Only the stamp of an event is of interest here; trips' and drivers' have it in the same place.
#[derive(Clone, PartialEq, prost::Message)]
struct Stamped {
    #[prost(message, optional, tag = "1")]
    stamp: Option<v1::Stamp>,
}

/// Knows which timers run, as the last event of every history says.
#[derive(Debug)]
pub struct Sweeper<D: Recorder> {
    store: EventStore<D>,
    running: Mutex<BTreeMap<Uuid, Vec<v1::Timer>>>,
}

impl<D: Recorder> Sweeper<D> {
    /// Knows nothing yet; fires in this store.
    #[must_use]
    pub fn new(store: EventStore<D>) -> Self {
        Self { store, running: Mutex::default() }
    }

    /// Takes note of an event.
    pub fn see(&self, stored: &Stored) {
        let stamp = Stamped::decode(stored.payload.as_ref()).ok().and_then(|event| event.stamp);
        let (Ok(key), Some(stamp)) = (stored.key(), stamp) else { return };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp.timers.is_empty() {
            running.remove(&key);
        } else {
            running.insert(key, stamp.timers);
        }
    }

    /// Treats every timer that is overdue as fired. What fails is found again the next time.
    pub async fn fire_overdue(&self) {
        for (key, timer) in self.overdue() {
            let Ok(timer_id) = EventId::try_from(timer.id.as_slice()) else { continue };
            tracing::warn!(aggregate.id = %key, timer.kind = timer.kind, "timer overdue, firing it");
            let cause = Cause { id: Some(timer_id.0), traceparent: None };
            if let Err(err) = fire(&self.store, key, timer_id, &cause).await {
                tracing::warn!(aggregate.id = %key, error = %err, "overdue timer not handled yet");
            }
        }
    }

    fn overdue(&self) -> Vec<(Uuid, v1::Timer)> {
        if planted::is_on(Planted::SweeperOff) {
            return Vec::new();
        }
        let now = self.store.port().clock.now();
        let is_overdue =
            |timer: &v1::Timer| now.since(Timestamp::from_micros(timer.due_us)) > OVERDUE;
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running
            .iter()
            .flat_map(|(key, timers)| timers.iter().map(|timer| (*key, timer.clone())))
            .filter(|(_, timer)| is_overdue(timer))
            .collect()
    }
}
