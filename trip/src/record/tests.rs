//! Every event and every state survives the wire; what is no trip is malformed.

use common::{
    clock::Timestamp,
    contract::v1,
    decider::{Decider as _, Recorder as _},
};
use prost::Message as _;

use super::TripDecider;
use crate::domain::{Terms, TimerKind, Trip, TripEvent, tests::given};

fn histories() -> Vec<Vec<TripEvent>> {
    use crate::domain::{OfferEnd, Party, Phase, TripCommand};
    use given::{ANNA, RIDER, TO_ANNA};
    let rated = |by| TripEvent::Rated { by, stars: given::stars(4) };
    let cancel = |phase, fee| given::cancelled(Party::Rider, "other", phase, fee);
    let tombstone = given::given(&[]).when(given::rider_cancels()).event();
    let by_operations = given::given(&given::on_the_road()).when(given::close(true)).event();
    let hasty = Terms { no_show_wait: std::time::Duration::from_millis(250), ..Terms::STANDARD };
    let hurried = given::given(&[]).when(TripCommand::Request {
        rider: RIDER,
        pickup: given::pickup(),
        dropoff: given::dropoff(),
        quote: given::quote(),
        pin: given::pin("0000"),
        terms: hasty,
        asked_at: given::at(0),
    });
    vec![
        vec![tombstone],
        vec![hurried.event()],
        [given::on_offer(), vec![TripEvent::Unfulfilled]].concat(),
        [given::on_offer(), vec![cancel(Phase::Matching, 0)]].concat(),
        [given::on_offer(), vec![given::closed(ANNA, TO_ANNA, OfferEnd::Declined)]].concat(),
        given::given_back_twice(),
        [given::on_the_way(), vec![cancel(Phase::Assigned, 4_000)]].concat(),
        [
            given::at_the_pickup(),
            vec![TripEvent::PinRefused { tries_left: 4 }, TripEvent::PinUnlocked],
            vec![TripEvent::WaitOver, cancel(Phase::Arrived, 4_000)],
        ]
        .concat(),
        [given::on_the_road(), vec![TripEvent::Stalled, by_operations]].concat(),
        [given::on_the_road(), vec![cancel(Phase::InProgress, 0)]].concat(),
        [given::at_the_destination(), vec![rated(Party::Rider), rated(Party::Driver)]].concat(),
    ]
}

#[test]
fn every_event_and_the_state_it_led_to_survive_the_wire() {
    let mut kinds = std::collections::BTreeSet::new();
    for history in histories() {
        let mut trip = Trip::Unknown;
        for (event, version) in history.iter().zip(1..) {
            let at = given::at(version);
            trip = TripDecider::evolve(trip, event, at);
            let stamp = v1::Stamp { version, at_us: at.micros(), ..v1::Stamp::default() };
            let read = TripDecider::decode(&TripDecider::encode(stamp.clone(), event, &trip));
            let read = read.unwrap();
            assert_eq!((read.stamp, &read.event, &read.state), (stamp, event, &trip));
            kinds.insert(TripDecider::kind(event));
        }
    }
    assert_eq!(kinds.len(), 15, "{kinds:?}");
}

#[test]
fn nothing_yet_is_a_state_too() {
    let wire = v1::TripState::from(&Trip::Unknown);
    assert_eq!(Trip::try_from(&wire), Ok(Trip::Unknown));
}

#[test]
fn what_is_no_trip_event_is_malformed() {
    assert!(TripDecider::decode(b"\xff\xff\xff").is_err());
    assert!(TripDecider::decode(&v1::TripEvent::default().encode_to_vec()).is_err());
    let event = given::requested();
    let broken = |break_it: fn(&mut v1::TripEvent)| {
        let trip = TripDecider::evolve(Trip::Unknown, &event, given::at(1));
        let bytes = TripDecider::encode(v1::Stamp::default(), &event, &trip);
        let mut raw = v1::TripEvent::decode(bytes.as_slice()).unwrap();
        break_it(&mut raw);
        TripDecider::decode(&raw.encode_to_vec())
    };
    assert!(broken(|_| ()).is_ok());
    assert!(broken(|raw| raw.stamp = None).is_err());
    assert!(broken(|raw| raw.state = None).is_err());
    assert!(broken(|raw| raw.state.as_mut().unwrap().rider_id.clear()).is_err());
    assert!(broken(|raw| raw.state.as_mut().unwrap().pin = "12a4".into()).is_err());
    assert!(broken(|raw| raw.state.as_mut().unwrap().pickup = None).is_err());
    let poor = |raw: &mut v1::TripEvent| {
        let quote = raw.state.as_mut().unwrap().quote.as_mut().unwrap();
        quote.fare.as_mut().unwrap().currency = "XXX".into();
    };
    assert!(broken(poor).is_err());
}

#[test]
fn timers_have_names() {
    for kind in [
        TimerKind::MatchDeadline,
        TimerKind::OfferLease,
        TimerKind::PickupWatchdog,
        TimerKind::NoShowWait,
        TimerKind::RideWatchdog,
    ] {
        assert_eq!(TripDecider::timer_kind(TripDecider::timer_name(kind)), Some(kind));
    }
    assert_eq!(TripDecider::timer_kind("lunch"), None);
}

#[test]
fn a_pin_never_shows_in_a_log() {
    assert!(!format!("{:?}", given::requested()).contains("0417"));
    assert_eq!(given::pin("0417").to_string(), "0417");
    let zero = Timestamp::from_micros(0);
    assert!(
        !format!("{:?}", TripDecider::evolve(Trip::Unknown, &given::requested(), zero))
            .contains("0417")
    );
}
