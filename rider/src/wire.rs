//! Between the contract's messages and the rider's own types. What does not convert is malformed.

use common::{
    clock::Timestamp,
    contract::{self, Malformed, v1},
    event_store::Cause,
    id::{DriverId, EventId, RiderId, TripId},
    money::Money,
};
use prost::Message as _;
use uuid::Uuid;

use crate::{
    domain::{
        charge::{Debt, Ending, Purpose, owed},
        trip::{Cancelled, Party, Phase, Progress, Quote, Ride, Trip},
    },
    store::outbox::NewEvent,
};

/// `ce-type` of a request for a ride.
const RIDE_REQUESTED: &str = "rider.ride_requested";
/// `ce-type` of a payment.
const FARE_CHARGED: &str = "rider.fare_charged";

/// What a rider asked for, as the contract says it.
#[must_use]
pub fn ride_requested(ride: &Ride) -> v1::RideRequested {
    v1::RideRequested {
        trip_id: ride.trip.to_vec(),
        rider_id: ride.rider.to_vec(),
        pickup: Some(ride.pickup.into()),
        dropoff: Some(ride.dropoff.into()),
        quote: Some(quote_message(&ride.quote)),
        pin: ride.pin.clone(),
    }
}

/// What a rider asked for, read back.
///
/// # Errors
/// When a field is missing or out of range.
pub fn ride(requested: &v1::RideRequested, at: Timestamp) -> Result<Ride, Malformed> {
    Ok(Ride {
        trip: contract::id("trip_id", &requested.trip_id)?,
        rider: contract::id("rider_id", &requested.rider_id)?,
        pickup: contract::point("pickup", requested.pickup.as_ref())?,
        dropoff: contract::point("dropoff", requested.dropoff.as_ref())?,
        quote: quote(contract::required("quote", requested.quote.as_ref())?)?,
        pin: requested.pin.clone(),
        requested_at: at,
    })
}

/// What was asked for, as the trip itself tells it. A trip that was cancelled before its request
/// arrived does not know.
///
/// # Errors
/// When a field is out of range.
pub fn ride_of_state(trip: TripId, state: &v1::TripState) -> Result<Option<Ride>, Malformed> {
    if state.quote.is_none() {
        return Ok(None);
    }
    let requested = v1::RideRequested {
        trip_id: trip.to_vec(),
        rider_id: state.rider_id.clone(),
        pickup: state.pickup,
        dropoff: state.dropoff,
        quote: state.quote.clone(),
        pin: state.pin.clone(),
    };
    ride(&requested, Timestamp::from_micros(state.requested_at_us)).map(Some)
}

/// A ride and how it goes.
///
/// # Errors
/// When a field of the snapshot is out of range.
pub fn trip(ride: Ride, snapshot: Option<&v1::TripSnapshot>) -> Result<Trip, Malformed> {
    let progress = snapshot.map(|snapshot| progress(snapshot, &ride)).transpose()?;
    Ok(Trip { ride, progress })
}

fn progress(snapshot: &v1::TripSnapshot, ride: &Ride) -> Result<Progress, Malformed> {
    let state = contract::required("state", snapshot.state.as_ref())?;
    let driver: Option<DriverId> = match state.driver_id.as_slice() {
        [] => None,
        bytes => Some(contract::id("driver_id", bytes)?),
    };
    let none = Money::zero(ride.quote.fare.currency);
    Ok(Progress {
        version: snapshot.version,
        sequence: snapshot.sequence,
        phase: phase(state.phase())?,
        driver,
        pickup_eta_s: state.pickup_eta_s,
        assigned_at: contract::moment(state.assigned_at_us),
        arrived_at: contract::moment(state.arrived_at_us),
        started_at: contract::moment(state.started_at_us),
        ended_at: contract::moment(state.ended_at_us),
        fare: optional_money("fare", state.fare.as_ref())?,
        cancelled: state.cancelled.as_ref().map(|how| cancelled(how, none)).transpose()?,
        stars_by_rider: u8::try_from(state.stars_by_rider).ok().filter(|stars| *stars > 0),
    })
}

fn cancelled(how: &v1::TripCancelled, none: Money) -> Result<Cancelled, Malformed> {
    let phase = match how.phase() {
        // Before the request had arrived: for its rider it was being matched.
        v1::TripPhase::Unspecified => Phase::Matching,
        other => phase(other)?,
    };
    Ok(Cancelled {
        by: party(how.by())?,
        reason: how.reason.clone(),
        phase,
        fee: optional_money("fee", how.fee.as_ref())?.unwrap_or(none),
    })
}

fn optional_money(
    what: &'static str,
    field: Option<&v1::Money>,
) -> Result<Option<Money>, Malformed> {
    field.map(|money| contract::money(what, Some(money))).transpose()
}

/// A trip's phase.
///
/// # Errors
/// When nothing happened yet.
pub fn phase(phase: v1::TripPhase) -> Result<Phase, Malformed> {
    match phase {
        v1::TripPhase::Unspecified => Err(Malformed::new("phase", "is unspecified")),
        v1::TripPhase::Matching => Ok(Phase::Matching),
        v1::TripPhase::Assigned => Ok(Phase::Assigned),
        v1::TripPhase::Arrived => Ok(Phase::Arrived),
        v1::TripPhase::InProgress => Ok(Phase::InProgress),
        v1::TripPhase::Completed => Ok(Phase::Completed),
        v1::TripPhase::Cancelled => Ok(Phase::Cancelled),
        v1::TripPhase::Unfulfilled => Ok(Phase::Unfulfilled),
    }
}

