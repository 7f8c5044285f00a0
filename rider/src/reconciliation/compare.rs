//! Every trip of the log beside its charge in the ledger.

use std::time::Duration;

use common::{
    consumer::{Delivery, Failure},
    contract,
    contract::v1,
    event_store::Cause,
    id::TripId,
    nats::Nats,
    scan::{Scan, ScanSpec},
    stream, subject,
    view::{Start, Stored},
};

use super::report::{Line, Report};
use crate::{
    domain::{
        charge::{ChargeState, Debt},
        reconciliation::{Charged, Difference, compare},
    },
    payments::{Payments, provider::Provider},
    store::{Store, StoreError, ledger},
    wire,
};

/// Trips that are looked up in one read of the store.
const BATCH: usize = 256;
/// How long one missing charge may take. The next night tries again.
const COLLECT_WITHIN: Duration = Duration::from_secs(30);

/// A comparison under way.
pub(super) struct Comparison<'a, P> {
    pub(super) nats: &'a Nats,
    pub(super) store: &'a Store,
    pub(super) payments: &'a Payments<P>,
    pub(super) not_since: Duration,
    pub(super) report: Report,
}

/// A trip as its last event tells it.
struct Told {
    trip: TripId,
    debt: Option<Debt>,
    event: Stored,
}

impl<P: Provider> Comparison<'_, P> {
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        let spec = ScanSpec {
            stream: stream::TRIP,
            filters: vec![subject::TRIP.events()],
            start: Start::LastPerSubject,
            headers_only: false,
        };
        let began = self.nats.clock.now();
        let mut scan = Scan::open(self.nats, spec).await?;
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(event) = scan.next().await? {
            if began.since(event.published) < self.not_since {
                continue;
            }
            match told(event) {
                Ok(told) => batch.push(told),
                // It is on the dead-letter queue of whoever had to act on it.
                Err(err) => tracing::warn!(error = %err, "a trip that cannot be compared"),
            }
            if batch.len() == BATCH {
                self.compare(std::mem::take(&mut batch)).await?;
            }
        }
        self.compare(batch).await?;
        self.report.close(self.nats.clock.now());
        Ok(())
    }

    async fn compare(&mut self, batch: Vec<Told>) -> anyhow::Result<()> {
        let trips: Vec<TripId> = batch.iter().map(|told| told.trip).collect();
        let charges = self.charges(trips).await?;
        for (told, charged) in batch.into_iter().zip(charges) {
            let debt = told.debt;
            let Some(difference) = difference(debt.as_ref(), charged) else {
                self.report.count(debt.as_ref(), charged);
                continue;
            };
            let (charged, difference, why) = match debt.filter(|_| difference.is_collectable()) {
                Some(debt) => self.collect(&told, debt).await?,
                None => (charged, Some(difference), None),
            };
            self.report.count(debt.as_ref(), charged);
            if let Some(difference) = difference {
                let (owed, charged) = (debt.map(|debt| debt.amount), charged.map(|it| it.amount));
                self.report.list(Line { trip_id: told.trip, difference, owed, charged, why });
            }
        }
        Ok(())
    }

    /// Makes a charge that is missing, and says what is still wrong, and why.
    async fn collect(
        &mut self,
        told: &Told,
        debt: Debt,
    ) -> anyhow::Result<(Option<Charged>, Option<Difference>, Option<String>)> {
        let Stored { subject, sequence, published, headers, payload } = told.event.clone();
        let delivery = Delivery::new(subject, sequence, published, headers, payload);
        let cause = told.event.envelope().as_ref().map(Cause::from).unwrap_or_default();
        let collecting = self.payments.collect(&delivery, debt, cause);
        let why = match tokio::time::timeout(COLLECT_WITHIN, collecting).await {
            Ok(Ok(())) => None,
            Ok(Err(
                Failure::Transient(err)
                | Failure::Permanent(err)
                | Failure::Hung(err)
                | Failure::Fatal(err),
            )) => Some(format!("{err:#}")),
            Err(_) => Some(format!("no answer within {COLLECT_WITHIN:?}")),
        };
        let charged = self.charges(vec![told.trip]).await?.into_iter().next().flatten();
        let difference = difference(Some(&debt), charged);
        if difference.is_none() {
            self.report.made(&debt);
        }
        Ok((charged, difference, why))
    }

    async fn charges(&self, trips: Vec<TripId>) -> Result<Vec<Option<Charged>>, StoreError> {
        self.store
            .read(move |tx| {
                let charge = |trip: &TripId| ledger::charge_of(tx, *trip);
                trips.iter().map(|trip| Ok(charge(trip)?.as_ref().map(charged))).collect()
            })
            .await
    }
}

fn told(event: Stored) -> Result<Told, contract::Malformed> {
    let trip = TripId(event.key()?);
    let decoded: v1::TripEvent = contract::decode("trip event", &event.payload)?;
    let state = contract::required("state", decoded.state.as_ref())?;
    Ok(Told { trip, debt: wire::debt_of_state(trip, state)?, event })
}

fn charged(line: &ledger::ChargeLine) -> Charged {
    let is_settled = match line.state {
        ChargeState::Pending { .. } => false,
        ChargeState::Succeeded { .. } => true,
    };
    Charged { purpose: line.purpose, amount: line.amount, is_settled }
}

fn difference(debt: Option<&Debt>, charged: Option<Charged>) -> Option<Difference> {
    compare(debt.map(|debt| (debt.purpose, debt.amount)), charged)
}
