//! Durable timers: what happens when one fires, and the sweeper that finds those that did not.
//! The timers themselves are schedules in the log, written by the event store.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
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
    view::{self, CaughtUp, Start, ViewSpec},
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
    store: EventStore<D>,
    every: Duration,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let running: Arc<Mutex<HashMap<Uuid, Vec<v1::Timer>>>> = Arc::default();
    let caught_up = CaughtUp::default();
    let spec =
        ViewSpec { stream: D::STREAM, filter: D::SUBJECTS.events(), start: Start::LastPerSubject };
    let nats = store.nats().clone();
    let watch = view::follow(&nats, spec, &caught_up, shutdown.clone(), |stored| {
        note(&running, &stored);
        std::future::ready(Ok(()))
    });
    let act = async {
        let mut ticks = tokio::time::interval(every);
        if shutdown.run_until_cancelled(caught_up.wait()).await.is_none() {
            return Ok(());
        }
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            fire_overdue(&nats, &store, &running).await;
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

fn note(running: &Mutex<HashMap<Uuid, Vec<v1::Timer>>>, stored: &view::Stored) {
    let stamp = Stamped::decode(stored.payload.as_ref()).ok().and_then(|event| event.stamp);
    let (Ok(key), Some(stamp)) = (stored.key(), stamp) else { return };
    let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
    if stamp.timers.is_empty() {
        running.remove(&key);
    } else {
        running.insert(key, stamp.timers);
    }
}

async fn fire_overdue<D: Recorder>(
    nats: &Nats,
    store: &EventStore<D>,
    running: &Mutex<HashMap<Uuid, Vec<v1::Timer>>>,
) {
    let now = nats.clock.now();
    let is_overdue = |timer: &v1::Timer| now.since(Timestamp::from_micros(timer.due_us)) > OVERDUE;
    let overdue: Vec<(Uuid, v1::Timer)> = {
        let running = running.lock().unwrap_or_else(PoisonError::into_inner);
        running
            .iter()
            .flat_map(|(key, timers)| timers.iter().map(|timer| (*key, timer.clone())))
            .filter(|(_, timer)| is_overdue(timer))
            .collect()
    };
    for (key, timer) in overdue {
        let Ok(timer_id) = EventId::try_from(timer.id.as_slice()) else { continue };
        tracing::warn!(aggregate.id = %key, timer.kind = timer.kind, "timer overdue, firing it");
        let cause = Cause { id: Some(timer_id.0), traceparent: None };
        if let Err(err) = fire(store, key, timer_id, &cause).await {
            tracing::warn!(aggregate.id = %key, error = %err, "overdue timer not handled yet");
        }
    }
}