fn party(party: v1::Party) -> Result<Party, Malformed> {
    match party {
        v1::Party::Unspecified => Err(Malformed::new("party", "is unspecified")),
        v1::Party::Rider => Ok(Party::Rider),
        v1::Party::Driver => Ok(Party::Driver),
        v1::Party::System => Ok(Party::System),
        v1::Party::Operations => Ok(Party::Operations),
    }
}

fn quote_message(quote: &Quote) -> v1::Quote {
    v1::Quote {
        fare_id: quote.fare_id.as_bytes().to_vec(),
        product: quote.product.clone(),
        fare: Some(quote.fare.into()),
        distance_m: quote.distance_m,
        duration_s: quote.duration_s,
        surge_percent: quote.surge_percent,
        cancellation_fee: Some(quote.cancellation_fee.into()),
    }
}

fn quote(message: &v1::Quote) -> Result<Quote, Malformed> {
    Ok(Quote {
        fare_id: Uuid::from_slice(&message.fare_id)
            .map_err(|err| Malformed::new("fare_id", err))?,
        product: message.product.clone(),
        fare: contract::money("fare", message.fare.as_ref())?,
        distance_m: message.distance_m,
        duration_s: message.duration_s,
        surge_percent: message.surge_percent,
        cancellation_fee: contract::money("cancellation_fee", message.cancellation_fee.as_ref())?,
    })
}

/// What is owed because of this event: nothing, unless it is an end that costs something.
///
/// # Errors
/// When such an end does not say how much or who.
pub fn debt(trip: TripId, event: &v1::TripEvent) -> Result<Option<Debt>, Malformed> {
    use v1::trip_event::Kind;
    let ending = match &event.kind {
        Some(Kind::Completed(completed)) => {
            Ending::Completed(contract::money("fare", completed.fare.as_ref())?)
        }
        Some(Kind::Cancelled(v1::TripCancelled { fee: Some(fee), .. })) => {
            Ending::Cancelled(contract::money("fee", Some(fee))?)
        }
        _ => return Ok(None),
    };
    let Some((purpose, amount)) = owed(ending) else { return Ok(None) };
    let state = contract::required("state", event.state.as_ref())?;
    let rider: RiderId = contract::id("rider_id", &state.rider_id)?;
    let driver = DriverId::try_from(state.driver_id.as_slice()).ok();
    Ok(Some(Debt { trip, purpose, rider, driver, amount }))
}

/// What is owed for a trip that is as this state says: nothing, unless it ended and cost something.
///
/// # Errors
/// When such a state does not say how much or who.
pub fn debt_of_state(trip: TripId, state: &v1::TripState) -> Result<Option<Debt>, Malformed> {
    let ending = match (state.phase(), &state.cancelled) {
        (v1::TripPhase::Completed, _) => {
            Ending::Completed(contract::money("fare", state.fare.as_ref())?)
        }
        (v1::TripPhase::Cancelled, Some(v1::TripCancelled { fee: Some(fee), .. })) => {
            Ending::Cancelled(contract::money("fee", Some(fee))?)
        }
        _ => return Ok(None),
    };
    let Some((purpose, amount)) = owed(ending) else { return Ok(None) };
    let rider: RiderId = contract::id("rider_id", &state.rider_id)?;
    let driver = DriverId::try_from(state.driver_id.as_slice()).ok();
    Ok(Some(Debt { trip, purpose, rider, driver, amount }))
}

fn fare_charged(debt: &Debt, provider_reference: &str) -> v1::FareCharged {
    let purpose = match debt.purpose {
        Purpose::Fare => v1::ChargePurpose::Fare,
        Purpose::CancellationFee => v1::ChargePurpose::CancellationFee,
    };
    v1::FareCharged {
        trip_id: debt.trip.to_vec(),
        rider_id: debt.rider.to_vec(),
        driver_id: debt.driver.map(DriverId::to_vec).unwrap_or_default(),
        purpose: purpose.into(),
        amount: Some(debt.amount.into()),
        provider_reference: provider_reference.to_owned(),
    }
}

/// The outbox row that asks for a ride. Its id is the trip's, so that one trip is asked for once.
#[must_use]
pub fn ride_requested_event(ride: &Ride, requested: v1::RideRequested, cause: Cause) -> NewEvent {
    NewEvent {
        key: ride.rider,
        event: EventId(Uuid::new_v5(&ride.trip.0, RIDE_REQUESTED.as_bytes())),
        kind: RIDE_REQUESTED,
        correlation: ride.trip.0,
        cause,
        payload: event(ride.requested_at, v1::rider_event::Kind::RideRequested(requested)),
        at: ride.requested_at,
    }
}

/// The outbox row that says a fare or fee was paid.
#[must_use]
pub fn fare_charged_event(
    debt: &Debt,
    provider_reference: &str,
    cause: Cause,
    at: Timestamp,
) -> NewEvent {
    let charged = fare_charged(debt, provider_reference);
    NewEvent {
        key: debt.rider,
        event: debt.charged_event(),
        kind: FARE_CHARGED,
        correlation: debt.trip.0,
        cause,
        payload: event(at, v1::rider_event::Kind::FareCharged(charged)),
        at,
    }
}

fn event(at: Timestamp, kind: v1::rider_event::Kind) -> Vec<u8> {
    v1::RiderEvent { at_us: at.micros(), kind: Some(kind) }.encode_to_vec()
}
