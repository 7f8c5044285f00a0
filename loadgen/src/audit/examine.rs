//! Gathers the evidence and audits it. The log may hold earlier runs: it is audited whole, but money
//! and pings from before the marks may be in books that are not there any more.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use common::{contract::v1, id::TripId, nats::Nats};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    Verdict,
    books::Books,
    broker::BrokerEvidence,
    evidence::{Evidence, PingEvidence, ProviderCharge, counted_pings, journaled},
    facts::TripFacts,
    log::{Entry, Log},
    projections,
    settle::{Unsettled, settle},
    sources::{Marks, Sources},
};
use crate::{
    client::{Ask, HttpClient, Service},
    journal::PingTotals,
};

/// How often the log is read on while something still happens.
const READINGS_MAX: u32 = 5;

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
    let mut evidence = Evidence { poison: sources.poison.clone(), ..Evidence::default() };
    let ignored = sources.poison.iter().map(|poison| (poison.stream.clone(), poison.sequence));
    evidence.log.ignored = ignored.collect();
    let unsettled = read_at_rest(nats, sources, &mut evidence.log, deadline).await?;
    if !sources.journals.is_empty() {
        let counted = counted_pings(nats).await?.saturating_sub(sources.since.pings());
        let mut answered = PingTotals::default();
        for journal in sources.journals.clone() {
            let read = tokio::task::spawn_blocking(move || journaled(&journal)).await??;
            evidence.attempts.extend(read.attempts);
            evidence.promises.extend(read.promises);
            evidence.receipts.extend(read.receipts);
            answered.accepted += read.pings.accepted;
            answered.unknown += read.pings.unknown;
        }
        evidence.is_whole_city = sources.is_whole_city;
        evidence.pings = Some(PingEvidence { answered, counted });
    }
    if let Some(store) = &sources.rider_store {
        evidence.books = Some(Books::read(store).await?);
    }
    if let Some(payments) = &sources.payments {
        evidence.provider = Some(charges(payments).await?);
    }
    evidence.read_at = Some(nats.clock.now());
    evidence.broker = Some(Box::pin(BrokerEvidence::read(nats)).await?);
    evidence.earlier = earlier(&evidence.log, sources.since);
    evidence.projections = Box::pin(projections::read(nats, sources, &evidence)).await?;
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
    let store = sources.rider_store.as_ref();
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

/// The trips that were over before the run began.
fn earlier(log: &Log, since: Marks) -> BTreeSet<TripId> {
    let was_over = |entries: &[Entry<v1::TripEvent>]| {
        let last = entries.iter().rev().find(|entry| entry.sequence <= since.trips());
        let state = last.and_then(|entry| entry.event.state.as_ref());
        state.is_some_and(|state| TripFacts::carried(state).is_over())
    };
    log.trips.iter().filter(|(_, entries)| was_over(entries)).map(|(trip, _)| *trip).collect()
}

#[cfg(test)]
mod tests {
    use super::{Marks, earlier};
    use crate::audit::{Verdict, tests::a_ride};

    #[test]
    fn a_trip_that_was_over_before_the_run_may_be_missing_in_new_books() {
        let mut evidence = a_ride();
        evidence.earlier = earlier(&evidence.log, Marks::at(1_000, 0));
        assert_eq!(evidence.earlier.len(), 1);
        evidence.provider = Some(Vec::new());
        evidence.books = Some(Default::default());
        let verdict = Verdict::of(&evidence);
        assert_eq!(verdict.violations, []);
        assert_eq!(verdict.tallies.completed, 0);
    }

    #[test]
    fn a_trip_that_ended_in_the_run_must_be_in_its_books() {
        let mut evidence = a_ride();
        evidence.earlier = earlier(&evidence.log, Marks::at(5, 0));
        assert!(evidence.earlier.is_empty());
        evidence.provider = Some(Vec::new());
        assert_eq!(Verdict::of(&evidence).violations.len(), 1);
    }
}
