//! Taking up a ride: the idempotency record, the request and the outbox row in one transaction.

use common::{
    clock::Timestamp,
    event_store::Cause,
    id::{RiderId, TripId},
};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, params};

use super::{StoreError, outbox};
use crate::{
    domain::{
        idempotency::{Answer, Fingerprint, KEPT_FOR, Record, Verdict, judge},
        trip::Ride,
    },
    fare::FareError,
    wire,
};

/// Old idempotency records that one request clears away, so that the table stays small by itself.
const FORGET_MAX: u32 = 4;

/// A request for a ride, ready to be written.
#[derive(Debug, Clone)]
pub struct RideOrder {
    /// Who asks.
    pub rider: RiderId,
    /// The `Idempotency-Key`.
    pub key: String,
    /// What it stands for.
    pub fingerprint: Fingerprint,
    /// Broker time.
    pub now: Timestamp,
    /// The request's trace.
    pub cause: Cause,
    /// What to write and to answer, unless the fare cannot be used. A phone that asks again gets
    /// its answer even then.
    pub ride: Result<(Ride, Answer), FareError>,
}

/// A ride that is taken up, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What to answer.
    pub answer: Answer,
    /// The phone had asked before.
    pub is_replay: bool,
}

/// Why a ride is not taken up.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The key stands for something else.
    #[error("the idempotency key was used for something else")]
    KeyReused,
    /// The rider is on a trip.
    #[error("the rider is on trip {0}")]
    TripInProgress(TripId),
    /// The fare cannot be used.
    #[error(transparent)]
    Fare(#[from] FareError),
    /// It could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for OrderError {
    fn from(err: rusqlite::Error) -> Self {
        Self::Store(err.into())
    }
}

/// Takes up a ride, once for each key.
///
/// # Errors
/// Why it is not taken up. Nothing is written then.
pub fn accept(connection: &Connection, order: RideOrder) -> Result<Accepted, OrderError> {
    let record = recall(connection, order.rider, &order.key)?;
    match judge(record, &order.fingerprint, order.now) {
        Verdict::Replay(answer) => return Ok(Accepted { answer, is_replay: true }),
        Verdict::Reused => return Err(OrderError::KeyReused),
        Verdict::CarryOut => (),
    }
    let (ride, answer) = order.ride?;
    if let Some(trip) = open_trip(connection, order.rider)? {
        return Err(OrderError::TripInProgress(trip));
    }
    let requested = wire::ride_requested(&ride);
    connection
        .prepare_cached(
            "INSERT INTO ride_request (trip, rider, request, requested_at_us)
             VALUES ($1, $2, $3, $4)",
        )?
        .execute(params![
            ride.trip.0,
            ride.rider.0,
            requested.encode_to_vec(),
            ride.requested_at.micros(),
        ])?;
    outbox::push(connection, &wire::ride_requested_event(&ride, requested, order.cause))?;
    let record = Record { fingerprint: order.fingerprint, answer, created_at: order.now };
    remember(connection, order.rider, &order.key, &record)?;
    forget_old(connection, order.now)?;
    Ok(Accepted { answer: record.answer, is_replay: false })
}

fn recall(
    connection: &Connection,
    rider: RiderId,
    key: &str,
) -> Result<Option<Record>, StoreError> {
    Ok(connection
        .prepare_cached(
            "SELECT fingerprint, status, body, created_at_us FROM idempotency
             WHERE rider = $1 AND key = $2",
        )?
        .query_row(params![rider.0, key], |row| {
            Ok(Record {
                fingerprint: row.get(0)?,
                answer: Answer { status: row.get(1)?, body: row.get(2)? },
                created_at: Timestamp::from_micros(row.get(3)?),
            })
        })
        .optional()?)
}

fn remember(
    connection: &Connection,
    rider: RiderId,
    key: &str,
    record: &Record,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO idempotency (rider, key, fingerprint, status, body, created_at_us)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (rider, key) DO UPDATE SET fingerprint = excluded.fingerprint,
                 status = excluded.status, body = excluded.body,
                 created_at_us = excluded.created_at_us",
        )?
        .execute(params![
            rider.0,
            key,
            record.fingerprint,
            record.answer.status,
            record.answer.body,
            record.created_at.micros(),
        ])?;
    Ok(())
}

fn forget_old(connection: &Connection, now: Timestamp) -> Result<(), StoreError> {
    let kept_for = i64::try_from(KEPT_FOR.as_micros()).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "DELETE FROM idempotency WHERE (rider, key) IN
                 (SELECT rider, key FROM idempotency WHERE created_at_us < $1 LIMIT $2)",
        )?
        .execute(params![now.micros().saturating_sub(kept_for), FORGET_MAX])?;
    Ok(())
}

/// The trip that a rider is on, as far as this store knows.
///
/// # Errors
/// When the store fails.
pub fn open_trip(connection: &Connection, rider: RiderId) -> Result<Option<TripId>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT trip FROM ride_request WHERE rider = $1 AND ended = 0")?
        .query_row([rider.0], |row| row.get(0).map(TripId))
        .optional()?)
}
