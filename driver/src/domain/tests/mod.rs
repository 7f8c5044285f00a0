//! The rules as sentences.

mod given;
mod laws;

use std::time::Duration;

use self::given::{
    FIRST, SECOND, START, accept, accepted, decline, declined, given, is_idle, lapsed, offer,
    offered, online, pair, refused, release, released, silent_for, silent_for_too_long,
    went_offline,
};
use super::{
    ACCEPT_GRACE, CLOSED_OFFERS_MAX, Driver, DriverCommand, DriverEvent, Duty, OFFER_TIME,
    OfferEnd, Pair, Rejection, evolve,
};

#[test]
fn an_idle_online_driver_gets_an_offer_for_fifteen_seconds() {
    let driver = given(&[online()]).when(offer(FIRST)).then(offered(FIRST));
    assert_eq!(driver.offered().unwrap().expires_at, START.plus(Duration::from_secs(15)));
}

#[test]
fn the_same_offer_again_says_nothing() {
    given(&[online(), offered(FIRST)]).when(offer(FIRST)).then_nothing();
    given(&[online(), offered(FIRST), accepted(FIRST)]).when(offer(FIRST)).then_nothing();
}

#[test]
fn a_busy_driver_refuses_a_second_offer_and_keeps_the_first() {
    let driver = given(&[online(), offered(FIRST)])
        .when(offer(SECOND))
        .then(refused(SECOND, OfferEnd::Busy));
    assert_eq!(driver.pair(), Some(pair(FIRST)));
    given(&[online(), offered(FIRST), accepted(FIRST)])
        .when(offer(SECOND))
        .then(refused(SECOND, OfferEnd::Busy));
    given(&[online(), offered(FIRST), accepted(FIRST), DriverEvent::Finishing])
        .when(offer(SECOND))
        .then(refused(SECOND, OfferEnd::Busy));
}

#[test]
fn an_offline_driver_refuses_and_the_trip_hears_of_it() {
    given(&[]).when(offer(FIRST)).then(refused(FIRST, OfferEnd::Offline));
    assert_eq!(
        refused(FIRST, OfferEnd::Offline).ended_offer(),
        Some((pair(FIRST), OfferEnd::Offline))
    );
}

#[test]
fn an_offer_that_ended_does_not_come_again() {
    given(&[online(), offered(FIRST), declined(FIRST)])
        .when(offer(FIRST))
        .then_rejected(Rejection::OfferClosed);
}

#[test]
fn only_the_offer_in_hand_can_be_accepted() {
    given(&[online(), offered(FIRST)]).when(accept(FIRST)).then(accepted(FIRST));
    given(&[online(), offered(FIRST)]).when(accept(SECOND)).then_rejected(Rejection::OfferUnknown);
    given(&[online()]).when(accept(FIRST)).then_rejected(Rejection::OfferUnknown);
}

#[test]
fn accepting_twice_says_nothing_the_second_time() {
    given(&[online(), offered(FIRST), accepted(FIRST)]).when(accept(FIRST)).then_nothing();
    given(&[online(), offered(FIRST), accepted(FIRST), DriverEvent::Finishing])
        .when(accept(FIRST))
        .then_nothing();
}

#[test]
fn an_acceptance_that_travelled_past_the_expiry_counts_for_a_second() {
    let in_time = OFFER_TIME + ACCEPT_GRACE;
    given(&[online(), offered(FIRST)]).after(in_time).when(accept(FIRST)).then(accepted(FIRST));
    given(&[online(), offered(FIRST)])
        .after(in_time + Duration::from_micros(1))
        .when(accept(FIRST))
        .then_rejected(Rejection::OfferLapsed);
}

#[test]
fn who_accepts_a_closed_offer_learns_why_not() {
    given(&[online(), offered(FIRST), lapsed(FIRST)])
        .when(accept(FIRST))
        .then_rejected(Rejection::OfferLapsed);
    given(&[online(), offered(FIRST), released(FIRST, false)])
        .when(accept(FIRST))
        .then_rejected(Rejection::OfferWithdrawn);
}

