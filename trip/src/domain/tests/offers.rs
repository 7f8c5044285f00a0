//! From the request to the assignment.

use std::time::Duration;

use super::given::{
    ANNA, BELA, CEM, ETA_S, Given, RIDER, TO_ANNA, TO_BELA, TO_CEM, assign, assigned, at,
    at_the_destination, at_the_pickup, cancelled, close_offer, closed, dropoff, given, matching,
    offer, offered, on_offer, on_the_way, pickup, pin, quote, reason, request, requested,
    rider_cancels, unassigned,
};
use crate::domain::{
    OFFERS_MAX, OfferEnd, OfferStatus, Party, Phase, Rejection, Release, Terms, Trip, TripEvent,
    evolve, releases,
};
use common::{id::OfferId, money::Money};
use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_request_opens_the_search_for_two_minutes() {
    given(&[]).when(request()).then(TripEvent::Requested {
        rider: RIDER,
        pickup: pickup(),
        dropoff: dropoff(),
        quote: quote(),
        pin: pin("0417"),
        terms: Terms::STANDARD,
        match_deadline: at(120),
    });
}

#[test]
fn a_trip_is_requested_once() {
    for history in [matching(), on_offer(), on_the_way(), at_the_destination()] {
        given(&history).when(request()).then_nothing();
    }
}

/// By then its trip may be in the archive, and would begin a second time.
#[test]
fn what_was_asked_for_a_week_ago_becomes_no_trip() {
    const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    given(&[]).after(WEEK).when(request()).event();
    given(&[])
        .after(WEEK + SECOND)
        .when(request())
        .then_rejected(Rejection::AskedTooLongAgo { at: at(0) });
    given(&[]).after(WEEK).when(rider_cancels()).event();
    given(&[]).after(WEEK + SECOND).when(rider_cancels()).then_rejected(Rejection::UnknownTrip);
    given(&at_the_destination()).after(WEEK + SECOND).when(request()).then_nothing();
}

#[test]
fn nothing_more_happens_to_a_trip_once_it_can_be_rated_no_longer() {
    let settled = |history: &[TripEvent]| given(history).trip.settled_at();
    for open in [vec![], matching(), on_offer(), on_the_way(), at_the_pickup()] {
        assert_eq!(settled(&open), None);
    }
    let Given { trip, now } = given(&at_the_destination());
    assert_eq!(trip.settled_at(), Some(now.plus(Terms::STANDARD.rating_window)));
    let Given { trip, now } = given(&[on_offer(), vec![TripEvent::Unfulfilled]].concat());
    assert_eq!(trip.settled_at(), Some(now));
}

#[test]
fn a_ride_cancelled_before_its_request_came_is_never_requested() {
    let tombstone = TripEvent::Cancelled {
        by: Party::Rider,
        reason: reason("wait_too_long"),
        phase: None,
        fee: Money::default(),
    };
    let trip = given(&[]).when(rider_cancels()).then(tombstone.clone());
    assert!(trip.is_over());
    given(std::slice::from_ref(&tombstone)).when(request()).then_nothing();
    given(std::slice::from_ref(&tombstone)).when(rider_cancels()).then_nothing();
    given(&[tombstone])
        .when(offer(ANNA, TO_ANNA))
        .then_rejected(Rejection::Ended { phase: Phase::Cancelled });
}

#[test]
fn a_trip_in_search_makes_an_offer_for_thirty_seconds() {
    given(&matching()).after(SECOND).when(offer(ANNA, TO_ANNA)).then(offered(ANNA, TO_ANNA));
}

#[test]
fn one_offer_is_open_at_a_time() {
    given(&on_offer())
        .when(offer(BELA, TO_BELA))
        .then_rejected(Rejection::OfferOpen { offer: TO_ANNA });
}

#[test]
fn an_offer_made_twice_is_made_once() {
    given(&on_offer()).when(offer(ANNA, TO_ANNA)).then_nothing();
}

#[test]
fn two_dispatchers_cannot_make_the_same_offer_to_two_drivers() {
    given(&on_offer()).when(offer(BELA, TO_ANNA)).then_rejected(Rejection::OfferedToAnother);
}

