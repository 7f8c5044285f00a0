//! Taking up a ride: the idempotency record, the request and the outbox row in one transaction.

use common::{
    clock::Timestamp,
    contract::Malformed,
    event_store::Cause,
    id::{RiderId, TripId},
    planted::{self, Planted},
    room::Full,
};
use prost::Message as _;

use super::{StoreError, Tx, outbox};
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
    /// What to write and to answer, unless there is no ride to be had. A phone that asks again gets
    /// its answer even then.
    pub ride: Result<(Ride, Answer), NoRide>,
}

/// Why there is no ride to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRide {
    /// The fare cannot be used.
    #[error(transparent)]
    Fare(#[from] FareError),
    /// The system has no room for new rides.
    #[error(transparent)]
    NoRoom(#[from] Full),
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
    /// There is none.
    #[error(transparent)]
    NoRide(#[from] NoRide),
    /// It could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes up a ride, once for each key. A rider's requests take turns, so that of two with the same
/// key the second finds the first one's answer, and of two with different keys its trip.
///
/// # Errors
/// Why it is not taken up. Nothing is written then.
pub fn accept(tx: &Tx<'_>, order: &RideOrder) -> Result<Accepted, OrderError> {
    outbox::lock(tx, order.rider)?;
    if !planted::is_on(Planted::NoIdempotencyKey)
        && let Some(accepted) = answered(tx, order)?
    {
        return Ok(accepted);
    }
    let (ride, answer) = order.ride.clone()?;
    if let Some(trip) = open_trip(tx, order.rider)? {
        return Err(OrderError::TripInProgress(trip));
    }
    let requested = wire::ride_requested(&ride);
    tx.execute(
        "INSERT INTO ride_request (trip, rider, request, requested_at_us) VALUES ($1, $2, $3, $4)",
        &[
            ride.trip.0.into(),
            ride.rider.0.into(),
            requested.encode_to_vec().as_slice().into(),
            ride.requested_at.micros().into(),
        ],
    )?;
    outbox::push(tx, &wire::ride_requested_event(&ride, requested, order.cause.clone()))?;
    let record = Record { fingerprint: order.fingerprint, answer, created_at: order.now };
    remember(tx, order.rider, &order.key, &record)?;
    forget_old(tx, order.now)?;
    Ok(Accepted { answer: record.answer, is_replay: false })
}

/// What was answered when this was asked before; nothing is taken up.
///
/// # Errors
/// When the key stands for something else.
pub fn answered(tx: &Tx<'_>, order: &RideOrder) -> Result<Option<Accepted>, OrderError> {
    let record = recall(tx, order.rider, &order.key)?;
    match judge(record, &order.fingerprint, order.now) {
        Verdict::Replay(answer) => Ok(Some(Accepted { answer, is_replay: true })),
        Verdict::Reused => Err(OrderError::KeyReused),
        Verdict::CarryOut => Ok(None),
    }
}

fn recall(tx: &Tx<'_>, rider: RiderId, key: &str) -> Result<Option<Record>, StoreError> {
    tx.query_one(
        "SELECT fingerprint, status, body, created_at_us FROM idempotency
         WHERE rider = $1 AND key = $2",
        &[rider.0.into(), key.into()],
        |row| {
            let fingerprint = row.get::<Vec<u8>>(0)?.try_into();
            let status = u16::try_from(row.get::<i64>(1)?);
            Ok(Record {
                fingerprint: fingerprint
                    .map_err(|_| Malformed::new("fingerprint", "its length"))?,
                answer: Answer {
                    status: status.map_err(|err| Malformed::new("status", err))?,
                    body: row.get(2)?,
                },
                created_at: Timestamp::from_micros(row.get(3)?),
            })
        },
    )
}

fn remember(tx: &Tx<'_>, rider: RiderId, key: &str, record: &Record) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO idempotency (rider, key, fingerprint, status, body, created_at_us)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (rider, key) DO UPDATE SET fingerprint = excluded.fingerprint,
             status = excluded.status, body = excluded.body,
             created_at_us = excluded.created_at_us",
        &[
            rider.0.into(),
            key.into(),
            record.fingerprint.as_slice().into(),
            i64::from(record.answer.status).into(),
            record.answer.body.as_str().into(),
            record.created_at.micros().into(),
        ],
    )?;
    Ok(())
}

fn forget_old(tx: &Tx<'_>, now: Timestamp) -> Result<(), StoreError> {
    let kept_for = i64::try_from(KEPT_FOR.as_micros()).unwrap_or(i64::MAX);
    tx.execute(
        "DELETE FROM idempotency WHERE (rider, key) IN
             (SELECT rider, key FROM idempotency WHERE created_at_us < $1 LIMIT $2)",
        &[now.micros().saturating_sub(kept_for).into(), FORGET_MAX.into()],
    )?;
    Ok(())
}

/// The trip that a rider is on, as far as this store knows.
///
/// # Errors
/// When the store fails.
pub fn open_trip(tx: &Tx<'_>, rider: RiderId) -> Result<Option<TripId>, StoreError> {
    tx.query_one(
        "SELECT trip FROM ride_request WHERE rider = $1 AND ended = 0",
        &[rider.0.into()],
        |row| row.get(0).map(TripId),
    )
}
