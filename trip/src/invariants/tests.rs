//! Each promise is seen to be broken where it is, and not where it is not.

use common::{
    contract::v1,
    decider::Recorded,
    id::{DriverId, TripId},
};
use uuid::Uuid;

use super::{Invariants, Rule};
use crate::{
    domain::{Phase, Trip, TripEvent, evolve, tests::given},
    record::TripDecider,
};

const TRIP: TripId = TripId(Uuid::from_u128(900));
const OTHER_TRIP: TripId = TripId(Uuid::from_u128(901));

struct Log {
    seen: Invariants,
    sequence: u64,
}

impl Log {
    fn new() -> Self {
        Self { seen: Invariants::default(), sequence: 0 }
    }

    fn add(mut self, trip: TripId, history: &[TripEvent]) -> Self {
        let mut state = Trip::Unknown;
        for (event, version) in history.iter().zip(1..) {
            state = evolve(state, event, given::at(version));
            let recorded = recorded(version, event, &state);
            self.sequence += 1;
            self.seen.see_trip(trip, self.sequence, recorded);
        }
        self
    }

    fn broken(&self) -> Vec<Rule> {
        self.seen.broken.keys().copied().collect()
    }
}

fn recorded(version: u64, event: &TripEvent, state: &Trip) -> Recorded<TripDecider> {
    let stamp = v1::Stamp { version, at_us: given::at(version).micros(), ..v1::Stamp::default() };
    Recorded { stamp, event: event.clone(), state: state.clone() }
}

#[test]
fn ordinary_rides_break_nothing() {
    let rated = TripEvent::Rated { by: crate::domain::Party::Rider, stars: given::stars(5) };
    let log = Log::new()
        .add(TRIP, &[given::at_the_destination(), vec![rated]].concat())
        .add(OTHER_TRIP, &given::given_back_twice());
    let standing = log.seen.standing();
    assert!(standing.holds, "{standing:?}");
    assert_eq!((standing.trips["completed"], standing.trips["assigned"]), (1, 1));
    assert_eq!(standing.drivers_on_trips, 1);
    let last: Vec<_> = log.seen.last(None, 9).into_iter().map(|(trip, _)| trip).collect();
    assert_eq!(last, [OTHER_TRIP, TRIP]);
    assert_eq!(log.seen.last(Some(Phase::Completed), 9).len(), 1);
}

#[test]
fn a_driver_on_two_trips_is_found() {
    let log = Log::new().add(TRIP, &given::on_the_way()).add(OTHER_TRIP, &given::on_the_way());
    assert_eq!(log.broken(), [Rule::DriverOnTwoTrips]);
    assert_eq!(log.seen.standing().broken["driver_on_two_trips"], 1);
}

#[test]
fn a_trip_with_two_drivers_is_found() {
    let second = given::assigned(given::BELA, given::TO_BELA);
    let log = Log::new().add(TRIP, &[given::on_the_way(), vec![second]].concat());
    assert_eq!(log.broken(), [Rule::TripWithTwoDrivers]);
}

#[test]
fn an_event_after_the_end_is_found() {
    let log =
        Log::new().add(TRIP, &[given::at_the_destination(), vec![TripEvent::Stalled]].concat());
    assert_eq!(log.broken(), [Rule::EventAfterTheEnd]);
}

#[test]
fn a_state_that_the_events_do_not_fold_to_is_found() {
    let mut log = Log::new().add(TRIP, &given::matching());
    let offered = given::offered(given::ANNA, given::TO_ANNA);
    let stale = given::given(&given::matching()).trip;
    log.seen.see_trip(TRIP, 2, recorded(2, &offered, &stale));
    assert_eq!(log.broken(), [Rule::CarriedStateDiffers]);
}

#[test]
fn a_driver_engaged_twice_is_found() {
    let engaged = |trip: TripId| v1::DriverEvent {
        state: Some(v1::DriverState {
            engagement: Some(v1::Engagement {
                kind: Some(v1::engagement::Kind::Engaged(v1::engagement::Engaged {
                    trip_id: trip.to_vec(),
                    ..Default::default()
                })),
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let driver = DriverId(Uuid::from_u128(1));
    let mut seen = Invariants::default();
    seen.see_driver(driver, 1, &engaged(TRIP)).unwrap();
    assert!(seen.standing().holds);
    seen.see_driver(driver, 2, &engaged(OTHER_TRIP)).unwrap();
    assert_eq!(seen.standing().broken["driver_engaged_twice"], 1);
    assert!(seen.see_driver(driver, 3, &v1::DriverEvent::default()).is_err());
}
