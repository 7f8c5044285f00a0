//! How a request that carries an `Idempotency-Key` is answered when the key was seen before.

use std::time::Duration;

use common::clock::Timestamp;

/// How long an answer is kept. A key that comes later is a new one.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// SHA-256 of what was asked for.
pub type Fingerprint = [u8; 32];

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON.
    pub body: String,
}

/// What is remembered of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What was asked for.
    pub fingerprint: Fingerprint,
    /// What was answered.
    pub answer: Answer,
    /// Broker time.
    pub created_at: Timestamp,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The key is new: carry it out. The record and the effect are one transaction, so nobody ever
    /// sees a key of which the answer is not known yet.
    CarryOut,
    /// The phone asks again: the same answer.
    Replay(Answer),
    /// The key stands for something else.
    Reused,
}

/// What to do with a request of this fingerprint.
#[must_use]
pub fn judge(record: Option<Record>, asked: &Fingerprint, now: Timestamp) -> Verdict {
    match record {
        None => Verdict::CarryOut,
        Some(record) if now.since(record.created_at) > KEPT_FOR => Verdict::CarryOut,
        Some(record) if record.fingerprint == *asked => Verdict::Replay(record.answer),
        Some(_) => Verdict::Reused,
    }
}
