//! The rider's view of trips: what was asked for, and the newest state that is known of it.

use common::{
    clock::Timestamp,
    contract::{self, Malformed, v1},
    id::{RiderId, TripId},
};
use prost::Message as _;

use super::{
    Row, StoreError, Tx,
    outbox::{from_row, to_row},
};
use crate::{domain::trip::Trip, wire};

/// Takes over a trip's state, unless a newer one is known.
///
/// # Errors
/// When the store fails, or the snapshot is not one.
pub fn apply(tx: &Tx<'_>, snapshot: &v1::TripSnapshot) -> Result<(), StoreError> {
    let trip: TripId = contract::id("trip_id", &snapshot.trip_id)?;
    let state = contract::required("state", snapshot.state.as_ref())?;
    let rider = match RiderId::try_from(state.rider_id.as_slice()) {
        Ok(rider) => rider,
        // A trip that was cancelled before its request arrived may not know its rider. We do.
        Err(err) => match rider_of(tx, trip)? {
            Some(rider) => rider,
            None => return Err(Malformed::new("rider_id", err).into()),
        },
    };
    tx.execute(
        "INSERT INTO trip_view (trip, rider, sequence, snapshot) VALUES ($1, $2, $3, $4)
         ON CONFLICT (trip) DO UPDATE
         SET sequence = excluded.sequence, snapshot = excluded.snapshot
         WHERE excluded.sequence > trip_view.sequence",
        &[
            trip.0.into(),
            rider.0.into(),
            to_row(snapshot.sequence).into(),
            snapshot.encode_to_vec().as_slice().into(),
        ],
    )?;
    if state.phase().is_end() {
        tx.execute(
            "UPDATE ride_request SET ended = 1 WHERE trip = $1 AND ended = 0",
            &[trip.0.into()],
        )?;
    }
    Ok(())
}

fn rider_of(tx: &Tx<'_>, trip: TripId) -> Result<Option<RiderId>, StoreError> {
    tx.query_one("SELECT rider FROM ride_request WHERE trip = $1", &[trip.0.into()], |row| {
        row.get(0).map(RiderId)
    })
}

/// The trip of that name, if it is this rider's: what belongs to others does not exist.
///
/// # Errors
/// When the store fails.
pub fn find(tx: &Tx<'_>, rider: RiderId, trip: TripId) -> Result<Option<Trip>, StoreError> {
    let found = tx.query_one(
        "SELECT names.trip, ride_request.request, ride_request.requested_at_us, trip_view.snapshot
         FROM (SELECT trip FROM ride_request WHERE trip = $1 AND rider = $2
               UNION SELECT trip FROM trip_view WHERE trip = $1 AND rider = $2) AS names
         LEFT JOIN ride_request ON ride_request.trip = names.trip
         LEFT JOIN trip_view ON trip_view.trip = names.trip",
        &[trip.0.into(), rider.0.into()],
        read,
    )?;
    Ok(found.flatten())
}

/// A rider's trips, the newest first, those before `before`. Trip ids sort by time.
///
/// # Errors
/// When the store fails.
pub fn page(
    tx: &Tx<'_>,
    rider: RiderId,
    before: Option<TripId>,
    limit: u32,
) -> Result<Vec<Trip>, StoreError> {
    let before = before.unwrap_or(TripId(uuid::Uuid::max()));
    let found = tx.query(
        "SELECT names.trip, ride_request.request, ride_request.requested_at_us, trip_view.snapshot
         FROM (SELECT trip FROM ride_request WHERE rider = $1 AND trip < $2
               UNION SELECT trip FROM trip_view WHERE rider = $1 AND trip < $2
               ORDER BY trip DESC LIMIT $3) AS names
         LEFT JOIN ride_request ON ride_request.trip = names.trip
         LEFT JOIN trip_view ON trip_view.trip = names.trip
         ORDER BY names.trip DESC",
        &[rider.0.into(), before.0.into(), limit.into()],
        read,
    )?;
    Ok(found.into_iter().flatten().collect())
}

/// Nothing, where a trip is known that its request is not known of: nothing could be said about it.
fn read(row: &Row<'_>) -> Result<Option<Trip>, StoreError> {
    let trip = TripId(row.get(0)?);
    let request: Option<Vec<u8>> = row.get(1)?;
    let requested_at: Option<i64> = row.get(2)?;
    let snapshot: Option<Vec<u8>> = row.get(3)?;
    let snapshot: Option<v1::TripSnapshot> =
        snapshot.map(|bytes| contract::decode("TripSnapshot", &bytes)).transpose()?;
    let state = snapshot.as_ref().and_then(|snapshot| snapshot.state.as_ref());
    let ride = match (request, requested_at) {
        (Some(bytes), Some(at)) => Some(wire::ride(
            &contract::decode("RideRequested", &bytes)?,
            Timestamp::from_micros(at),
        )?),
        _ => state.map(|state| wire::ride_of_state(trip, state)).transpose()?.flatten(),
    };
    Ok(ride.map(|ride| wire::trip(ride, snapshot.as_ref())).transpose()?)
}

/// How far a view has come in its stream.
///
/// # Errors
/// When the store fails.
pub fn position(tx: &Tx<'_>, view: &str) -> Result<u64, StoreError> {
    tx.number("SELECT sequence FROM view_position WHERE view = $1", &[view.into()]).map(from_row)
}

/// How far a view has come, for the one transaction at a time that carries it on: of several
/// replicas that read the same events, one writes them and the others skip what it wrote.
///
/// # Errors
/// When the store fails.
pub fn resume(tx: &Tx<'_>, view: &str) -> Result<u64, StoreError> {
    tx.lock(&format!("view {view}"))?;
    position(tx, view)
}

/// Records how far a view has come; in the transaction of what it took over.
///
/// # Errors
/// When the store fails.
pub fn advance(tx: &Tx<'_>, view: &str, sequence: u64) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO view_position (view, sequence) VALUES ($1, $2)
         ON CONFLICT (view) DO UPDATE SET sequence = excluded.sequence
         WHERE excluded.sequence > view_position.sequence",
        &[view.into(), to_row(sequence).into()],
    )?;
    Ok(())
}
