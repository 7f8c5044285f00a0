//! Rows of the outbox: events that are facts here and not yet on the broker.

use common::{
    clock::Timestamp,
    event_store::Cause,
    id::{EventId, RiderId},
};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::StoreError;

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

/// Puts an event behind all others of its key. One that is there already stays as it is.
///
/// # Errors
/// When the store fails.
pub fn push(connection: &Connection, event: &NewEvent) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO outbox
                 (key, event, kind, correlation, causation, traceparent, payload, created_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (event) DO NOTHING",
        )?
        .execute(params![
            event.key.0,
            event.event.0,
            event.kind,
            event.correlation,
            event.cause.id,
            event.cause.traceparent,
            event.payload,
            event.at.micros(),
        ])?;
    Ok(())
}

/// The first event that waits of each key, oldest first.
///
/// # Errors
/// When the store fails.
pub fn heads(connection: &Connection, limit: u32) -> Result<Vec<Waiting>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, key, event, kind, correlation, causation, traceparent, payload, created_at_us,
                COALESCE((SELECT MAX(sent.published_sequence) FROM outbox AS sent
                          WHERE sent.key = outbox.key AND sent.published_sequence IS NOT NULL), 0)
         FROM outbox
         WHERE id IN (SELECT MIN(id) FROM outbox WHERE published_sequence IS NULL GROUP BY key)
         ORDER BY id LIMIT $1",
    )?;
    let rows = statement.query_map([limit], waiting)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn waiting(row: &Row<'_>) -> rusqlite::Result<Waiting> {
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
pub fn published(connection: &Connection, id: i64, sequence: u64) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE outbox SET published_sequence = $1 WHERE id = $2")?
        .execute(params![to_row(sequence), id])?;
    Ok(())
}

/// How many events wait.
///
/// # Errors
/// When the store fails.
pub fn count_waiting(connection: &Connection) -> Result<u64, StoreError> {
    let count: i64 = connection
        .prepare_cached("SELECT COUNT(*) FROM outbox WHERE published_sequence IS NULL")?
        .query_row([], |row| row.get(0))?;
    Ok(from_row(count))
}

/// Removes some rows of the oldest that the broker has had since before `before`. Should a key lose
/// its last one, its next event finds its place by asking the broker.
///
/// # Errors
/// When the store fails.
pub fn prune(connection: &Connection, before: Timestamp) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT $1)
             AND created_at_us < $2 AND published_sequence IS NOT NULL",
        )?
        .execute(params![PRUNE_MAX, before.micros()])?;
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
