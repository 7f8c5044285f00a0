//! Rows of the outbox: events that are facts here and not yet on the broker.

use common::{
    clock::Timestamp,
    event_store::Cause,
    id::{EventId, RiderId},
};
use uuid::Uuid;

use super::{Row, StoreError, Tx, lease::Slots};

/// Rows that one publication clears away: more than it adds, so that the table stays small by itself.
const PRUNE_MAX: u32 = 4;

/// An event on its way out.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Whose order it belongs to.
    pub key: RiderId,
    /// `ce-id`.
    pub event: EventId,
    /// `ce-type`.
    pub kind: &'static str,
    /// The ride.
    pub correlation: Uuid,
    /// What caused it, and its trace.
    pub cause: Cause,
    /// The contract's RiderEvent.
    pub payload: Vec<u8>,
    /// Broker time.
    pub at: Timestamp,
}

/// An event that waits.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The row.
    pub id: i64,
    /// Whose order it belongs to.
    pub key: RiderId,
    /// `ce-id`.
    pub event: EventId,
    /// `ce-type`.
    pub kind: String,
    /// The ride.
    pub correlation: Uuid,
    /// What caused it, and its trace.
    pub cause: Cause,
    /// The contract's RiderEvent.
    pub payload: Vec<u8>,
    /// Broker time.
    pub at: Timestamp,
    /// The sequence of the event before it of its key, as far as it was recorded; else 0.
    pub after: u64,
}

/// Lets one transaction at a time write what concerns a rider: numbers are drawn when a row is
/// written and not when it is committed, and a later number must not be seen before a sooner one.
///
/// # Errors
/// When the store fails.
pub fn lock(tx: &Tx<'_>, key: RiderId) -> Result<(), StoreError> {
    tx.lock(&format!("rider {key}"))
}

/// Puts an event behind all others of its key. One that is there already stays as it is.
///
/// # Errors
/// When the store fails.
pub fn push(tx: &Tx<'_>, event: &NewEvent) -> Result<(), StoreError> {
    lock(tx, event.key)?;
    tx.execute(
        "INSERT INTO outbox
             (key, event, kind, correlation, causation, traceparent, payload, created_at_us, slot)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (event) DO NOTHING",
        &[
            event.key.0.into(),
            event.event.0.into(),
            event.kind.into(),
            event.correlation.into(),
            event.cause.id.into(),
            event.cause.traceparent.as_deref().into(),
            event.payload.as_slice().into(),
            event.at.micros().into(),
            i64::from(Slots::of(event.key)).into(),
        ],
    )?;
    Ok(())
}

/// The first event that waits of each key, oldest first.
///
/// # Errors
/// When the store fails.
pub fn heads(tx: &Tx<'_>, limit: u32) -> Result<Vec<Waiting>, StoreError> {
    heads_in(tx, Slots::ALL, limit)
}

/// [`heads`] of those keys that are in these parts of the outbox.
///
/// # Errors
/// When the store fails.
pub fn heads_in(tx: &Tx<'_>, slots: Slots, limit: u32) -> Result<Vec<Waiting>, StoreError> {
    tx.query(
        "SELECT id, key, event, kind, correlation, causation, traceparent, payload, created_at_us,
                COALESCE((SELECT MAX(sent.published_sequence) FROM outbox AS sent
                          WHERE sent.key = outbox.key AND sent.published_sequence IS NOT NULL), 0)
         FROM outbox
         WHERE published_sequence IS NULL
         AND ((CAST($1 AS BIGINT) >> CAST(slot AS INTEGER)) & 1) = 1 AND NOT EXISTS
             (SELECT 1 FROM outbox AS sooner WHERE sooner.key = outbox.key
              AND sooner.published_sequence IS NULL AND sooner.id < outbox.id)
         ORDER BY id LIMIT $2",
        &[slots.bits().into(), limit.into()],
        waiting,
    )
}

fn waiting(row: &Row<'_>) -> Result<Waiting, StoreError> {
    Ok(Waiting {
        id: row.get(0)?,
        key: RiderId(row.get(1)?),
        event: EventId(row.get(2)?),
        kind: row.get(3)?,
        correlation: row.get(4)?,
        cause: Cause { id: row.get(5)?, traceparent: row.get(6)? },
        payload: row.get(7)?,
        at: Timestamp::from_micros(row.get(8)?),
        after: from_row(row.get(9)?),
    })
}

/// Records that the broker has an event, and where.
///
/// # Errors
/// When the store fails.
pub fn published(tx: &Tx<'_>, id: i64, sequence: u64) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE outbox SET published_sequence = $1 WHERE id = $2",
        &[to_row(sequence).into(), id.into()],
    )?;
    Ok(())
}

/// Whether an event still waits, as far as anybody recorded.
///
/// # Errors
/// When the store fails.
pub fn is_waiting(tx: &Tx<'_>, id: i64) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM outbox WHERE id = $1 AND published_sequence IS NULL";
    Ok(tx.number(sql, &[id.into()])? > 0)
}

/// How many events wait.
///
/// # Errors
/// When the store fails.
pub fn count_waiting(tx: &Tx<'_>) -> Result<u64, StoreError> {
    let count = tx.number("SELECT COUNT(*) FROM outbox WHERE published_sequence IS NULL", &[])?;
    Ok(from_row(count))
}

/// Removes some rows of the oldest that the broker has had since before `before`. Should a key lose
/// its last one, its next event finds its place by asking the broker.
///
/// # Errors
/// When the store fails.
pub fn prune(tx: &Tx<'_>, before: Timestamp) -> Result<(), StoreError> {
    tx.execute(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT $1)
         AND created_at_us < $2 AND published_sequence IS NOT NULL",
        &[PRUNE_MAX.into(), before.micros().into()],
    )?;
    Ok(())
}

/// A number that the store keeps and that was never negative.
pub(super) fn from_row(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A sequence as the store keeps it: SQL knows no unsigned numbers. No stream gets that long.
pub(super) fn to_row(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}
