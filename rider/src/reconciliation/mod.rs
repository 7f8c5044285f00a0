//! At night: fares that were missed are sent back to the payments worker, and then every trip of the
//! log is compared with its charge in the ledger. What is missing is charged, on the worker's own
//! path; what is wrong otherwise is listed for people.

mod compare;
pub mod report;

use std::{sync::Arc, time::Duration};

use common::{
    consumer::{self, Delivery, Failure},
    contract::{self, v1},
    cron::{self, ScheduleError},
    dead_letters::{self, Filter, Letter, Order, RATE_DEFAULT, Replay, Run, Selection, State},
    envelope::header,
    id::TripId,
    nats::Nats,
    stream, subject,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{compare::Comparison, report::Report};
use crate::{
    config::NightlyConfig,
    payments::{Payments, provider::Provider},
    store::Store,
    wire,
};

/// Pause before the broker is asked again to keep the schedule.
const SCHEDULE_AGAIN: Duration = Duration::from_millis(500);
/// Missed fares that one night sends back.
const MISSED_MAX: usize = 100_000;
/// Who wants what nobody ordered.
const SCHEDULE: &str = "rider: nightly";
/// Headers of an order: who, and why.
const BY: &str = "order-by";
const REASON: &str = "order-reason";

/// The nightly work.
#[derive(Debug)]
pub(crate) struct Nightly<P> {
    pub(crate) nats: Nats,
    pub(crate) store: Store,
    pub(crate) payments: Arc<Payments<P>>,
    pub(crate) config: NightlyConfig,
}

impl<P: Provider> Nightly<P> {
    /// Works until shutdown.
    ///
    /// # Errors
    /// When the broker refuses the schedule, or the consumer ends that should not.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.set_schedule(&shutdown).await?;
        let nats = self.nats.clone();
        let (this, stop) = (Arc::new(self), shutdown.clone());
        consumer::run(&nats, stream::RIDER_NIGHTLY, shutdown, move |delivery: Delivery, _| {
            let (this, stop) = (Arc::clone(&this), stop.clone());
            async move {
                // However many trips there are to compare.
                let report = delivery.wait(Box::pin(this.reconcile(&delivery, stop))).await;
                report.map_err(Failure::Transient)
            }
        })
        .await
    }

    async fn set_schedule(&self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let (of, fires) = (subject::RECONCILIATION_SCHEDULE, subject::RECONCILIATION_FIRED);
        loop {
            let setting = cron::schedule(&self.nats, of, fires, &self.config.nightly);
            match shutdown.run_until_cancelled(setting).await {
                None | Some(Ok(())) => return Ok(()),
                Some(Err(err @ ScheduleError::Refused { .. })) => return Err(err.into()),
                Some(Err(err @ ScheduleError::Unavailable(_))) => {
                    tracing::debug!(error = %err, "no nightly schedule yet");
                }
            }
            shutdown.run_until_cancelled(tokio::time::sleep(SCHEDULE_AGAIN)).await;
        }
    }

    async fn reconcile(
        &self,
        delivery: &Delivery,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let order = ordered(delivery);
        let mut replays = Vec::new();
        // First what was never tried again: the others may be hopeless, and stand in nobody's way.
        for state in [State::Open, State::Failed] {
            replays.extend(self.catch_up(state, &order, shutdown.clone()).await?);
        }
        let mut comparison = Comparison {
            nats: &self.nats,
            store: &self.store,
            payments: &self.payments,
            not_since: self.config.reconcile_after(),
            report: Report::new(order, replays),
        };
        comparison.run().await?;
        let report = comparison.report;
        report.keep(&self.nats).await?;
        let (compared, different) = (report.compared, report.different);
        if report.is_balanced {
            tracing::info!(compared, made = report.made.trips, "all fares are charged");
        } else {
            tracing::error!(compared, different, "what was charged is not what is owed");
        }
        Ok(())
    }

    /// Sends missed fares back to the payments worker.
    async fn catch_up(
        &self,
        state: State,
        order: &Order,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Option<Run>> {
        let missed = Filter {
            consumer: Some(stream::RIDER_PAYMENTS.name.to_owned()),
            state: Some(state),
            ..Filter::default()
        };
        let letters = dead_letters::list(&self.nats, &missed, 0, MISSED_MAX).await?.items;
        let mut fares = Vec::new();
        for letter in &letters {
            if self.is_fare(letter).await? {
                fares.push(letter.sequence);
            }
        }
        if fares.is_empty() {
            return Ok(None);
        }
        let run = Uuid::new_v5(&order.run, state.name().as_bytes());
        let replay = Replay {
            order: Order { run, ..order.clone() },
            selection: Selection::Sequences(fares),
            rate_per_s: RATE_DEFAULT,
            again: false,
        };
        Ok(Some(Box::pin(dead_letters::replay(&self.nats, replay, shutdown)).await?))
    }

    /// Whether a letter is about money at all: what nobody can read stays for people.
    async fn is_fare(&self, letter: &Letter) -> anyhow::Result<bool> {
        let Some(payload) = dead_letters::payload(&self.nats, letter.sequence).await? else {
            return Ok(false);
        };
        let event: Result<v1::TripEvent, _> = contract::decode("trip event", &payload);
        let debt = event.and_then(|event| wire::debt(TripId(Uuid::nil()), &event));
        Ok(matches!(debt, Ok(Some(_))))
    }
}

/// Who wanted this comparison: somebody, or the schedule.
fn ordered(delivery: &Delivery) -> Order {
    let text = |name| delivery.headers.get(name).map(|value| value.as_str().to_owned());
    Order {
        by: text(BY).unwrap_or_else(|| SCHEDULE.to_owned()),
        reason: text(REASON).unwrap_or_else(|| "every night".to_owned()),
        run: text(header::ID).and_then(|id| id.parse().ok()).unwrap_or_else(|| {
            let name = format!("{}.{}", delivery.subject, delivery.sequence);
            Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
        }),
        at: delivery.published,
    }
}

/// Has the comparison done now.
pub(crate) async fn order(nats: &Nats, order: &Order) -> anyhow::Result<()> {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(header::ID, order.run.to_string());
    headers.insert(BY, consumer::dead::one_line(&order.by));
    headers.insert(REASON, consumer::dead::one_line(&order.reason));
    let subject = subject::RECONCILIATION_ORDERED;
    nats.jetstream.publish_with_headers(subject, headers, "".into()).await?.await?;
    Ok(())
}
