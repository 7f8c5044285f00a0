//! What a comparison of the ledger with the log found, as it is kept and shown.

use std::collections::BTreeMap;

use async_nats::jetstream::stream::DirectGetErrorKind;
use common::{
    clock::Timestamp,
    contract::Malformed,
    dead_letters::{Order, Run},
    id::TripId,
    money::Money,
    nats::Nats,
    stream, subject,
};
use serde::{Deserialize, Serialize};

use crate::domain::{
    charge::Debt,
    reconciliation::{Charged, Difference},
};

/// So many differences are listed; all are counted.
const LISTED_MAX: usize = 1_000;

/// A trip that is not charged as the log says it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Line {
    /// Which trip.
    #[schema(value_type = uuid::Uuid)]
    pub trip_id: TripId,
    /// What is wrong.
    pub difference: Difference,
    /// What the log says that it cost.
    pub owed: Option<Money>,
    /// What the ledger has.
    pub charged: Option<Money>,
    /// Why it could not be made right.
    pub why: Option<String>,
}

/// How many, and how much of each currency.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Total {
    /// How many trips.
    pub trips: u64,
    /// Minor units by currency.
    pub minor: BTreeMap<String, i64>,
}

impl Total {
    fn add(&mut self, amount: Money) {
        self.trips += 1;
        let sum = self.minor.entry(amount.currency.code().to_owned()).or_default();
        *sum = sum.saturating_add(amount.amount_minor);
    }
}

/// What a comparison of the ledger with the log found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Report {
    /// Who wanted it, why and when.
    #[serde(flatten)]
    pub order: Order,
    /// When it was done.
    pub ended_at: Timestamp,
    /// Whether what is owed is what was charged, for every trip and to the cent.
    pub is_balanced: bool,
    /// Trips of the log that were compared.
    pub compared: u64,
    /// What trips cost, by the log.
    pub owed: Total,
    /// What the provider has, by the ledger.
    pub charged: Total,
    /// Missing charges that were made by this comparison.
    pub made: Total,
    /// Trips that are not right.
    pub different: u64,
    /// Those of them that are listed.
    pub differences: Vec<Line>,
    /// The replays of missed fares before it.
    pub replays: Vec<Run>,
}

impl Report {
    pub(super) fn new(order: Order, replays: Vec<Run>) -> Self {
        Self {
            ended_at: order.at,
            order,
            is_balanced: false,
            compared: 0,
            owed: Total::default(),
            charged: Total::default(),
            made: Total::default(),
            different: 0,
            differences: Vec::new(),
            replays,
        }
    }

    pub(super) fn count(&mut self, debt: Option<&Debt>, charged: Option<Charged>) {
        self.compared += 1;
        if let Some(debt) = debt {
            self.owed.add(debt.amount);
        }
        if let Some(charged) = charged.filter(|charged| charged.is_settled) {
            self.charged.add(charged.amount);
        }
    }

    pub(super) fn made(&mut self, debt: &Debt) {
        self.made.add(debt.amount);
    }

    pub(super) fn list(&mut self, line: Line) {
        self.different += 1;
        if self.differences.len() < LISTED_MAX {
            self.differences.push(line);
        }
    }

    pub(super) fn close(&mut self, now: Timestamp) {
        self.is_balanced = self.different == 0 && self.owed == self.charged;
        self.ended_at = now;
    }

    /// Keeps it, for whoever asks.
    pub(super) async fn keep(&self, nats: &Nats) -> anyhow::Result<()> {
        let record = serde_json::to_vec(self)?;
        let subject = subject::RECONCILIATION_REPORT;
        nats.jetstream.publish(subject, record.into()).await?.await?;
        Ok(())
    }
}

/// The last report; nothing before the first one.
pub(crate) async fn last(nats: &Nats) -> anyhow::Result<Option<Report>> {
    let held = nats.jetstream.get_stream_no_info(stream::CRON).await?;
    match held.direct_get_last_for_subject(subject::RECONCILIATION_REPORT).await {
        Ok(found) => Ok(Some(
            serde_json::from_slice(&found.payload).map_err(|err| Malformed::new("report", err))?,
        )),
        Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(err) => Err(err.into()),
    }
}
