//! Chance is drawn from a seed, follows its rates, and is counted.

use crate::chaos::proxy::{
    Counts, Fault, Faults, Rates, class::Kind, control::chance, counts::Tally,
};

const DRAWS: u32 = 20_000;

fn draws(rates: &Rates, seed: u64, connection: u64, direction: u64) -> Vec<Option<Fault>> {
    let mut chance = chance(seed, connection, direction);
    (0..DRAWS).map(|_| rates.draw(Kind::Delivery.faults(), &mut chance)).collect()
}

fn share(drawn: &[Option<Fault>], fault: Fault) -> f64 {
    let hits = drawn.iter().filter(|drawn| **drawn == Some(fault)).count();
    f64::from(u32::try_from(hits).unwrap()) / f64::from(DRAWS)
}

#[test]
fn each_fault_hits_as_often_as_its_rate_says() {
    let rates = Rates::NONE
        .with(Fault::DeliveryDropped, 0.1)
        .with(Fault::DeliveryDoubled, 0.3)
        .with(Fault::PublishDropped, 0.5);
    let drawn = draws(&rates, 1, 0, 0);
    assert!((share(&drawn, Fault::DeliveryDropped) - 0.1).abs() < 0.01);
    assert!((share(&drawn, Fault::DeliveryDoubled) - 0.3).abs() < 0.01);
    assert!(share(&drawn, Fault::PublishDropped).abs() < f64::EPSILON, "not a delivery");
}

#[test]
fn certainty_is_certain_and_never_is_never() {
    let always = Rates::NONE.with(Fault::DeliveryDelayed, 7.0);
    assert!(draws(&always, 1, 0, 0).iter().all(|fault| *fault == Some(Fault::DeliveryDelayed)));
    for never in [Rates::NONE, Rates::NONE.with(Fault::DeliveryDropped, f64::NAN)] {
        assert!(draws(&never, 1, 0, 0).iter().all(Option::is_none));
    }
}

#[test]
fn the_same_seed_draws_the_same_and_no_two_directions_do() {
    let rates = Rates::each(Kind::Delivery.faults(), 0.1);
    let drawn = draws(&rates, 1, 0, 0);
    assert_eq!(drawn, draws(&rates, 1, 0, 0));
    for (seed, connection, direction) in [(2, 0, 0), (1, 1, 0), (1, 0, 1)] {
        assert_ne!(drawn, draws(&rates, seed, connection, direction));
    }
}

#[test]
fn a_stream_may_have_rates_of_its_own() {
    let faults = Faults::new(Rates::NONE.with(Fault::AckDropped, 0.2))
        .of_stream("PINGS", Rates::NONE.with(Fault::AckDropped, 0.9));
    assert_eq!(faults.rates(Some("PINGS")).of(Fault::AckDropped), 0.9);
    assert_eq!(faults.rates(Some("TRIP")).of(Fault::AckDropped), 0.2);
    assert_eq!(faults.rates(None).of(Fault::AckDropped), 0.2);
}

#[test]
fn counts_add_up_and_say_what_they_count() {
    let tally = Tally::default();
    for fault in Fault::ALL {
        tally.note(fault);
    }
    tally.note(Fault::AckDropped);
    let counts = tally.read();
    assert_eq!((counts.of(Fault::AckDropped), counts.of(Fault::Partitioned)), (2, 1));
    let both: Counts = [counts, counts].into_iter().sum();
    assert_eq!(both.total(), 2 * counts.total());
    assert_eq!(both - counts, counts);
    let json = serde_json::to_value(both).unwrap();
    assert_eq!(json["ack_dropped"], 4);
    assert_eq!(json.as_object().unwrap().len(), Fault::ALL.len());
}
