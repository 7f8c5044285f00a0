//! Gathers the evidence of one run and audits it. A broker or store may hold earlier runs: what
//! began before the marks were taken is left out.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use common::{
    id::TripId,
    nats::Nats,
    stream::{DRIVER, RIDER, TRIP},
};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    Verdict,
    evidence::{Evidence, Ledger, PingEvidence, ProviderCharge, counted_pings, promises},
    log::{Entry, Log},
    settle::{Unsettled, settle},
    timeline::rider_trip,
};
use crate::client::{Ask, HttpClient, Service};

/// How often the log is read on while something still happens.
const READINGS_MAX: u32 = 5;

/// Where the streams and the ping counts stood when a run began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    trips: u64,
    drivers: u64,
    riders: u64,
    pings: u64,
}

impl Marks {
    /// Where they stand now.
    ///
    /// # Errors
    /// When the broker or `location` cannot be asked.
    pub async fn now(nats: &Nats) -> anyhow::Result<Self> {
        Ok(Self {
            trips: last_sequence(nats, TRIP).await?,
            drivers: last_sequence(nats, DRIVER).await?,
            riders: last_sequence(nats, RIDER).await?,
            pings: counted_pings(nats).await?,
        })
    }
}

async fn last_sequence(nats: &Nats, stream: &str) -> anyhow::Result<u64> {
    let stream = nats.admin.get_stream(stream).await?;
    Ok(stream.cached_info().state.last_sequence)
}

/// Where the evidence is.
#[derive(Debug, Clone)]
pub struct Sources {
    /// What began before them is another run's.
    pub since: Marks,
    /// What phones were promised.
    pub journal: Option<PathBuf>,
    /// The rider service's books.
    pub rider_store: Option<PathBuf>,
    /// The payment provider.
    pub payments: Option<Service>,
}

/// What was found.
#[derive(Debug)]
pub struct Examined {
    /// What is wrong, if anything is.
    pub verdict: Verdict,
    /// Everything that was read, for timelines.
    pub log: Log,
    /// What was still on its way when the time to settle was over; its traces look like violations.
    pub unsettled: Option<Unsettled>,
}

/// Waits until nothing is on its way, gathers and audits.
///
/// # Errors
/// When some evidence cannot be had.
pub async fn examine(
    nats: &Nats,
    sources: &Sources,
    deadline: Instant,
) -> anyhow::Result<Examined> {
    let mut evidence = Evidence::default();
    let unsettled = read_at_rest(nats, sources, &mut evidence.log, deadline).await?;
    if let Some(journal) = sources.journal.clone() {
        let counted = counted_pings(nats).await?.saturating_sub(sources.since.pings);
        let (promised, answered) =
            tokio::task::spawn_blocking(move || promises(&journal)).await??;
        evidence.promises = promised;
        evidence.pings = Some(PingEvidence { answered, counted });
    }
    if let Some(store) = sources.rider_store.clone() {
        let ledger = tokio::task::spawn_blocking(move || Ledger::read(&store)).await??;
        evidence.ledger = Some(ledger);
    }
    if let Some(payments) = &sources.payments {
        evidence.provider = Some(charges(payments).await?);
    }
    leave_out_earlier_runs(&mut evidence, sources.since);
    let judge = move || (Verdict::of(&evidence), evidence.log);
    let (verdict, log) = tokio::task::spawn_blocking(judge).await?;
    Ok(Examined { verdict, log, unsettled })
}

/// Streams are read one after the other, so what happens meanwhile (a timer of a trip that goes on)
/// would be seen in one and not in another: read on until nothing new came since all was at rest.
async fn read_at_rest(
    nats: &Nats,
    sources: &Sources,
    log: &mut Log,
    deadline: Instant,
) -> anyhow::Result<Option<Unsettled>> {
    let store = sources.rider_store.as_deref();
    log.read(nats).await?;
    for _ in 0..READINGS_MAX {
        let unsettled = settle(nats, store, deadline).await?;
        if log.read(nats).await? == 0 || unsettled.is_some() {
            return Ok(unsettled);
        }
    }
    settle(nats, store, deadline).await
}

/// The provider's own list.
async fn charges(payments: &Service) -> anyhow::Result<Vec<ProviderCharge>> {
    #[derive(Deserialize)]
    struct List {
        charges: Vec<ProviderCharge>,
    }
    let asked = HttpClient::new(1).send(payments, &Ask::get("/v1/charges"), None).await;
    let answer = asked.with_context(|| format!("the payment provider at {payments}"))?;
    if !answer.is_success() {
        bail!("the payment provider at {payments} answers {}", answer.status);
    }
    Ok(answer.parse::<List>().context("the payment provider's list")?.charges)
}

fn leave_out_earlier_runs(evidence: &mut Evidence, since: Marks) {
    let log = &mut evidence.log;
    let mut earlier: BTreeSet<TripId> = BTreeSet::new();
    log.riders.retain(|entry| {
        let is_ours = entry.sequence > since.riders;
        if let Some(trip) = rider_trip(&entry.event).filter(|_| !is_ours) {
            earlier.insert(trip);
        }
        is_ours
    });
    log.trips.retain(|trip, entries| {
        let is_ours = !earlier.contains(trip) && began_after(entries, since.trips);
        if !is_ours {
            earlier.insert(*trip);
        }
        is_ours
    });
    log.riders.retain(|entry| rider_trip(&entry.event).is_none_or(|trip| !earlier.contains(&trip)));
    log.drivers.retain(|_, entries| began_after(entries, since.drivers));
    if let Some(ledger) = &mut evidence.ledger {
        ledger.charges.retain(|charge| !earlier.contains(&charge.trip));
    }
    if let Some(provider) = &mut evidence.provider {
        let trip = |reference: &str| reference.split(':').next()?.parse::<TripId>().ok();
        provider.retain(|it| trip(&it.reference).is_none_or(|trip| !earlier.contains(&trip)));
    }
}

fn began_after<E>(entries: &[Entry<E>], mark: u64) -> bool {
    entries.first().is_some_and(|entry| entry.sequence > mark)
}

impl Sources {
    /// Everything that a deployment has, with this journal.
    #[must_use]
    pub fn of_deployment(
        since: Marks,
        journal: &Path,
        rider_store: &Path,
        payments: &Service,
    ) -> Self {
        Self {
            since,
            journal: Some(journal.to_owned()),
            rider_store: Some(rider_store.to_owned()),
            payments: Some(payments.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Marks, leave_out_earlier_runs};
    use crate::audit::tests::a_ride;

    #[test]
    fn what_began_before_the_run_is_left_out_with_its_money() {
        let mut evidence = a_ride();
        let since = Marks { trips: 1_000, drivers: 1_000, riders: 1_000, pings: 0 };
        leave_out_earlier_runs(&mut evidence, since);
        assert!(evidence.log.is_empty());
        assert_eq!(evidence.ledger.map(|ledger| ledger.charges.len()), Some(0));
        assert_eq!(evidence.provider.map(|charges| charges.len()), Some(0));
    }

    #[test]
    fn what_began_after_it_stays() {
        let mut evidence = a_ride();
        leave_out_earlier_runs(&mut evidence, Marks::default());
        assert_eq!(evidence.log.trips.len(), 1);
        assert_eq!(evidence.provider.map(|charges| charges.len()), Some(1));
    }
}
