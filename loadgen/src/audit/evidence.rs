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
use serde::Deserialize;

use super::{
    books::Books, broker::BrokerEvidence, log::Log, projections::Projection, sources::Poison,
};
use crate::journal::{self, Attempt, Entry, PingTotals, Promise, Receipt};

/// What is audited. What is `None` was not asked for and is not compared.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// All events.
    pub log: Log,
    /// Broker time when the log was read; without it nothing is overdue.
    pub read_at: Option<Timestamp>,
    /// What the broker says beside the events.
    pub broker: Option<BrokerEvidence>,
    /// What services show, and what they should.
    pub projections: Vec<Projection>,
    /// What was made to fail.
    pub poison: Vec<Poison>,
    /// Trips of earlier runs, whose money may be in books of theirs.
    pub earlier: BTreeSet<TripId>,
    /// Every 2xx that a phone received for a command.
    pub promises: Vec<Promise>,
    /// Every command that a phone has begun to send.
    pub attempts: Vec<Attempt>,
    /// Every paid receipt that a phone was shown.
    pub receipts: Vec<Receipt>,
    /// Whether all phones that there are keep journals that are read: then what none of them has
    /// tried must not be in the log.
    pub is_whole_city: bool,
    /// What the rider service wrote in its own store.
    pub books: Option<Books>,
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

/// What a journal says.
#[derive(Debug, Clone, Default)]
pub struct Journaled {
    /// Every command that a phone has begun to send.
    pub attempts: Vec<Attempt>,
    /// Every 2xx that a phone received for a command.
    pub promises: Vec<Promise>,
    /// Every paid receipt that a phone was shown.
    pub receipts: Vec<Receipt>,
    /// How pings were answered.
    pub pings: PingTotals,
}

/// Reads what phones tried, what they were promised, and the last totals of their pings.
///
/// # Errors
/// When the file or a line of it cannot be read.
pub fn journaled(path: &Path) -> anyhow::Result<Journaled> {
    let lines = journal::read(path)
        .with_context(|| format!("cannot open the journal `{}`", path.display()))?;
    let mut journaled = Journaled::default();
    for line in lines {
        match line.with_context(|| format!("in the journal `{}`", path.display()))? {
            Entry::Run { .. } => {}
            Entry::Attempt(attempt) => journaled.attempts.push(attempt),
            Entry::Command(promise) => journaled.promises.push(promise),
            Entry::Receipt(receipt) => journaled.receipts.push(receipt),
            Entry::Pings { totals, .. } => journaled.pings = totals,
        }
    }
    Ok(journaled)
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
