//! Every event and state survives the wire, and what is not one is malformed.

use common::{
    clock::Timestamp,
    contract::{Malformed, v1},
    decider::{Decider as _, Recorder as _},
    id::{CommandId, OfferId, TripId},
    money::{Currency, Money},
};
use uuid::Uuid;

use super::{Addressed, DriverDecider};
use crate::domain::{Driver, DriverEvent, OfferEnd, OfferTerms, Pair};

const AT: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

fn pair() -> Pair {
    Pair { trip: TripId(Uuid::from_u128(1)), offer: OfferId(Uuid::from_u128(2)) }
}

fn terms() -> OfferTerms {
    OfferTerms {
        pickup_eta_s: 1,
        pickup_distance_m: 2,
        fare: Money::new(3, Currency::EUR),
        trip_distance_m: 4,
        trip_duration_s: 5,
    }
}

fn every_event() -> Vec<DriverEvent> {
    let pair = pair();
    vec![
        DriverEvent::WentOnline,
        DriverEvent::OfferRefused { pair, why: OfferEnd::Busy },
        DriverEvent::Offered { pair, expires_at: AT, terms: terms() },
        DriverEvent::OfferAccepted { pair },
        DriverEvent::Finishing,
        DriverEvent::Released { pair, why: "completed".into(), early: false },
        DriverEvent::OfferDeclined { pair, reason: "too_far".into() },
        DriverEvent::OfferLapsed { pair },
        DriverEvent::Lost { pair, silent_s: 61 },
        DriverEvent::WentOffline { silent: true, ended: Some(pair) },
        DriverEvent::WentOffline { silent: false, ended: None },
    ]
}

#[test]
fn every_event_survives_the_wire_with_the_state_it_led_to() {
    let mut state = Driver::default();
    for event in every_event() {
        state = DriverDecider::evolve(state, &event, AT);
        let stamp = v1::Stamp { version: 7, ..v1::Stamp::default() };
        let bytes = DriverDecider::encode(stamp.clone(), &event, &state);
        let read = DriverDecider::decode(&bytes).unwrap();
        assert_eq!((read.stamp, read.event, read.state), (stamp, event, state.clone()));
    }
}

#[test]
fn bytes_that_are_no_event_are_malformed() {
    assert!(DriverDecider::decode(b"").is_err(), "no fields at all");
    assert!(DriverDecider::decode(b"\xff\xff\xff").is_err(), "not protobuf");
}

#[test]
fn a_duty_that_does_not_fit_the_engagement_is_malformed() {
    let offered = Driver::default();
    let offered = DriverDecider::evolve(offered, &DriverEvent::WentOnline, AT);
    let event = DriverEvent::Offered { pair: pair(), expires_at: AT, terms: terms() };
    let offered = DriverDecider::evolve(offered, &event, AT);
    let state = v1::DriverState { duty: v1::Duty::Offline.into(), ..(&offered).into() };
    assert!(Driver::try_from(&state).is_err());
}

#[test]
fn a_command_without_ids_or_kind_is_malformed() {
    let command = v1::DriverCommand {
        command_id: CommandId(Uuid::from_u128(1)).to_vec(),
        driver_id: vec![1, 2, 3],
        kind: Some(v1::driver_command::Kind::MarkLost(v1::MarkLost::default())),
    };
    assert_eq!(
        Addressed::try_from(&command),
        Err(Malformed::new("driver_id", "an id has 16 bytes, not 3"))
    );
    let command = v1::DriverCommand { kind: None, ..command };
    assert!(Addressed::try_from(&command).is_err());
}
