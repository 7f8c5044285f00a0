//! What is true after an event. Folding cannot fail: an event that does not fit the state, which
//! this service never writes, changes nothing.

use common::{clock::Timestamp, id::OfferId};

use super::{
    Arrival, Arrived, Assigned, Assignment, Cancelled, Completed, InProgress, Matching, OfferEnd,
    OfferRecord, OfferStatus, Party, Progress, Ratings, Request, Search, Stars, Trip, TripEvent,
    Unfulfilled, Withdrawn, terms::PIN_TRIES_MAX,
};

/// The state after an event that was decided `at` that time.
#[must_use]
pub fn evolve(state: Trip, event: &TripEvent, at: Timestamp) -> Trip {
    match event {
        TripEvent::Requested { .. } => requested(state, event, at),
        TripEvent::Offered { offer, driver, pickup_eta_s, pickup_distance_m, lease_until } => {
            let Trip::Matching(mut matching) = state else { return state };
            matching.search = matching.search.with(OfferRecord {
                offer: *offer,
                driver: *driver,
                pickup_eta_s: *pickup_eta_s,
                pickup_distance_m: *pickup_distance_m,
                status: OfferStatus::Open { lease_until: *lease_until },
            });
            Trip::Matching(matching)
        }
        TripEvent::Assigned { offer, driver, pickup_eta_s, .. } => {
            let (offer, driver, pickup_eta_s) = (*offer, *driver, *pickup_eta_s);
            assigned(state, Assignment { driver, offer, pickup_eta_s, at })
        }
        TripEvent::OfferClosed { offer, why, .. } => offer_closed(state, *offer, *why),
        TripEvent::Unfulfilled => {
            let Trip::Matching(Matching { request, search, .. }) = state else { return state };
            Trip::Unfulfilled(Unfulfilled { request, search: search.over(), at })
        }
        TripEvent::Cancelled { .. } => cancelled(state, event, at),
        TripEvent::Unassigned { match_deadline, .. } => unassigned(state, *match_deadline),
        TripEvent::Arrived { forced, wait_until, .. } => {
            let (forced, wait_until) = (*forced, *wait_until);
            arrived(state, Arrival { at, forced, wait_until, wait_over: false })
        }
        TripEvent::WaitOver => {
            let Trip::Arrived(mut arrived) = state else { return state };
            arrived.arrival.wait_over = true;
            Trip::Arrived(arrived)
        }
        TripEvent::PinRefused { tries_left } => with_pin_tries(state, *tries_left),
        TripEvent::PinUnlocked => with_pin_tries(state, PIN_TRIES_MAX),
        TripEvent::Started { .. } => started(state, at),
        TripEvent::Completed { .. } => completed(state, event, at),
        TripEvent::Stalled => {
            let Trip::InProgress(mut ride) = state else { return state };
            ride.stalled = true;
            Trip::InProgress(ride)
        }
        TripEvent::Rated { by, stars } => rated(state, *by, *stars),
    }
}

fn requested(state: Trip, event: &TripEvent, at: Timestamp) -> Trip {
    let TripEvent::Requested { rider, pickup, dropoff, quote, pin, terms, match_deadline } = event
    else {
        return state;
    };
    let Trip::Unknown = state else { return state };
    let request = Request {
        rider: *rider,
        pickup: *pickup,
        dropoff: *dropoff,
        quote: quote.clone(),
        pin: *pin,
        terms: *terms,
        at,
    };
    Trip::Matching(Matching { request, search: Search::default(), deadline: *match_deadline })
}

fn assigned(state: Trip, assignment: Assignment) -> Trip {
    let Trip::Matching(Matching { request, search, .. }) = state else { return state };
    let search = search.assigned(assignment.offer);
    Trip::Assigned(Assigned { request, search, assignment })
}

fn offer_closed(state: Trip, offer: OfferId, why: OfferEnd) -> Trip {
    let Trip::Matching(mut matching) = state else { return state };
    matching.search = matching.search.closed(offer, why);
    Trip::Matching(matching)
}

fn cancelled(state: Trip, event: &TripEvent, at: Timestamp) -> Trip {
    let TripEvent::Cancelled { by, reason, fee, .. } = event else { return state };
    let (by, reason, fee) = (*by, reason.clone(), *fee);
    let (request, search, progress) = match state {
        Trip::Unknown => return Trip::Withdrawn(Withdrawn { reason, fee, at }),
        Trip::Matching(Matching { request, search, .. }) => {
            (request, search.over(), Progress::Matching)
        }
        Trip::Assigned(Assigned { request, search, assignment }) => {
            (request, search, Progress::Assigned(assignment))
        }
        Trip::Arrived(Arrived { request, search, assignment, arrival, .. }) => {
            (request, search, Progress::Arrived(assignment, arrival))
        }
        Trip::InProgress(InProgress {
            request, search, assignment, arrival, started_at, ..
        }) => (request, search, Progress::InProgress(assignment, arrival, started_at)),
        Trip::Withdrawn(_) | Trip::Completed(_) | Trip::Cancelled(_) | Trip::Unfulfilled(_) => {
            return state;
        }
    };
    Trip::Cancelled(Cancelled { request, search, progress, by, reason, fee, at })
}

fn unassigned(state: Trip, deadline: Timestamp) -> Trip {
    let Trip::Assigned(Assigned { request, search, assignment }) = state else { return state };
    let mut search = search.excluding(assignment.driver);
    search.unassignments = search.unassignments.saturating_add(1);
    Trip::Matching(Matching { request, search, deadline })
}

fn arrived(state: Trip, arrival: Arrival) -> Trip {
    let Trip::Assigned(Assigned { request, search, assignment }) = state else { return state };
    let pin_tries_left = PIN_TRIES_MAX;
    Trip::Arrived(Arrived { request, search, assignment, arrival, pin_tries_left })
}

fn with_pin_tries(state: Trip, tries: u32) -> Trip {
    let Trip::Arrived(mut arrived) = state else { return state };
    arrived.pin_tries_left = tries;
    Trip::Arrived(arrived)
}

fn started(state: Trip, started_at: Timestamp) -> Trip {
    let Trip::Arrived(Arrived { request, search, assignment, arrival, .. }) = state else {
        return state;
    };
    let stalled = false;
    Trip::InProgress(InProgress { request, search, assignment, arrival, started_at, stalled })
}

fn completed(state: Trip, event: &TripEvent, at: Timestamp) -> Trip {
    let TripEvent::Completed { distance_m, duration_s, fare, .. } = event else { return state };
    let Trip::InProgress(ride) = state else { return state };
    Trip::Completed(Completed {
        request: ride.request,
        search: ride.search,
        assignment: ride.assignment,
        arrival: ride.arrival,
        started_at: ride.started_at,
        at,
        distance_m: *distance_m,
        duration_s: *duration_s,
        fare: *fare,
        ratings: Ratings::default(),
    })
}

fn rated(state: Trip, by: Party, stars: Stars) -> Trip {
    let Trip::Completed(mut completed) = state else { return state };
    match by {
        Party::Rider => completed.ratings.by_rider = Some(stars),
        Party::Driver => completed.ratings.by_driver = Some(stars),
        Party::System | Party::Operations => (),
    }
    Trip::Completed(completed)
}