#[test]
fn declining_ends_the_offer_in_one_event() {
    let driver = given(&[online(), offered(FIRST)]).when(decline(FIRST)).then(declined(FIRST));
    assert!(is_idle(&driver));
    assert_eq!(declined(FIRST).ended_offer(), Some((pair(FIRST), OfferEnd::Declined)));
}

#[test]
fn declining_what_one_does_not_have_any_more_says_nothing() {
    given(&[online(), offered(FIRST), declined(FIRST)]).when(decline(FIRST)).then_nothing();
    given(&[online(), offered(FIRST), lapsed(FIRST)]).when(decline(FIRST)).then_nothing();
    given(&[online()]).when(decline(FIRST)).then_rejected(Rejection::OfferUnknown);
}

#[test]
fn an_accepted_offer_cannot_be_declined() {
    given(&[online(), offered(FIRST), accepted(FIRST)])
        .when(decline(FIRST))
        .then_rejected(Rejection::OnTrip { trip: pair(FIRST).trip });
}

#[test]
fn an_unanswered_offer_lapses() {
    let driver = given(&[online(), offered(FIRST)])
        .after(OFFER_TIME + ACCEPT_GRACE)
        .when(DriverCommand::LapseOffer)
        .then(lapsed(FIRST));
    assert!(is_idle(&driver));
    given(&[online(), offered(FIRST), accepted(FIRST)])
        .when(DriverCommand::LapseOffer)
        .then_nothing();
}

#[test]
fn the_timer_of_an_earlier_offer_does_not_end_the_next_one() {
    given(&[online(), offered(FIRST), declined(FIRST), offered(SECOND)])
        .after(Duration::from_secs(14))
        .when(DriverCommand::LapseOffer)
        .then_nothing();
}

#[test]
fn going_offline_with_an_offer_in_hand_is_one_event_that_ends_both() {
    let driver = given(&[online(), offered(FIRST)])
        .when(DriverCommand::GoOffline)
        .then(went_offline(Some(FIRST)));
    assert_eq!(driver.duty, Duty::Offline);
    assert_eq!(went_offline(Some(FIRST)).ended_offer(), Some((pair(FIRST), OfferEnd::Offline)));
}

#[test]
fn nobody_goes_offline_on_a_trip() {
    given(&[online(), offered(FIRST), accepted(FIRST)])
        .when(DriverCommand::GoOffline)
        .then_rejected(Rejection::OnTrip { trip: pair(FIRST).trip });
}

#[test]
fn a_finishing_driver_is_offline_with_the_end_of_the_trip() {
    let on_trip = [online(), offered(FIRST), accepted(FIRST)];
    let driver = given(&on_trip).when(DriverCommand::Finish).then(DriverEvent::Finishing);
    assert_eq!(driver.trip(), Some(pair(FIRST).trip));
    let finishing = [online(), offered(FIRST), accepted(FIRST), DriverEvent::Finishing];
    given(&finishing).when(DriverCommand::GoOffline).then_nothing();
    let driver = given(&finishing).when(release(FIRST)).then(released(FIRST, false));
    assert_eq!(driver.duty, Duty::Offline);
}

#[test]
fn finishing_without_a_trip_is_going_offline() {
    given(&[online()]).when(DriverCommand::Finish).then(went_offline(None));
    given(&[online(), offered(FIRST)]).when(DriverCommand::Finish).then(went_offline(Some(FIRST)));
    given(&[]).when(DriverCommand::Finish).then_nothing();
}

#[test]
fn a_finishing_driver_may_change_their_mind() {
    let driver = given(&[online(), offered(FIRST), accepted(FIRST), DriverEvent::Finishing])
        .when(DriverCommand::GoOnline)
        .then(online());
    assert_eq!(driver.trip(), Some(pair(FIRST).trip));
    assert!(is_idle(&evolve(driver, &released(FIRST, false), START)));
}

