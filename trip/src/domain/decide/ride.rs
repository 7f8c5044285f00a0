//! From the pickup to the rating.

use common::{clock::Timestamp, geo::Point, id::DriverId};

use super::{
    super::{
        Arrival, Arrived, Assigned, Completed, InProgress, Party, Pin, Rejection, Stars, Trip,
        TripEvent,
        terms::{ARRIVAL_RADIUS_M, PIN_TRIES_MAX},
    },
    Decision, NOTHING, of_driver, refused,
};

pub(super) fn arrive(
    state: &Trip,
    driver: DriverId,
    position: Point,
    forced: bool,
    now: Timestamp,
) -> Decision {
    of_driver(state, driver)?;
    match state {
        Trip::Assigned(Assigned { request, .. }) => {
            let distance_m = whole_metres(position.distance_m(request.pickup));
            let far = distance_m > ARRIVAL_RADIUS_M;
            if far && !forced {
                return Err(Rejection::TooFarFromPickup { distance_m });
            }
            let wait_until = now.plus(request.terms.no_show_wait);
            Ok(Some(TripEvent::Arrived { position, forced: far, wait_until }))
        }
        Trip::Arrived(_) => NOTHING,
        Trip::InProgress(_)
        | Trip::Unknown
        | Trip::Withdrawn(_)
        | Trip::Matching(_)
        | Trip::Completed(_)
        | Trip::Cancelled(_)
        | Trip::Unfulfilled(_) => refused(state),
    }
}

pub(super) fn start(state: &Trip, driver: DriverId, pin: Pin, now: Timestamp) -> Decision {
    of_driver(state, driver)?;
    match state {
        Trip::Arrived(Arrived { pin_tries_left: 0, .. }) => Err(Rejection::PinLocked),
        Trip::Arrived(Arrived { request, .. }) if request.pin == pin => {
            let watchdog = request.terms.ride_watchdog(request.quote.duration_s, now);
            Ok(Some(TripEvent::Started { watchdog }))
        }
        Trip::Arrived(Arrived { pin_tries_left, .. }) => {
            Ok(Some(TripEvent::PinRefused { tries_left: pin_tries_left.saturating_sub(1) }))
        }
        Trip::InProgress(_) => NOTHING,
        Trip::Assigned(_)
        | Trip::Unknown
        | Trip::Withdrawn(_)
        | Trip::Matching(_)
        | Trip::Completed(_)
        | Trip::Cancelled(_)
        | Trip::Unfulfilled(_) => refused(state),
    }
}

pub(super) fn complete(
    state: &Trip,
    driver: DriverId,
    position: Point,
    distance_m: u32,
    now: Timestamp,
) -> Decision {
    of_driver(state, driver)?;
    match state {
        Trip::InProgress(ride) => {
            let measured = if distance_m == 0 { ride.request.quote.distance_m } else { distance_m };
            Ok(Some(completed(ride, Some(position), measured, Party::Driver, now)))
        }
        Trip::Completed(_) => NOTHING,
        Trip::Assigned(_)
        | Trip::Arrived(_)
        | Trip::Unknown
        | Trip::Withdrawn(_)
        | Trip::Matching(_)
        | Trip::Cancelled(_)
        | Trip::Unfulfilled(_) => refused(state),
    }
}

/// The price was fixed with the quote: neither a detour nor the time on the road changes it.
pub(super) fn completed(
    ride: &InProgress,
    position: Option<Point>,
    distance_m: u32,
    by: Party,
    now: Timestamp,
) -> TripEvent {
    let duration_s = u32::try_from(now.since(ride.started_at).as_secs()).unwrap_or(u32::MAX);
    TripEvent::Completed { position, distance_m, duration_s, fare: ride.request.quote.fare, by }
}

pub(super) fn rate(state: &Trip, by: Party, stars: Stars, now: Timestamp) -> Decision {
    match state {
        Trip::Completed(Completed { request, at, ratings, .. }) => {
            let given = if by == Party::Rider { ratings.by_rider } else { ratings.by_driver };
            let closed = at.plus(request.terms.rating_window);
            match given {
                Some(given) if given == stars => NOTHING,
                Some(_) => Err(Rejection::AlreadyRated),
                None if now > closed => Err(Rejection::RatingClosed { at: closed }),
                None => Ok(Some(TripEvent::Rated { by, stars })),
            }
        }
        Trip::Matching(_)
        | Trip::Assigned(_)
        | Trip::Arrived(_)
        | Trip::InProgress(_)
        | Trip::Unknown
        | Trip::Withdrawn(_)
        | Trip::Cancelled(_)
        | Trip::Unfulfilled(_) => refused(state),
    }
}

pub(super) fn unlock_pin(state: &Trip) -> Decision {
    match state {
        Trip::Arrived(Arrived { pin_tries_left: PIN_TRIES_MAX, .. }) => NOTHING,
        Trip::Arrived(_) => Ok(Some(TripEvent::PinUnlocked)),
        Trip::Matching(_)
        | Trip::Assigned(_)
        | Trip::InProgress(_)
        | Trip::Unknown
        | Trip::Withdrawn(_)
        | Trip::Completed(_)
        | Trip::Cancelled(_)
        | Trip::Unfulfilled(_) => refused(state),
    }
}

pub(super) fn end_wait(state: &Trip) -> Decision {
    let Trip::Arrived(Arrived { arrival: Arrival { wait_over: false, .. }, .. }) = state else {
        return NOTHING;
    };
    Ok(Some(TripEvent::WaitOver))
}

pub(super) fn mark_stalled(state: &Trip) -> Decision {
    let Trip::InProgress(InProgress { stalled: false, .. }) = state else { return NOTHING };
    Ok(Some(TripEvent::Stalled))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a great-circle distance is from 0 to 20,100 km"
)]
fn whole_metres(distance_m: f64) -> u32 {
    distance_m.round() as u32
}