#[test]
fn a_trip_makes_at_most_twenty_offers() {
    let mut history = matching();
    for number in 0..OFFERS_MAX {
        let number = OfferId(Uuid::from_u128(1_000 + number as u128));
        history.push(offered(ANNA, number));
        history.push(closed(ANNA, number, OfferEnd::Busy));
    }
    given(&history).when(offer(ANNA, TO_ANNA)).then_rejected(Rejection::TooManyOffers);
}

#[test]
fn there_is_no_offer_after_the_deadline_even_before_its_timer_fired() {
    given(&matching())
        .after(Duration::from_secs(120))
        .when(offer(ANNA, TO_ANNA))
        .then_rejected(Rejection::SearchOver { at: at(121) });
}

#[test]
fn only_a_trip_in_search_makes_offers() {
    given(&[]).when(offer(ANNA, TO_ANNA)).then_rejected(Rejection::UnknownTrip);
    given(&on_the_way())
        .when(offer(BELA, TO_BELA))
        .then_rejected(Rejection::WrongPhase { phase: Phase::Assigned });
    given(&at_the_destination())
        .when(offer(BELA, TO_BELA))
        .then_rejected(Rejection::Ended { phase: Phase::Completed });
}

#[test]
fn the_driver_who_accepts_the_open_offer_gets_the_trip() {
    let trip =
        given(&on_offer()).after(SECOND).when(assign(ANNA, TO_ANNA)).then(TripEvent::Assigned {
            offer: TO_ANNA,
            driver: ANNA,
            pickup_eta_s: ETA_S,
            watchdog: at(3 + 2 * 240 + 300),
        });
    assert_eq!(trip.assignment().map(|assignment| assignment.driver), Some(ANNA));
}

#[test]
fn an_acceptance_heard_twice_assigns_once() {
    for history in [on_the_way(), at_the_pickup(), at_the_destination()] {
        given(&history).when(assign(ANNA, TO_ANNA)).then_nothing();
    }
}

#[test]
fn an_acceptance_heard_again_after_the_trip_was_given_back_says_nothing() {
    let history = [on_the_way(), vec![unassigned(ANNA, TO_ANNA)]].concat();
    given(&history).when(assign(ANNA, TO_ANNA)).then_nothing();
}

#[test]
fn an_acceptance_of_a_closed_offer_is_refused() {
    let why = OfferEnd::LeaseOver;
    let history = [on_offer(), vec![closed(ANNA, TO_ANNA, why)]].concat();
    given(&history).when(assign(ANNA, TO_ANNA)).then_rejected(Rejection::OfferClosed { why });
}

#[test]
fn an_acceptance_after_the_trip_ended_is_refused() {
    let why = OfferEnd::TripEnded;
    for end in [TripEvent::Unfulfilled, cancelled(Party::Rider, "other", Phase::Matching, 0)] {
        let history = [on_offer(), vec![end]].concat();
        given(&history).when(assign(ANNA, TO_ANNA)).then_rejected(Rejection::OfferClosed { why });
    }
}

#[test]
fn an_offer_that_was_never_made_cannot_be_accepted() {
    given(&on_offer()).when(assign(ANNA, TO_BELA)).then_rejected(Rejection::OfferUnknown);
    given(&[]).when(assign(ANNA, TO_ANNA)).then_rejected(Rejection::UnknownTrip);
}

#[test]
fn only_the_offered_driver_may_accept() {
    given(&on_offer()).when(assign(BELA, TO_ANNA)).then_rejected(Rejection::OfferedToAnother);
}

#[test]
fn who_declined_or_let_it_lapse_is_not_asked_again() {
    for why in [OfferEnd::Declined, OfferEnd::Lapsed] {
        let history = [on_offer(), vec![closed(ANNA, TO_ANNA, why)]].concat();
        given(&history).when(offer(ANNA, TO_CEM)).then_rejected(Rejection::DriverExcluded);
    }
}

#[test]
fn who_could_not_choose_may_be_asked_again() {
    for why in [OfferEnd::Busy, OfferEnd::Lost, OfferEnd::Offline, OfferEnd::LeaseOver] {
        let history = [on_offer(), vec![closed(ANNA, TO_ANNA, why)]].concat();
        let event = given(&history).when(offer(ANNA, TO_CEM)).event();
        assert!(matches!(event, TripEvent::Offered { driver: ANNA, .. }));
    }
}

