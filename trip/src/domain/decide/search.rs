//! From the request to the assignment.

use common::{
    clock::Timestamp,
    id::{DriverId, OfferId},
    planted::{self, Planted},
};

use super::{
    super::{
        Matching, OFFERS_MAX, OfferEnd, OfferRecord, OfferStatus, Rejection, Request, Search, Trip,
        TripCommand, TripEvent, terms::ASKED_MAX,
    },
    Decision, NOTHING, refused,
};

pub(super) fn request(state: &Trip, command: &TripCommand, now: Timestamp) -> Decision {
    let TripCommand::Request { rider, pickup, dropoff, quote, pin, terms, asked_at } = command
    else {
        return NOTHING;
    };
    match state {
        Trip::Unknown if now.since(*asked_at) > ASKED_MAX => {
            Err(Rejection::AskedTooLongAgo { at: *asked_at })
        }
        Trip::Unknown => Ok(Some(TripEvent::Requested {
            rider: *rider,
            pickup: *pickup,
            dropoff: *dropoff,
            quote: quote.clone(),
            pin: *pin,
            terms: *terms,
            match_deadline: now.plus(terms.match_deadline),
        })),
        // Requested already, or cancelled before the request came: it stays so.
        Trip::Withdrawn(_)
        | Trip::Matching(_)
        | Trip::Assigned(_)
        | Trip::Arrived(_)
        | Trip::InProgress(_)
        | Trip::Completed(_)
        | Trip::Cancelled(_)
        | Trip::Unfulfilled(_) => NOTHING,
    }
}

pub(super) fn make_offer(state: &Trip, record: &OfferRecord, now: Timestamp) -> Decision {
    let Matching { request, search, deadline } = match state {
        Trip::Matching(matching) => matching,
        Trip::Unknown
        | Trip::Withdrawn(_)
        | Trip::Assigned(_)
        | Trip::Arrived(_)
        | Trip::InProgress(_)
        | Trip::Completed(_)
        | Trip::Cancelled(_)
        | Trip::Unfulfilled(_) => return refused(state),
    };
    match (search.record(record.offer), search.open()) {
        (Some(known), _) if known.driver == record.driver => NOTHING,
        (Some(_), _) => Err(Rejection::OfferedToAnother),
        (None, Some(open)) => Err(Rejection::OfferOpen { offer: open.offer }),
        (None, None) if search.offers.len() >= OFFERS_MAX => Err(Rejection::TooManyOffers),
        (None, None) if search.excludes(record.driver) => Err(Rejection::DriverExcluded),
        (None, None) if *deadline <= now => Err(Rejection::SearchOver { at: *deadline }),
        (None, None) => Ok(Some(TripEvent::Offered {
            offer: record.offer,
            driver: record.driver,
            pickup_eta_s: record.pickup_eta_s,
            pickup_distance_m: record.pickup_distance_m,
            lease_until: now.plus(request.terms.offer_lease),
        })),
    }
}

/// The offer's own record decides, whatever the phase: an acceptance that comes late, twice or
/// after the end gives the same answer for ever.
pub(super) fn assign(state: &Trip, driver: DriverId, offer: OfferId, now: Timestamp) -> Decision {
    let (Some(search), Some(request)) = (state.search(), state.request()) else {
        return refused(state);
    };
    let record = search.record(offer).ok_or(Rejection::OfferUnknown)?;
    if record.driver != driver {
        return Err(Rejection::OfferedToAnother);
    }
    match record.status {
        OfferStatus::Closed(_)
            if planted::is_on(Planted::AssignOnStillMatching)
                && matches!(state, Trip::Matching(_)) =>
        {
            Ok(Some(assigned(record, request, now)))
        }
        OfferStatus::Assigned => NOTHING,
        OfferStatus::Closed(why) => Err(Rejection::OfferClosed { why }),
        OfferStatus::Open { .. } => Ok(Some(assigned(record, request, now))),
    }
}

fn assigned(record: &OfferRecord, request: &Request, now: Timestamp) -> TripEvent {
    TripEvent::Assigned {
        offer: record.offer,
        driver: record.driver,
        pickup_eta_s: record.pickup_eta_s,
        watchdog: request.terms.pickup_watchdog(record.pickup_eta_s, now),
    }
}

pub(super) fn close_offer(state: &Trip, offer: OfferId, why: OfferEnd) -> Decision {
    let search = state.search().ok_or(Rejection::OfferUnknown)?;
    let record = search.record(offer).ok_or(Rejection::OfferUnknown)?;
    match record.status {
        OfferStatus::Closed(_) => NOTHING,
        OfferStatus::Assigned => Err(Rejection::OfferAssigned),
        OfferStatus::Open { .. } => {
            Ok(Some(TripEvent::OfferClosed { offer, driver: record.driver, why }))
        }
    }
}

pub(super) fn end_search(state: &Trip) -> Decision {
    let Trip::Matching(_) = state else { return NOTHING };
    Ok(Some(TripEvent::Unfulfilled))
}

pub(super) fn end_lease(state: &Trip) -> Decision {
    let open = state.search().and_then(Search::open);
    Ok(open.map(|open| TripEvent::OfferClosed {
        offer: open.offer,
        driver: open.driver,
        why: OfferEnd::LeaseOver,
    }))
}
