//! Every way in which a trip ends early, or goes back to the search.

use common::{
    clock::Timestamp,
    id::{DriverId, RiderId},
    money::Money,
};

use super::{
    super::{
        Arrived, Assigned, Assignment, InProgress, Matching, Party, Phase, Reason, Rejection, Trip,
        TripEvent,
        terms::{ASKED_MAX, UNASSIGNMENTS_MAX, cancellation_fee},
    },
    Decision, NOTHING, of_driver, of_rider, refused,
    ride::completed,
};

pub(super) fn cancel_by_rider(
    state: &Trip,
    rider: RiderId,
    reason: &Reason,
    asked_at: Timestamp,
    now: Timestamp,
) -> Decision {
    let cancelled = |phase, fee| {
        let reason = reason.clone();
        Ok(Some(TripEvent::Cancelled { by: Party::Rider, reason, phase, fee }))
    };
    match state {
        Trip::Unknown if now.since(asked_at) > ASKED_MAX => return Err(Rejection::UnknownTrip),
        // The request is still on its way: what is cancelled here is not requested any more.
        Trip::Unknown => return cancelled(None, Money::default()),
        Trip::Withdrawn(_) => return NOTHING,
        Trip::Matching(_)
        | Trip::Assigned(_)
        | Trip::Arrived(_)
        | Trip::InProgress(_)
        | Trip::Completed(_)
        | Trip::Cancelled(_)
        | Trip::Unfulfilled(_) => of_rider(state, rider)?,
    };
    match state {
        Trip::Matching(Matching { request, .. }) => {
            cancelled(state.phase(), cancellation_fee(request, None, now))
        }
        Trip::Assigned(Assigned { request, assignment, .. })
        | Trip::Arrived(Arrived { request, assignment, .. }) => {
            cancelled(state.phase(), cancellation_fee(request, Some(assignment), now))
        }
        Trip::InProgress(_) => Err(Rejection::Started),
        Trip::Cancelled(cancelled) if cancelled.by == Party::Rider => NOTHING,
        Trip::Unknown
        | Trip::Withdrawn(_)
        | Trip::Cancelled(_)
        | Trip::Completed(_)
        | Trip::Unfulfilled(_) => refused(state),
    }
}

pub(super) fn cancel_by_driver(
    state: &Trip,
    driver: DriverId,
    reason: &Reason,
    now: Timestamp,
) -> Decision {
    of_driver(state, driver)?;
    match state {
        Trip::Assigned(assigned) => Ok(Some(give_back(assigned, Party::Driver, reason, now))),
        Trip::Arrived(Arrived { request, .. }) => Ok(Some(TripEvent::Cancelled {
            by: Party::Driver,
            reason: reason.clone(),
            phase: Some(Phase::Arrived),
            fee: Money::zero(request.quote.fare.currency),
        })),
        Trip::InProgress(_) => Err(Rejection::Started),
        Trip::Cancelled(cancelled) if cancelled.by == Party::Driver => NOTHING,
        Trip::Unknown
        | Trip::Withdrawn(_)
        | Trip::Matching(_)
        | Trip::Cancelled(_)
        | Trip::Completed(_)
        | Trip::Unfulfilled(_) => refused(state),
    }
}

pub(super) fn no_show(state: &Trip, driver: DriverId, now: Timestamp) -> Decision {
    of_driver(state, driver)?;
    match state {
        Trip::Arrived(Arrived { request, arrival, .. }) => {
            // The phone counts down by itself: at zero it must not be refused because the timer's
            // own event is a moment late.
            if !arrival.wait_over && now < arrival.wait_until {
                return Err(Rejection::WaitNotOver { until: arrival.wait_until });
            }
            Ok(Some(TripEvent::Cancelled {
                by: Party::Driver,
                reason: Reason::no_show(),
                phase: Some(Phase::Arrived),
                fee: request.quote.cancellation_fee,
            }))
        }
        Trip::Cancelled(cancelled) if cancelled.reason == Reason::no_show() => NOTHING,
        Trip::Assigned(_)
        | Trip::InProgress(_)
        | Trip::Unknown
        | Trip::Withdrawn(_)
        | Trip::Matching(_)
        | Trip::Completed(_)
        | Trip::Cancelled(_)
        | Trip::Unfulfilled(_) => refused(state),
    }
}

pub(super) fn close(
    state: &Trip,
    at_destination: bool,
    reason: &Reason,
    now: Timestamp,
) -> Decision {
    match state {
        Trip::InProgress(ride) if at_destination => {
            let distance_m = ride.request.quote.distance_m;
            Ok(Some(completed(ride, None, distance_m, Party::Operations, now)))
        }
        Trip::InProgress(InProgress { request, .. }) => Ok(Some(TripEvent::Cancelled {
            by: Party::Operations,
            reason: reason.clone(),
            phase: Some(Phase::InProgress),
            fee: Money::zero(request.quote.fare.currency),
        })),
        // Nobody came and nobody says so: no timer ends a trip at the kerb.
        Trip::Arrived(Arrived { request, .. }) if !at_destination => {
            Ok(Some(TripEvent::Cancelled {
                by: Party::Operations,
                reason: reason.clone(),
                phase: Some(Phase::Arrived),
                fee: Money::zero(request.quote.fare.currency),
            }))
        }
        Trip::Completed(_) if at_destination => NOTHING,
        Trip::Cancelled(cancelled) if !at_destination && cancelled.by == Party::Operations => {
            NOTHING
        }
        Trip::Matching(_)
        | Trip::Assigned(_)
        | Trip::Arrived(_)
        | Trip::Unknown
        | Trip::Withdrawn(_)
        | Trip::Completed(_)
        | Trip::Cancelled(_)
        | Trip::Unfulfilled(_) => refused(state),
    }
}

pub(super) fn end_pickup(state: &Trip, now: Timestamp) -> Decision {
    let Trip::Assigned(assigned) = state else { return NOTHING };
    Ok(Some(give_back(assigned, Party::System, &Reason::driver_late(), now)))
}

/// The search goes on, unless it was given back too often.
fn give_back(assigned: &Assigned, by: Party, reason: &Reason, now: Timestamp) -> TripEvent {
    let Assigned { request, search, assignment } = assigned;
    let reason = reason.clone();
    if search.unassignments < UNASSIGNMENTS_MAX {
        let Assignment { driver, offer, .. } = *assignment;
        let match_deadline = now.plus(request.terms.match_deadline);
        TripEvent::Unassigned { by, reason, driver, offer, match_deadline }
    } else {
        let fee = Money::zero(request.quote.fare.currency);
        TripEvent::Cancelled { by, reason, phase: Some(Phase::Assigned), fee }
    }
}
