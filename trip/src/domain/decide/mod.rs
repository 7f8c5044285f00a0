//! What happens when somebody wants something: the table of a trip, one function per command.

mod cancel;
mod ride;
mod search;

use common::{
    clock::Timestamp,
    id::{DriverId, RiderId},
};

use super::{
    Arrived, Cancelled, OfferRecord, OfferStatus, Party, Progress, Rejection, Request, Trip,
    TripCommand, TripEvent,
};

type Decision = Result<Option<TripEvent>, Rejection>;

/// It is so already: there is nothing new to say.
const NOTHING: Decision = Ok(None);

/// What happens when somebody wants this at `now` (broker time).
///
/// # Errors
/// The fact that stands in the way.
pub fn decide(state: &Trip, command: &TripCommand, now: Timestamp) -> Decision {
    match command {
        TripCommand::Request { .. } => search::request(state, command, now),
        TripCommand::Offer { driver, offer, pickup_eta_s, pickup_distance_m } => {
            let record = OfferRecord {
                offer: *offer,
                driver: *driver,
                pickup_eta_s: *pickup_eta_s,
                pickup_distance_m: *pickup_distance_m,
                status: OfferStatus::Open { lease_until: now },
            };
            search::make_offer(state, &record, now)
        }
        TripCommand::Assign { driver, offer } => search::assign(state, *driver, *offer, now),
        TripCommand::CloseOffer { offer, why } => search::close_offer(state, *offer, *why),
        TripCommand::CancelByRider { rider, reason, asked_at } => {
            cancel::cancel_by_rider(state, *rider, reason, *asked_at, now)
        }
        TripCommand::CancelByDriver { driver, reason } => {
            cancel::cancel_by_driver(state, *driver, reason, now)
        }
        TripCommand::Arrive { driver, position, forced } => {
            ride::arrive(state, *driver, *position, *forced, now)
        }
        TripCommand::NoShow { driver } => cancel::no_show(state, *driver, now),
        TripCommand::Start { driver, pin } => ride::start(state, *driver, *pin, now),
        TripCommand::Complete { driver, position, distance_m } => {
            ride::complete(state, *driver, *position, *distance_m, now)
        }
        TripCommand::RateByRider { rider, stars } => {
            of_rider(state, *rider)?;
            ride::rate(state, Party::Rider, *stars, now)
        }
        TripCommand::RateByDriver { driver, stars } => {
            of_driver(state, *driver)?;
            ride::rate(state, Party::Driver, *stars, now)
        }
        TripCommand::Close { completed, reason } => cancel::close(state, *completed, reason, now),
        TripCommand::UnlockPin => ride::unlock_pin(state),
        TripCommand::EndSearch => search::end_search(state),
        TripCommand::EndLease => search::end_lease(state),
        TripCommand::EndPickup => cancel::end_pickup(state, now),
        TripCommand::EndWait => ride::end_wait(state),
        TripCommand::MarkStalled => ride::mark_stalled(state),
    }
}

/// Where an event answers as a refusal: a wrong PIN is remembered, and refused all the same. Asked
/// again with the same command id it is refused again, whatever became of the trip: only a ride that
/// began was started.
#[must_use]
pub fn refusal(command: &TripCommand, state: &Trip) -> Option<Rejection> {
    let TripCommand::Start { .. } = command else { return None };
    match state {
        Trip::Arrived(Arrived { pin_tries_left, .. }) => {
            Some(Rejection::PinInvalid { tries_left: *pin_tries_left })
        }
        Trip::InProgress(_) | Trip::Completed(_) => None,
        Trip::Cancelled(Cancelled { progress: Progress::InProgress(..), .. }) => None,
        Trip::Unknown
        | Trip::Withdrawn(_)
        | Trip::Matching(_)
        | Trip::Assigned(_)
        | Trip::Cancelled(_)
        | Trip::Unfulfilled(_) => refused(state).err(),
    }
}

fn of_rider(state: &Trip, rider: RiderId) -> Result<(), Rejection> {
    match state.request() {
        Some(Request { rider: own, .. }) if *own == rider => Ok(()),
        Some(_) => Err(Rejection::NotYours),
        None => Err(Rejection::UnknownTrip),
    }
}

fn of_driver(state: &Trip, driver: DriverId) -> Result<(), Rejection> {
    match (state.phase(), state.assignment()) {
        (Some(_), Some(assignment)) if assignment.driver == driver => Ok(()),
        (Some(_), _) => Err(Rejection::NotYours),
        (None, _) => Err(Rejection::UnknownTrip),
    }
}

/// It cannot be done where the trip stands.
fn refused(state: &Trip) -> Decision {
    Err(match state.phase() {
        None => Rejection::UnknownTrip,
        Some(phase) if state.is_over() => Rejection::Ended { phase },
        Some(phase) => Rejection::WrongPhase { phase },
    })
}
