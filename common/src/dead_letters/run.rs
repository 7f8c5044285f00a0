//! How far a replay of dead letters has come. It is kept with the letters, so that whoever is asked
//! can tell, and so that it is known later.

use async_nats::jetstream::stream::DirectGetErrorKind;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{OperationError, dlq, resolution::Order};
use crate::{
    clock::Timestamp,
    contract::Malformed,
    nats::Nats,
    scan::{Scan, ScanSpec},
    stream, subject,
    view::Start,
};

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// One letter is on its way; the others wait for what becomes of it.
    Canary,
    /// The others follow, at the rate that was ordered.
    Sending,
    /// All that could be sent were sent, and what became of them is known.
    Done,
    /// It was given up: too many failed again, or nobody answered.
    Stopped,
}

/// A replay of dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Run {
    /// Who, why, when, and its id.
    #[serde(flatten)]
    pub order: Order,
    /// Where it is.
    pub status: Status,
    /// Letters that were selected.
    pub selected: u64,
    /// Letters that cannot be sent back: expired, or of a consumer that takes nothing back.
    pub unsendable: u64,
    /// Letters that were sent back.
    pub sent: u64,
    /// Letters that their consumer has handled.
    pub handled: u64,
    /// Letters that their consumer gave up once more.
    pub failed: u64,
    /// Why it was given up.
    pub why: Option<String>,
    /// When this was so, in broker time.
    pub updated_at: Timestamp,
}

impl Run {
    pub(super) fn new(order: Order, now: Timestamp) -> Self {
        Self {
            order,
            status: Status::Canary,
            selected: 0,
            unsendable: 0,
            sent: 0,
            handled: 0,
            failed: 0,
            why: None,
            updated_at: now,
        }
    }

    /// Whether nothing more comes of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.status, Status::Done | Status::Stopped)
    }

    /// Letters of which it is known what became of them.
    pub(super) fn settled(&self) -> u64 {
        self.handled + self.failed
    }

    /// Puts it on record.
    pub(super) async fn keep(&mut self, nats: &Nats) -> Result<(), OperationError> {
        self.updated_at = nats.clock.now();
        let unavailable = |err: &dyn std::fmt::Display| anyhow::anyhow!("{err}");
        let record = serde_json::to_vec(self).map_err(|err| unavailable(&err))?;
        let subject = subject::replay_run(self.order.run);
        let published = nats.jetstream.publish(subject, record.into()).await;
        published.map_err(|err| unavailable(&err))?.await.map_err(|err| unavailable(&err))?;
        Ok(())
    }
}

/// Puts on record that a run was ordered.
///
/// # Errors
/// When that cannot be stored.
pub async fn announce(nats: &Nats, order: &Order) -> Result<(), OperationError> {
    Run::new(order.clone(), nats.clock.now()).keep(nats).await
}

/// How far a run has come; nothing if there is none of that id.
///
/// # Errors
/// When the broker cannot be asked.
pub async fn last_run(nats: &Nats, run: Uuid) -> Result<Option<Run>, OperationError> {
    match dlq(nats).await?.direct_get_last_for_subject(subject::replay_run(run)).await {
        Ok(found) => Ok(Some(parse(&found.payload)?)),
        Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(err) => Err(OperationError::Unavailable(err.into())),
    }
}

/// The runs of late, the one that changed last first, at most so many.
///
/// # Errors
/// When the broker cannot be asked.
pub async fn runs(nats: &Nats, limit: usize) -> Result<Vec<Run>, OperationError> {
    let spec = ScanSpec {
        stream: stream::DLQ,
        filters: vec![subject::REPLAY_RUNS.to_owned()],
        start: Start::LastPerSubject,
        headers_only: false,
    };
    let mut scan = Scan::open(nats, spec).await?;
    let mut runs = Vec::new();
    while let Some(stored) = scan.next().await? {
        runs.push(parse(&stored.payload)?);
    }
    runs.reverse();
    runs.truncate(limit);
    Ok(runs)
}

fn parse(payload: &[u8]) -> Result<Run, Malformed> {
    serde_json::from_slice(payload).map_err(|err| Malformed::new("replay run", err))
}
