//! From a refusal or a failure to its problem: status, code and what programs need to go on.

use axum::http::StatusCode;
use common::{event_store::ExecuteError, problem::Problem};

use crate::{
    commands::code,
    domain::{Rejection, Trip},
    record::TripDecider,
};

pub(super) fn of(err: ExecuteError<TripDecider>) -> Problem {
    match err {
        ExecuteError::Rejected { rejection, now } => refused(rejection, &now.state),
        ExecuteError::Unsettled | ExecuteError::Unavailable(_) => {
            Problem::unavailable(err.to_string())
        }
        ExecuteError::Corrupt(malformed) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", malformed.to_string())
        }
    }
}

pub(super) fn unknown_trip() -> Problem {
    refused(Rejection::UnknownTrip, &Trip::Unknown)
}

fn refused(rejection: Rejection, state: &Trip) -> Problem {
    let problem = Problem::new(status(&rejection), code(&rejection), rejection.to_string());
    match state.phase() {
        Some(phase) => problem.with("current_status", phase.name()),
        None => problem,
    }
}

fn status(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::UnknownTrip
        | Rejection::AskedTooLongAgo { .. }
        | Rejection::NotYours
        | Rejection::OfferedToAnother
        | Rejection::OfferUnknown => StatusCode::NOT_FOUND,
        Rejection::WrongPhase { .. }
        | Rejection::Started
        | Rejection::Ended { .. }
        | Rejection::OfferOpen { .. }
        | Rejection::OfferAssigned
        | Rejection::OfferClosed { .. }
        | Rejection::TooManyOffers
        | Rejection::DriverExcluded
        | Rejection::SearchOver { .. }
        | Rejection::TooFarFromPickup { .. }
        | Rejection::WaitNotOver { .. }
        | Rejection::AlreadyRated
        | Rejection::RatingClosed { .. } => StatusCode::CONFLICT,
        Rejection::PinInvalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Rejection::PinLocked => StatusCode::LOCKED,
    }
}
