//! The rider's rules as sentences.

use std::time::Duration;

use common::{
    clock::Timestamp,
    geo::Point,
    id::{DriverId, RiderId, TripId},
    money::{Currency, Money},
};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use uuid::Uuid;

use super::{
    cancellation::{FREE_CANCELLATION, preview},
    charge::{Approach, Debt, Ending, KEY_TRUSTED_FOR, Purpose, Step, approach, owed, postings},
    idempotency::{Answer, KEPT_FOR, Record, Verdict, judge},
    tariff::{Item, Product, TARIFF_DEFAULT, Tariff, Way, half_even_of, surge_step},
    trip::{Phase, Progress, Quote, Ride, Trip},
};

const NOON: Timestamp = Timestamp::from_micros(1_767_268_800_000_000);

fn krona(amount_minor: i64) -> Money {
    Money::new(amount_minor, Currency::SEK)
}

fn tariff() -> Tariff {
    Tariff {
        currency: Currency::SEK,
        products: vec![Product {
            product: "standard".into(),
            name: "Standard".into(),
            capacity: 4,
            base: 3_000,
            per_km: 1_000,
            per_minute: 600,
            minimum: 5_000,
            cancellation_fee: 4_000,
        }],
    }
}

fn fare_of(distance_m: u32, duration_s: u32, surge_percent: u32) -> (i64, Vec<(Item, i64)>) {
    let tariff = tariff();
    let price = tariff.price(&tariff.products[0], Way { distance_m, duration_s }, surge_percent);
    let lines = price.breakdown.iter().map(|line| (line.item, line.amount.amount_minor));
    (price.fare.amount_minor, lines.collect())
}

fn ride() -> Ride {
    Ride {
        trip: TripId(Uuid::from_u128(1)),
        rider: RiderId(Uuid::from_u128(2)),
        pickup: Point::new(57.7, 11.97).unwrap(),
        dropoff: Point::new(57.69, 11.95).unwrap(),
        quote: Quote {
            fare_id: Uuid::from_u128(3),
            product: "standard".into(),
            fare: krona(12_000),
            distance_m: 5_000,
            duration_s: 600,
            surge_percent: 100,
            cancellation_fee: krona(4_000),
        },
        pin: "0427".into(),
        requested_at: NOON,
    }
}

fn trip_in(phase: Phase) -> Trip {
    let progress = Progress {
        version: 3,
        sequence: 30,
        phase,
        driver: Some(DriverId(Uuid::from_u128(4))),
        pickup_eta_s: 240,
        assigned_at: Some(NOON),
        arrived_at: None,
        started_at: None,
        ended_at: None,
        fare: None,
        cancelled: None,
        stars_by_rider: None,
    };
    Trip { ride: ride(), progress: Some(progress) }
}

#[test]
fn a_fare_is_base_and_way_and_time() {
    let (fare, lines) = fare_of(5_000, 600, 100);
    assert_eq!(fare, 3_000 + 5_000 + 6_000);
    assert_eq!(lines, [(Item::Base, 3_000), (Item::Distance, 5_000), (Item::Time, 6_000)]);
}

#[test]
fn surge_multiplies_everything_and_is_a_line_of_its_own() {
    let (fare, lines) = fare_of(5_000, 600, 150);
    assert_eq!(fare, 21_000);
    assert_eq!(lines.last(), Some(&(Item::Surge, 7_000)));
}

#[test]
fn a_short_ride_costs_the_minimum() {
    let (fare, lines) = fare_of(100, 60, 100);
    assert_eq!(fare, 5_000);
    assert_eq!(lines.last(), Some(&(Item::MinimumFare, 1_300)));
}

#[test]
fn a_half_rounds_to_the_even_neighbour() {
    assert_eq!(half_even_of(5, 2), 2);
    assert_eq!(half_even_of(7, 2), 4);
    assert_eq!(half_even_of(1_499, 1_000), 1);
    assert_eq!(half_even_of(1_501, 1_000), 2);
}

#[test]
fn surge_moves_in_steps_between_none_and_two_and_a_half() {
    assert_eq!(surge_step(0), 100);
    assert_eq!(surge_step(119), 110);
    assert_eq!(surge_step(9_999), 250);
}

