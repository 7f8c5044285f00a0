//! The dispatcher: finds a driver for every trip that looks for one. It keeps nothing that the log
//! does not tell, so that several may run, and one that dies leaves nothing undone.

pub mod assign;
mod augment;
pub mod batch;
pub mod candidates;
pub mod config;
pub mod cost;
pub mod http;
pub mod inspect;
pub mod view;

use std::{
    fmt, future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use common::{
    clock::Timestamp,
    contract::{self, v1},
    event_store::{EventStore, ExecuteError},
    id::{CommandId, DriverId, OfferId, TripId},
    log::LogPort,
    nats::Nats,
    stream, subject,
    view::{CaughtUp, Start, Stored, ViewSpec, follow},
};
use futures_util::{StreamExt as _, stream as streams};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::{
    batch::{Asked, Batch, Priced},
    candidates::{Nearby, Question},
    inspect::{BatchReport, Made, OfferReport},
    view::{OpenTrip, OpenTrips},
};
pub use self::{config::DispatchConfig, inspect::Inspector};
use crate::{domain::TripCommand, record::TripDecider};

/// Offers that are stored at the same time.
const OFFERS_IN_FLIGHT: usize = 32;

/// Matches open trips with drivers until shutdown, which waits for the batch in hand.
///
/// # Errors
/// When the event store cannot be opened.
pub async fn run(
    nats: &Nats,
    config: DispatchConfig,
    inspector: Inspector,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let nearby = Arc::new(nats.client.clone());
    let dispatcher = Dispatcher::new(nats, nearby, config, inspector);
    let caught_up = CaughtUp::default();
    tokio::try_join!(
        Box::pin(dispatcher.watch(nats, &caught_up, shutdown.clone())),
        Box::pin(dispatcher.work(&caught_up, shutdown))
    )?;
    Ok(())
}

/// Chooses who is asked for which trip, batch by batch.
pub struct Dispatcher {
    nearby: Arc<dyn Nearby>,
    store: EventStore<TripDecider>,
    config: DispatchConfig,
    inspector: Inspector,
    trips: Mutex<OpenTrips>,
    opened: Notify,
    /// `location` answered the last time it was asked.
    is_answered: AtomicBool,
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}

impl Dispatcher {
    /// Knows no trip yet; asks `nearby` who is near.
    #[must_use]
    pub fn new(
        port: impl Into<LogPort>,
        nearby: Arc<dyn Nearby>,
        config: DispatchConfig,
        inspector: Inspector,
    ) -> Self {
        Self {
            nearby,
            store: EventStore::new(port),
            trips: Mutex::new(OpenTrips::new(&config)),
            config,
            inspector,
            opened: Notify::new(),
            is_answered: AtomicBool::new(true),
        }
    }

    fn trips(&self) -> MutexGuard<'_, OpenTrips> {
        self.trips.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.store.port().clock.now()
    }

    async fn watch(
        &self,
        nats: &Nats,
        caught_up: &CaughtUp,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let spec = ViewSpec {
            stream: stream::TRIP,
            filter: subject::TRIP.events(),
            start: Start::LastPerSubject,
        };
        follow(nats, spec, caught_up, shutdown, |stored| {
            self.see(&stored);
            future::ready(Ok(()))
        })
        .await
    }

    /// A trip's event. One that cannot be read hides one trip from this view; it must not stop the
    /// search for all others.
    pub fn see(&self, stored: &Stored) {
        let seen = || {
            let envelope = stored.envelope()?;
            let event: v1::TripEvent = contract::decode("TripEvent", &stored.payload)?;
            self.trips().apply(TripId(envelope.subject), &event, (&envelope).into(), self.now())
        };
        match seen() {
            Ok(true) => self.opened.notify_one(),
            Ok(false) => {}
            Err(malformed) => {
                tracing::error!(
                    subject = stored.subject,
                    sequence = stored.sequence,
                    error = %malformed,
                    "cannot read a trip's event"
                );
            }
        }
    }

    async fn work(&self, caught_up: &CaughtUp, shutdown: CancellationToken) -> anyhow::Result<()> {
        if shutdown.run_until_cancelled(caught_up.wait()).await.is_none() {
            return Ok(());
        }
        let mut number = 0_u64;
        while shutdown.run_until_cancelled(self.until_due()).await.is_some() {
            number += 1;
            self.batch(number).await;
        }
        Ok(())
    }

    /// Waits until there is a trip to match, and then for the window to pass. Without open trips
    /// nothing wakes it.
    async fn until_due(&self) {
        loop {
            let opened = self.opened.notified();
            let now = self.now();
            let due = self.trips().next_due(now);
            match due {
                Some(due) if due <= now => break,
                Some(due) => {
                    tokio::select! {
                        () = tokio::time::sleep(due.since(now)) => {}
                        () = opened => {}
                    }
                }
                None => opened.await,
            }
        }
        if 0 < self.config.window_ms {
            tokio::time::sleep(self.config.window()).await;
        }
    }

    /// Matches the trips that are due now and makes the offers.
    pub async fn batch(&self, number: u64) {
        let due = self.trips().due(self.now(), self.config.batch_max);
        if due.is_empty() {
            return;
        }
        let asking = Instant::now();
        let asked = self.ask_for(due).await;
        let queries_took = asking.elapsed();
        let (at, choosing) = (self.now(), Instant::now());
        let held = self.trips().held(at);
        let batch = batch::solve(asked, &held, at, self.config.steps_max);
        let choice_took = choosing.elapsed();
        let made = self.offer_chosen(&batch, at).await;
        let took = (queries_took, choice_took);
        self.inspector.keep(BatchReport::new(number, at, &batch, took, &made));
    }

    /// Learns for every trip who is near.
    async fn ask_for(&self, due: Vec<OpenTrip>) -> Vec<Asked> {
        let held: Vec<DriverId> = self.trips().held(self.now()).into_iter().collect();
        streams::iter(due)
            .map(|open| self.ask(open, &held))
            .buffer_unordered(self.config.queries_max.max(1))
            .collect()
            .await
    }

    async fn ask(&self, open: OpenTrip, held: &[DriverId]) -> Asked {
        let eta_max_s = self.config.cap.eta_max_s(open.failed_rounds);
        let question = Question {
            pickup: open.pickup,
            limit: self.config.candidates_max,
            eta_max_s,
            excluded: open.excluded.iter().chain(held).copied().collect(),
        };
        let asked = self.nearby.ask(&question, self.config.query_timeout()).await;
        let was_answered = self.is_answered.swap(asked.is_ok(), Ordering::Relaxed);
        match &asked {
            Err(err) if was_answered => {
                tracing::warn!(trip.id = %open.trip, error = %err, "cannot learn who is near");
            }
            Err(err) => {
                tracing::debug!(trip.id = %open.trip, error = %err, "cannot learn who is near");
            }
            Ok(_) if !was_answered => tracing::info!("location answers again"),
            Ok(_) => {}
        }
        Asked { open, eta_max_s, answer: asked.ok() }
    }

    /// Makes the offers, and puts off whoever got none.
    async fn offer_chosen(&self, batch: &Batch, now: Timestamp) -> Vec<(TripId, OfferReport)> {
        let mut chosen = Vec::new();
        {
            let mut trips = self.trips();
            for row in &batch.rows {
                let open = &row.asked.open;
                match (&row.chosen, &row.asked.answer) {
                    (Some(priced), _) => {
                        trips.proposed(open, priced.candidate.driver, now);
                        chosen.push((open.clone(), *priced));
                    }
                    (None, Some(_)) => trips.found_nobody(open, now),
                    (None, None) => trips.not_answered(open, now),
                }
            }
        }
        streams::iter(chosen)
            .map(|(open, priced)| async move { (open.trip, self.offer(&open, priced).await) })
            .buffer_unordered(OFFERS_IN_FLIGHT)
            .collect()
            .await
    }

    /// Makes one offer. Its id and its command's follow from the trip's version, so that it is the
    /// same offer whoever repeats it, and whenever.
    async fn offer(&self, open: &OpenTrip, Priced { candidate, cost }: Priced) -> OfferReport {
        let (trip, driver) = (open.trip, candidate.driver);
        let offer = OfferId::derived(trip, open.version);
        let command = TripCommand::Offer {
            driver,
            offer,
            pickup_eta_s: candidate.eta_s,
            pickup_distance_m: candidate.distance_m,
        };
        let command_id = CommandId::keyed(offer.0, "offer");
        let executed = self.store.execute(trip, command_id, &open.cause, &command).await;
        let outcome = match executed {
            Ok(done) if done.event.is_some() => {
                tracing::info!(
                    trip.id = %trip,
                    driver.id = %driver,
                    offer.id = %offer,
                    eta_s = candidate.eta_s,
                    "offered trip {trip} to driver {driver}"
                );
                Made::Offered
            }
            Ok(done) => {
                let made = done.now.state.search().and_then(|search| search.record(offer));
                if made.is_none_or(|made| made.driver != driver) {
                    self.trips().free(driver);
                }
                Made::Repeated
            }
            Err(ExecuteError::Rejected { rejection, .. }) => {
                tracing::debug!(trip.id = %trip, driver.id = %driver, %rejection, "no offer made");
                self.trips().not_made(open, driver, self.now());
                Made::Refused
            }
            Err(err) => {
                tracing::warn!(trip.id = %trip, error = %err, "offer not stored");
                // It may be stored all the same: the driver stays held, the same offer is repeated.
                self.trips().not_answered(open, self.now());
                Made::Failed
            }
        };
        OfferReport { offer_id: offer, driver_id: driver, cost, outcome }
    }
}

#[cfg(test)]
mod tests;