#[test]
fn an_open_offer_is_closed_once() {
    let why = OfferEnd::Declined;
    given(&on_offer()).when(close_offer(TO_ANNA, why)).then(closed(ANNA, TO_ANNA, why));
    let history = [on_offer(), vec![closed(ANNA, TO_ANNA, why)]].concat();
    given(&history).when(close_offer(TO_ANNA, OfferEnd::Lost)).then_nothing();
}

#[test]
fn an_assigned_or_unknown_offer_cannot_be_closed() {
    let lost = OfferEnd::Lost;
    given(&on_the_way()).when(close_offer(TO_ANNA, lost)).then_rejected(Rejection::OfferAssigned);
    given(&on_offer()).when(close_offer(TO_BELA, lost)).then_rejected(Rejection::OfferUnknown);
    given(&[]).when(close_offer(TO_ANNA, lost)).then_rejected(Rejection::OfferUnknown);
}

#[test]
fn a_driver_who_gave_the_trip_back_is_not_asked_again() {
    let history = [on_the_way(), vec![unassigned(ANNA, TO_ANNA)]].concat();
    given(&history).when(offer(ANNA, TO_CEM)).then_rejected(Rejection::DriverExcluded);
    let next = [history, vec![offered(CEM, TO_CEM), assigned(CEM, TO_CEM)]].concat();
    assert_eq!(given(&next).trip.assignment().map(|assignment| assignment.driver), Some(CEM));
}

#[test]
fn an_offer_that_is_open_when_the_trip_ends_ends_with_it() {
    let unfulfilled = given(&[on_offer(), vec![TripEvent::Unfulfilled]].concat()).trip;
    let status = unfulfilled.search().and_then(|search| search.record(TO_ANNA)).unwrap().status;
    assert_eq!(status, OfferStatus::Closed(OfferEnd::TripEnded));
}

fn released_by(history: &[TripEvent], event: &TripEvent) -> Option<Release> {
    let given = given(history);
    let state = evolve(given.trip, event, given.now);
    releases(event, &state)
}

#[test]
fn whatever_unbinds_a_driver_releases_them() {
    let anna = |why| Some(Release { driver: ANNA, offer: TO_ANNA, why });
    let cancel = |phase| cancelled(Party::Rider, "other", phase, 0);
    assert_eq!(released_by(&on_offer(), &TripEvent::Unfulfilled), anna("unfulfilled"));
    assert_eq!(released_by(&on_offer(), &cancel(Phase::Matching)), anna("cancelled"));
    assert_eq!(released_by(&on_the_way(), &cancel(Phase::Assigned)), anna("cancelled"));
    assert_eq!(released_by(&on_the_way(), &unassigned(ANNA, TO_ANNA)), anna("unassigned"));
    assert_eq!(
        released_by(&on_offer(), &closed(ANNA, TO_ANNA, OfferEnd::LeaseOver)),
        anna("lease_over")
    );
    let completed = at_the_destination().pop().unwrap();
    assert_eq!(released_by(&super::given::on_the_road(), &completed), anna("completed"));
}

#[test]
fn who_is_free_already_is_not_released() {
    let cancel = cancelled(Party::Rider, "other", Phase::Matching, 0);
    assert_eq!(released_by(&matching(), &TripEvent::Unfulfilled), None);
    assert_eq!(released_by(&matching(), &cancel), None);
    let after_a_decline = [on_offer(), vec![closed(ANNA, TO_ANNA, OfferEnd::Declined)]].concat();
    assert_eq!(released_by(&after_a_decline, &cancel), None);
    assert_eq!(released_by(&on_offer(), &closed(ANNA, TO_ANNA, OfferEnd::Declined)), None);
    assert_eq!(released_by(&[], &requested()), None);
}

#[test]
fn a_folded_event_that_does_not_fit_changes_nothing() {
    let trip = given(&matching()).trip;
    assert_eq!(evolve(trip.clone(), &TripEvent::WaitOver, at(9)), trip);
    assert_eq!(evolve(Trip::Unknown, &TripEvent::Stalled, at(9)), Trip::Unknown);
}