#[test]
fn the_default_tariff_can_be_read_and_a_negative_rate_cannot() {
    assert!(TARIFF_DEFAULT.parse::<Tariff>().is_ok());
    assert!(TARIFF_DEFAULT.replace("3900", "-1").parse::<Tariff>().is_err());
    assert!(r#"{"currency":"SEK","products":[]}"#.parse::<Tariff>().is_err());
}

#[test]
fn cancelling_is_free_while_nobody_is_assigned() {
    let waiting = Trip { ride: ride(), progress: None };
    let preview = preview(&waiting, NOON.plus(Duration::from_secs(9_999)));
    assert!(preview.allowed);
    assert!(preview.fee.is_zero());
    assert_eq!(preview.free_until, None);
}

#[test]
fn cancelling_is_free_for_two_minutes_after_the_assignment_and_then_costs_the_fee() {
    let trip = trip_in(Phase::Assigned);
    assert!(preview(&trip, NOON.plus(FREE_CANCELLATION)).fee.is_zero());
    let late = NOON.plus(FREE_CANCELLATION + Duration::from_micros(1));
    assert_eq!(preview(&trip, late).fee, krona(4_000));
    assert_eq!(preview(&trip_in(Phase::Arrived), late).fee, krona(4_000));
}

#[test]
fn a_ride_that_began_or_ended_cannot_be_cancelled() {
    for phase in [Phase::InProgress, Phase::Completed, Phase::Cancelled, Phase::Unfulfilled] {
        assert!(!preview(&trip_in(phase), NOON).allowed, "{phase:?}");
    }
}

fn record() -> Record {
    let answer = Answer { status: 201, body: "{}".into() };
    Record { fingerprint: [7; 32], answer, created_at: NOON }
}

#[test]
fn a_new_key_is_carried_out() {
    assert_eq!(judge(None, &[7; 32], NOON), Verdict::CarryOut);
}

#[test]
fn the_same_key_for_the_same_thing_gets_the_same_answer() {
    assert_eq!(judge(Some(record()), &[7; 32], NOON), Verdict::Replay(record().answer));
}

#[test]
fn the_same_key_for_another_thing_is_refused() {
    assert_eq!(judge(Some(record()), &[8; 32], NOON), Verdict::Reused);
}

#[test]
fn after_a_day_a_key_is_new_again() {
    let next_day = NOON.plus(KEPT_FOR + Duration::from_secs(1));
    assert_eq!(judge(Some(record()), &[8; 32], next_day), Verdict::CarryOut);
}

#[test]
fn a_completed_ride_owes_its_fare_and_a_free_cancellation_owes_nothing() {
    assert_eq!(owed(Ending::Completed(krona(9))), Some((Purpose::Fare, krona(9))));
    assert_eq!(owed(Ending::Cancelled(krona(4))), Some((Purpose::CancellationFee, krona(4))));
    assert_eq!(owed(Ending::Cancelled(krona(0))), None);
}

#[test]
fn a_charge_keeps_its_key_and_reference_and_those_of_two_purposes_differ() {
    let debt = |purpose| Debt {
        trip: TripId(Uuid::from_u128(1)),
        purpose,
        rider: RiderId(Uuid::from_u128(2)),
        driver: None,
        amount: krona(1),
    };
    assert_eq!(debt(Purpose::Fare).key(), debt(Purpose::Fare).key());
    assert_ne!(debt(Purpose::Fare).key(), debt(Purpose::CancellationFee).key());
    assert_ne!(debt(Purpose::Fare).reference(), debt(Purpose::CancellationFee).reference());
    assert_ne!(debt(Purpose::Fare).charged_event(), debt(Purpose::CancellationFee).charged_event());
}

#[test]
fn a_provider_is_asked_before_it_is_charged_again_or_after_half_a_day() {
    assert_eq!(approach(NOON, true, NOON), Approach::Charge);
    assert_eq!(approach(NOON, false, NOON), Approach::LookUpFirst);
    assert_eq!(approach(NOON, true, NOON.plus(KEY_TRUSTED_FOR)), Approach::LookUpFirst);
}

proptest! {
    #[test]
    fn the_lines_of_a_fare_always_add_up_to_it(
        distance_m in 0_u32..200_000, duration_s in 0_u32..36_000, surge in 0_u32..400,
    ) {
        let (fare, lines) = fare_of(distance_m, duration_s, surge);
        prop_assert_eq!(lines.iter().map(|(_, amount)| amount).sum::<i64>(), fare);
        prop_assert!(fare >= 5_000);
    }

    #[test]
    fn a_longer_way_never_costs_less(
        distance_m in 0_u32..100_000, more in 0_u32..1_000, duration_s in 0_u32..36_000,
    ) {
        prop_assert!(
            fare_of(distance_m + more, duration_s, 100).0 >= fare_of(distance_m, duration_s, 100).0
        );
    }

    #[test]
    fn every_step_of_the_ledger_sums_to_zero(amount in any::<i32>()) {
        for step in [Step::Owed, Step::Settled] {
            let sum: i64 = postings(step, krona(i64::from(amount)))
                .iter()
                .map(|posting| posting.amount.amount_minor)
                .sum();
            prop_assert_eq!(sum, 0);
        }
    }
}
