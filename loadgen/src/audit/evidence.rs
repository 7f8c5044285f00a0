//! Everything that the audit compares: what phones were promised (journal), what is stored (log),
//! what was charged (ledger, provider) and what was counted (location).

use std::{collections::BTreeSet, path::Path};

use anyhow::Context as _;
use common::{
    clock::Timestamp,
    contract::{decode, v1},
    id::TripId,
    nats::Nats,
    subject,
};
use prost::Message as _;
use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;
use uuid::Uuid;

use super::log::Log;
use crate::journal::{self, Entry, PingTotals, Promise};

/// What is audited. What is `None` was not asked for and is not compared.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// All events.
    pub log: Log,
    /// Broker time when the log was read; without it nothing is overdue.
    pub read_at: Option<Timestamp>,
    /// Trips of earlier runs, whose money may be in books of theirs.
    pub earlier: BTreeSet<TripId>,
    /// Every 2xx that a phone received for a command.
    pub promises: Vec<Promise>,
    /// What the rider service wrote in its own store.
    pub ledger: Option<Ledger>,
    /// What the payment provider says it collected.
    pub provider: Option<Vec<ProviderCharge>>,
    /// How pings were answered and how many were counted.
    pub pings: Option<PingEvidence>,
}

/// Answers to pings and what `location` made of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingEvidence {
    /// As the phones were answered.
    pub answered: PingTotals,
    /// As they were counted, all classes together.
    pub counted: u64,
}

/// The rider service's books.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Every charge.
    pub charges: Vec<LedgerCharge>,
    /// Sums of single steps that are not zero, added up without their signs.
    pub unbalanced: i64,
}

/// A charge in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerCharge {
    /// For which trip.
    pub trip: TripId,
    /// `fare` or `cancellation_fee`.
    pub purpose: String,
    /// Minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// Whether the provider has the money.
    pub is_settled: bool,
}

/// A charge as the provider lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProviderCharge {
    /// The provider's name for it.
    pub charge_id: String,
    /// Our name for it: `<trip>:<purpose>`.
    pub reference: String,
    /// Minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
}

impl Ledger {
    /// Reads the books; changes nothing.
    ///
    /// # Errors
    /// When the file is not the rider service's store.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let store = open(path)?;
        let mut charges = store.prepare(
            "SELECT trip, purpose, amount_minor, currency, settled_at_us IS NOT NULL FROM charge",
        )?;
        let charges = charges
            .query_map([], |row| {
                Ok(LedgerCharge {
                    trip: TripId(row.get::<_, Uuid>(0)?),
                    purpose: row.get(1)?,
                    amount_minor: row.get(2)?,
                    currency: row.get(3)?,
                    is_settled: row.get(4)?,
                })
            })?
            .collect::<Result<_, _>>()?;
        let unbalanced = store.query_row(
            "SELECT COALESCE(SUM(ABS(amount)), 0) FROM (
                 SELECT SUM(amount_minor) AS amount FROM posting
                 GROUP BY trip, purpose, step, currency)",
            [],
            |row| row.get(0),
        )?;
        Ok(Self { charges, unbalanced })
    }
}

/// How many of the rider service's events still wait for the broker, and how many charges for the
/// provider.
///
/// # Errors
/// When the file is not the rider service's store.
pub fn waiting(path: &Path) -> anyhow::Result<(u64, u64)> {
    let store = open(path)?;
    let count = |sql: &str| -> anyhow::Result<u64> {
        let rows: i64 = store.query_row(sql, [], |row| row.get(0))?;
        Ok(u64::try_from(rows)?)
    };
    Ok((
        count("SELECT COUNT(*) FROM outbox WHERE published_sequence IS NULL")?,
        count("SELECT COUNT(*) FROM charge WHERE settled_at_us IS NULL")?,
    ))
}

fn open(path: &Path) -> anyhow::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("cannot open the rider's store `{}`", path.display()))
}

/// Reads what phones were promised, and the last totals of their pings.
///
/// # Errors
/// When the file or a line of it cannot be read.
pub fn promises(path: &Path) -> anyhow::Result<(Vec<Promise>, PingTotals)> {
    let lines = journal::read(path)
        .with_context(|| format!("cannot open the journal `{}`", path.display()))?;
    let (mut promises, mut pings) = (Vec::new(), PingTotals::default());
    for line in lines {
        match line.with_context(|| format!("in the journal `{}`", path.display()))? {
            Entry::Run { .. } => {}
            Entry::Command(promise) => promises.push(promise),
            Entry::Pings { totals, .. } => pings = totals,
        }
    }
    Ok((promises, pings))
}

/// How many pings `location` has counted, all classes together.
///
/// # Errors
/// When it does not answer.
pub async fn counted_pings(nats: &Nats) -> anyhow::Result<u64> {
    let request = v1::CountsRequest {}.encode_to_vec();
    let reply = nats
        .client
        .request(subject::QUERY_COUNTS, request.into())
        .await
        .context("location does not say how many pings it counted")?;
    let reply: v1::CountsReply = decode("counts reply", &reply.payload)?;
    let counts = reply.counts.unwrap_or_default();
    Ok(counts.fresh + counts.late + counts.duplicate + counts.clamped + counts.implausible)
}
