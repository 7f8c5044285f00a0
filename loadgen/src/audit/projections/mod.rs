//! Projections: what running services show, beside what the log folds to from its first event. Views
//! follow the log, so a look waits for them a moment.

mod ask;
mod folded;

use std::collections::BTreeMap;

use common::nats::Nats;
use serde::Serialize;

use self::ask::Asker;
use super::{books::Books, evidence::Evidence, settle::LOOK_EVERY, sources::Sources};
use crate::journal::fingerprint;

/// Looks at a view before what it shows counts as what it means.
const LOOKS_MAX: u32 = 20;

/// A projection as it is shown and as it should be: by key, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Projection {
    /// Whose it is, and which.
    pub name: String,
    /// What is shown.
    pub shown: BTreeMap<String, String>,
    /// What the log folds to.
    pub folded: BTreeMap<String, String>,
}

/// A projection in a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Projected {
    /// Whose it is, and which.
    pub projection: String,
    /// How many entries were compared.
    pub entries: usize,
    /// SHA-256 of what is shown.
    pub shown_sha256: String,
    /// SHA-256 of what the log folds to.
    pub folded_sha256: String,
}

impl Projection {
    /// Where what is shown is not what should be: key, shown, folded.
    pub(super) fn differences(&self) -> impl Iterator<Item = (String, String, String)> {
        let nothing = || "nothing".to_owned();
        let of = move |map: &BTreeMap<String, String>, key| {
            map.get(key).cloned().unwrap_or_else(nothing)
        };
        let missing = self.shown.keys().filter(|key| !self.folded.contains_key(*key));
        let keys = self.folded.keys().chain(missing);
        let differ = keys.filter(|key| self.shown.get(*key) != self.folded.get(*key));
        differ.map(move |key| (key.clone(), of(&self.shown, key), of(&self.folded, key)))
    }

    /// As a verdict keeps it.
    #[must_use]
    pub fn projected(&self) -> Projected {
        let hash = |map: &BTreeMap<String, String>| {
            let lines: Vec<String> = map.iter().map(|(key, it)| format!("{key} {it}\n")).collect();
            fingerprint(lines.concat().as_bytes())
        };
        Projected {
            projection: self.name.clone(),
            entries: self.folded.len(),
            shown_sha256: hash(&self.shown),
            folded_sha256: hash(&self.folded),
        }
    }
}

/// Asks the services, again while what they show is not yet what it should be.
///
/// # Errors
/// When a service does not answer.
pub(super) async fn read(
    nats: &Nats,
    sources: &Sources,
    evidence: &Evidence,
) -> anyhow::Result<Vec<Projection>> {
    let mut looks = 0;
    loop {
        looks += 1;
        let projections = look(nats, sources, evidence).await?;
        let differs = projections.iter().any(|it| it.shown != it.folded);
        if !differs || looks == LOOKS_MAX {
            return Ok(projections);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(
    nats: &Nats,
    sources: &Sources,
    evidence: &Evidence,
) -> anyhow::Result<Vec<Projection>> {
    let log = &evidence.log;
    let mut all = Vec::new();
    if let Some(place) = &sources.rider_store {
        all.push(Projection {
            name: "rider: trips".to_owned(),
            shown: folded::of_books(&Books::read(place).await?, &evidence.earlier),
            folded: folded::riders_trips(log, &evidence.earlier),
        });
    }
    let asker = Asker::new();
    let folded = folded::earnings(log);
    for service in &sources.services.driver {
        all.push(Projection {
            name: format!("driver {service}: earnings"),
            shown: asker.earnings(service, folded.keys()).await?,
            folded: folded.clone(),
        });
    }
    for service in &sources.services.trip {
        all.push(Projection {
            name: format!("trip {service}: invariants"),
            shown: asker.invariants(service).await?,
            folded: folded::invariants(log),
        });
    }
    if sources.asks_location {
        all.push(Projection {
            name: "location: who does what".to_owned(),
            shown: ask::activities(nats, log.drivers.keys()).await?,
            folded: folded::activities(log),
        });
    }
    Ok(all)
}
