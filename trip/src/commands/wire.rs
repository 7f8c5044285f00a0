//! Commands as they come, and the codes of refusals as they go.

use common::{
    clock::Timestamp,
    contract::{self, Malformed, id, point, required, v1},
    id::{CommandId, TripId},
};

use crate::{
    domain::{Rejection, TripCommand},
    record::{pin, reason, stars},
};

/// A command that can be carried out.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) trip: TripId,
    pub(super) command_id: CommandId,
    pub(super) deadline: Timestamp,
    pub(super) command: TripCommand,
}

pub(super) fn read(payload: &[u8]) -> Result<Wanted, Malformed> {
    let raw: v1::TripCommand = contract::decode("trip command", payload)?;
    Ok(Wanted {
        trip: id("trip_id", &raw.trip_id)?,
        command_id: id("command_id", &raw.command_id)?,
        deadline: Timestamp::from_micros(raw.deadline_us),
        command: command(&raw)?,
    })
}

fn command(raw: &v1::TripCommand) -> Result<TripCommand, Malformed> {
    use v1::trip_command::Kind;
    let actor = raw.actor_id.as_slice();
    Ok(match required("kind", raw.kind.as_ref())? {
        Kind::CancelByRider(cancel) => TripCommand::CancelByRider {
            rider: id("actor_id", actor)?,
            reason: reason(&cancel.reason)?,
            asked_at: Timestamp::from_micros(cancel.asked_at_us),
        },
        Kind::CancelByDriver(cancel) => TripCommand::CancelByDriver {
            driver: id("actor_id", actor)?,
            reason: reason(&cancel.reason)?,
        },
        Kind::Arrive(arrive) => TripCommand::Arrive {
            driver: id("actor_id", actor)?,
            position: point("position", arrive.position.as_ref())?,
            forced: arrive.forced,
        },
        Kind::NoShow(v1::NoShow {}) => TripCommand::NoShow { driver: id("actor_id", actor)? },
        Kind::Start(start) => {
            TripCommand::Start { driver: id("actor_id", actor)?, pin: pin(&start.pin)? }
        }
        Kind::Complete(complete) => TripCommand::Complete {
            driver: id("actor_id", actor)?,
            position: point("position", complete.position.as_ref())?,
            distance_m: complete.distance_m,
        },
        Kind::Rate(rate) => rating(actor, *rate)?,
        Kind::Close(close) => {
            by_operations(actor)?;
            TripCommand::Close { completed: close.completed, reason: reason(&close.reason)? }
        }
        Kind::UnlockPin(v1::UnlockPin {}) => {
            by_operations(actor)?;
            TripCommand::UnlockPin
        }
    })
}

fn rating(actor: &[u8], rate: v1::Rate) -> Result<TripCommand, Malformed> {
    let stars = stars(rate.stars)?;
    match rate.by() {
        v1::Party::Rider => Ok(TripCommand::RateByRider { rider: id("actor_id", actor)?, stars }),
        v1::Party::Driver => {
            Ok(TripCommand::RateByDriver { driver: id("actor_id", actor)?, stars })
        }
        v1::Party::Unspecified | v1::Party::System | v1::Party::Operations => {
            Err(Malformed::new("by", "only riders and drivers rate"))
        }
    }
}

/// Operations have no identity of their own on the bus.
fn by_operations(actor: &[u8]) -> Result<(), Malformed> {
    if actor.is_empty() {
        Ok(())
    } else {
        Err(Malformed::new("actor_id", "only operations do that"))
    }
}

/// The problem's code of a refusal.
#[must_use]
pub(crate) fn code(rejection: &Rejection) -> &'static str {
    match rejection {
        // Somebody else's trip looks like no trip at all.
        Rejection::UnknownTrip | Rejection::AskedTooLongAgo { .. } | Rejection::NotYours => {
            "trip_not_found"
        }
        Rejection::WrongPhase { .. } => "wrong_phase",
        Rejection::Started => "trip_started",
        Rejection::Ended { .. } => "trip_ended",
        Rejection::OfferedToAnother | Rejection::OfferUnknown => "offer_not_found",
        Rejection::OfferClosed { .. } => "offer_withdrawn",
        Rejection::OfferOpen { .. }
        | Rejection::OfferAssigned
        | Rejection::TooManyOffers
        | Rejection::DriverExcluded
        | Rejection::SearchOver { .. } => "wrong_phase",
        Rejection::TooFarFromPickup { .. } => "too_far_from_pickup",
        Rejection::WaitNotOver { .. } => "wait_not_over",
        Rejection::PinInvalid { .. } => "pin_invalid",
        Rejection::PinLocked => "pin_locked",
        Rejection::AlreadyRated => "already_rated",
        Rejection::RatingClosed { .. } => "rating_closed",
    }
}