#[test]
fn duty_said_twice_says_nothing() {
    given(&[online()]).when(DriverCommand::GoOnline).then_nothing();
    given(&[]).when(DriverCommand::GoOffline).then_nothing();
}

#[test]
fn a_release_frees_the_driver_of_that_pair_only() {
    let on_trip = [online(), offered(FIRST), accepted(FIRST)];
    assert!(is_idle(&given(&on_trip).when(release(FIRST)).then(released(FIRST, false))));
    let driver = given(&on_trip).when(release(SECOND)).then(released(SECOND, true));
    assert_eq!(driver.pair(), Some(pair(FIRST)));
}

#[test]
fn a_release_that_names_another_trip_for_the_same_offer_changes_nothing() {
    let strange = Pair { trip: pair(SECOND).trip, offer: pair(FIRST).offer };
    given(&[online(), offered(FIRST), accepted(FIRST)])
        .when(DriverCommand::Release { pair: strange, why: "completed".into() })
        .then_nothing();
}

#[test]
fn an_offer_in_hand_can_be_released_and_the_trip_is_not_told_what_it_said() {
    let driver =
        given(&[online(), offered(FIRST)]).when(release(FIRST)).then(released(FIRST, false));
    assert!(is_idle(&driver));
    assert_eq!(released(FIRST, false).ended_offer(), None);
}

#[test]
fn a_release_before_the_offer_is_remembered_and_the_late_offer_refused() {
    given(&[online()]).when(release(FIRST)).then(released(FIRST, true));
    given(&[online(), released(FIRST, true)])
        .when(offer(FIRST))
        .then_rejected(Rejection::OfferClosed);
    given(&[online(), released(FIRST, true)]).when(release(FIRST)).then_nothing();
}

#[test]
fn a_release_of_what_the_driver_ended_says_nothing() {
    given(&[online(), offered(FIRST), declined(FIRST)]).when(release(FIRST)).then_nothing();
    given(&[refused(FIRST, OfferEnd::Offline)]).when(release(FIRST)).then_nothing();
}

#[test]
fn only_the_last_sixteen_closed_offers_are_remembered() {
    let driver = (0..40)
        .fold(Driver::default(), |driver, number| evolve(driver, &released(number, true), START));
    assert_eq!(driver.closed.iter().count(), CLOSED_OFFERS_MAX);
    assert_eq!(driver.closed.get(pair(39).offer), Some(OfferEnd::Released));
    assert_eq!(driver.closed.get(pair(0).offer), None);
}

#[test]
fn a_lost_driver_loses_the_offer_and_stays_online() {
    let lost = DriverEvent::Lost { pair: pair(FIRST), silent_s: 61 };
    assert_eq!(lost.ended_offer(), Some((pair(FIRST), OfferEnd::Lost)));
    let driver = given(&[online(), offered(FIRST)]).when(silent_for(61)).then(lost);
    assert!(is_idle(&driver));
}

#[test]
fn a_silence_that_is_too_long_ends_an_idle_duty() {
    let hour = Duration::from_secs(3600);
    given(&[online()]).after(hour).when(silent_for(9000)).then_nothing();
    given(&[online()])
        .after(hour)
        .when(silent_for_too_long())
        .then(DriverEvent::WentOffline { silent: true, ended: None });
    given(&[]).when(silent_for_too_long()).then_nothing();
}

#[test]
fn who_has_just_gone_online_is_not_sent_home_for_the_silence_before() {
    given(&[online()]).after(Duration::from_secs(10)).when(silent_for_too_long()).then_nothing();
}

#[test]
fn silence_never_ends_a_trip() {
    given(&[online(), offered(FIRST), accepted(FIRST)]).when(silent_for_too_long()).then_nothing();
}
