//! From a refusal to its status and code: each exactly once, and none by its text.

use std::time::Duration;

use axum::http::StatusCode;
use common::{
    clock::Timestamp,
    contract::{self, v1},
    event_store::ExecuteError,
    geo::Point,
    problem::Problem,
};

use super::model::{self, TripStatus};
use crate::{domain::Rejection, gather::NotStored, record::DriverDecider};

/// An engagement's rejection, or a store that is away.
pub(super) fn of_driver(err: ExecuteError<DriverDecider>) -> Problem {
    match err {
        ExecuteError::Rejected { rejection, now: _ } => match rejection {
            Rejection::OnTrip { trip } => {
                Problem::conflict("on_trip", "the driver is on a trip; finish it first")
                    .with("trip_id", trip.to_string())
            }
            Rejection::OfferUnknown => {
                Problem::not_found("offer_not_found", "the driver has no such offer")
            }
            Rejection::OfferWithdrawn | Rejection::OfferClosed => withdrawn(),
            Rejection::OfferLapsed => {
                Problem::new(StatusCode::GONE, "offer_lapsed", "the time to answer was over")
            }
        },
        ExecuteError::Unsettled | ExecuteError::Unavailable(_) => {
            Problem::unavailable(err.to_string())
        }
        ExecuteError::Corrupt(malformed) => internal(&malformed.to_string()),
    }
}

/// The trip went another way.
pub(super) fn withdrawn() -> Problem {
    Problem::conflict("offer_withdrawn", "the offer is not open any more")
}

fn internal(detail: &str) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}

/// Pings that were not stored: the phone keeps them, and comes back later than usual.
pub(super) fn of_pings(err: NotStored, next_interval_ms: u64) -> Problem {
    let (code, after) = match err {
        NotStored::Overloaded => ("overloaded", Duration::from_millis(next_interval_ms)),
        NotStored::Unacknowledged => ("unavailable", Duration::from_secs(1)),
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, err.to_string())
        .retry_after(after)
        .with("next_interval_ms", next_interval_ms)
}

/// A trip's rejection. `position` is where the driver said to be.
pub(super) fn of_trip(
    rejection: &v1::TripRejection,
    position: Option<Point>,
    now: Timestamp,
) -> Problem {
    let state = rejection.current.as_ref().and_then(|current| current.state.as_ref());
    let problem = |status, code| Problem::new(status, code, rejection.detail.clone());
    let in_phase = |code| {
        let current = state.map_or(TripStatus::Matching, |state| model::status(state.phase()));
        problem(StatusCode::CONFLICT, code)
            .with("current_status", serde_json::to_value(current).unwrap_or_default())
    };
    match rejection.code.as_str() {
        "trip_not_found" | "not_your_trip" => problem(StatusCode::NOT_FOUND, "trip_not_found"),
        "wrong_phase" => in_phase("wrong_phase"),
        "trip_started" => in_phase("trip_started"),
        "trip_ended" => in_phase("trip_ended"),
        "too_many_unassignments" => problem(StatusCode::CONFLICT, "too_many_unassignments"),
        "too_far_from_pickup" => {
            let pickup =
                state.and_then(|state| contract::point("pickup", state.pickup.as_ref()).ok());
            let distance_m = pickup.zip(position).map(|(pickup, at)| pickup.distance_m(at).round());
            problem(StatusCode::CONFLICT, "too_far_from_pickup").with("distance_m", distance_m)
        }
        "wait_not_over" => {
            let wait_in_ms = state.and_then(|state| model::no_show_in_ms(state, now));
            problem(StatusCode::CONFLICT, "wait_not_over").with("wait_in_ms", wait_in_ms)
        }
        "pin_invalid" => problem(StatusCode::UNPROCESSABLE_ENTITY, "pin_invalid")
            .with("tries_left", rejection.tries_left),
        "pin_locked" => problem(StatusCode::LOCKED, "pin_locked"),
        other => internal(&format!("the trip refused with `{other}`: {}", rejection.detail)),
    }
}
