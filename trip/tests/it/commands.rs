//! Interactive commands over the wire: answers are facts, refusals have codes, and past the
//! deadline nothing happens.

use common::{
    contract::v1::{self, trip_command::Kind, trip_reply::Outcome},
    id::{CommandId, DriverId, RiderId, TripId},
};
use prost::Message as _;
use serde_json::json;
use trip::domain::{Phase, Terms};
use uuid::Uuid;

use crate::{
    rides::{PIN, Ride, dropoff, just_now, pickup},
    world::World,
};

const STANDARD: Terms = Terms::STANDARD;

fn start(pin: &str) -> Kind {
    Kind::Start(v1::Start { pin: pin.into() })
}

#[track_caller]
fn done(outcome: Outcome) -> v1::TripSnapshot {
    match outcome {
        Outcome::Done(snapshot) => snapshot,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn rejected(outcome: Outcome, code: &str) -> v1::TripRejection {
    match outcome {
        Outcome::Rejected(rejection) => {
            assert_eq!(rejection.code, code, "{}", rejection.detail);
            rejection
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_driver_arrives_starts_completes_and_both_rate() {
    let world = World::serving(STANDARD).await;
    let ride = world.assigned(STANDARD).await;
    let send = async |actor: Uuid, kind| done(world.command(ride.trip, actor, kind).await);
    let (driver, rider) = (ride.driver.0, ride.rider.0);
    let arrive = v1::Arrive { position: Some(pickup().into()), forced: false };
    let arrived = send(driver, Kind::Arrive(arrive)).await;
    let state = arrived.state.clone().unwrap();
    assert_eq!((arrived.version, state.phase()), (4, v1::TripPhase::Arrived));
    assert!(state.wait_until_us > state.arrived_at_us);
    send(driver, start(PIN)).await;
    let complete = v1::Complete { position: Some(dropoff().into()), distance_m: 3_600 };
    let completed = send(driver, Kind::Complete(complete)).await;
    assert_eq!(completed.state.unwrap().fare.unwrap().amount_minor, 12_500);
    let rate = |by: v1::Party, stars| Kind::Rate(v1::Rate { by: by.into(), stars });
    send(rider, rate(v1::Party::Rider, 5)).await;
    let rated = send(driver, rate(v1::Party::Driver, 4)).await.state.unwrap();
    assert_eq!((rated.stars_by_rider, rated.stars_by_driver), (5, 4));
    let again = world.command(ride.trip, rider, rate(v1::Party::Rider, 1)).await;
    rejected(again, "already_rated");
    world.settled().await;
    let released = ("release", ride.offer);
    assert!(world.sent_to(ride.driver).await.contains(&released));
}

#[tokio::test]
async fn five_wrong_pins_lock_and_operations_unlock() {
    let world = World::serving(STANDARD).await;
    let ride = world.arrived(STANDARD).await;
    for tries_left in (0..5).rev() {
        let answer = world.command(ride.trip, ride.driver, start("9999")).await;
        let rejection = rejected(answer, "pin_invalid");
        assert_eq!(rejection.tries_left, tries_left);
        assert_eq!(rejection.current.unwrap().state.unwrap().pin_tries_left, tries_left);
    }
    rejected(world.command(ride.trip, ride.driver, start(PIN)).await, "pin_locked");
    let unlock = format!("/v1/ops/trips/{}/unlock-pin", ride.trip);
    let unlocked = world.console().post(&unlock, json!({})).await.expect(200).body;
    assert_eq!(unlocked["pin_tries_left"], 5);
    done(world.command(ride.trip, ride.driver, start(PIN)).await);
    let refused = world.kinds(ride.trip).await.iter().filter(|kind| *kind == "pin_refused").count();
    assert_eq!(refused, 5);
}

#[tokio::test]
async fn a_wrong_pin_sent_again_with_the_same_id_costs_no_second_try() {
    let world = World::serving(STANDARD).await;
    let ride = world.arrived(STANDARD).await;
    let command = CommandId::fresh();
    for _ in 0..3 {
        let answer = world.command_as(command, ride.trip, ride.driver, start("9999")).await;
        assert_eq!(rejected(answer, "pin_invalid").tries_left, 4);
    }
}

#[tokio::test]
async fn a_command_sent_again_is_answered_again_and_happens_once() {
    let world = World::serving(STANDARD).await;
    let ride = world.assigned(STANDARD).await;
    let command = CommandId::fresh();
    let cancel = || Kind::CancelByDriver(v1::CancelByDriver { reason: "other".into() });
    let first = done(world.command_as(command, ride.trip, ride.driver, cancel()).await);
    let again = done(world.command_as(command, ride.trip, ride.driver, cancel()).await);
    assert_eq!((first.version, first.sequence), (again.version, again.sequence));
    // Another command of somebody who has nothing to do with the trip any more.
    rejected(world.command(ride.trip, ride.driver, cancel()).await, "trip_not_found");
}

#[tokio::test]
async fn past_its_deadline_a_command_has_no_effect() {
    let world = World::serving(STANDARD).await;
    let ride = world.arrived(STANDARD).await;
    let command = v1::TripCommand {
        command_id: CommandId::fresh().to_vec(),
        trip_id: ride.trip.to_vec(),
        deadline_us: world.nats.clock.now().micros() - 1_000_000,
        actor_id: ride.driver.to_vec(),
        kind: Some(start(PIN)),
    };
    let answer = world.request(ride.trip, command.encode_to_vec()).await.unwrap();
    let Outcome::Failed(failure) = answer else { panic!("{answer:?}") };
    assert!(!failure.unknown, "surely not done");
    assert_eq!(world.load(ride.trip).await.state.phase(), Some(Phase::Arrived));
}

#[tokio::test]
async fn another_persons_trip_looks_like_no_trip_at_all() {
    let world = World::serving(STANDARD).await;
    let ride = world.arrived(STANDARD).await;
    let by_rider = Kind::CancelByRider(v1::CancelByRider {
        reason: "other".into(),
        asked_at_us: just_now().micros(),
    });
    let foreign = world.command(ride.trip, RiderId::fresh(), by_rider).await;
    let foreign = rejected(foreign, "trip_not_found");
    let stranger = world.command(ride.trip, DriverId::fresh(), start(PIN)).await;
    let unknown = world.command(TripId::fresh(), ride.driver, start(PIN)).await;
    let unknown = rejected(unknown, "trip_not_found");
    assert_eq!(foreign, unknown, "no difference to be told");
    assert_eq!(rejected(stranger, "trip_not_found"), unknown);
    assert_eq!(unknown.current, None);
    assert_eq!(world.load(ride.trip).await.version, 4, "nothing happened");
}

#[tokio::test]
async fn what_is_no_command_is_refused_without_effect() {
    let world = World::serving(STANDARD).await;
    let ride = world.arrived(STANDARD).await;
    let whole = v1::TripCommand {
        command_id: CommandId::fresh().to_vec(),
        trip_id: ride.trip.to_vec(),
        deadline_us: world.nats.clock.now().micros() + 10_000_000,
        actor_id: ride.driver.to_vec(),
        kind: Some(start(PIN)),
    };
    let broken = [
        b"rubbish".to_vec(),
        vec![],
        v1::TripCommand { kind: None, ..whole.clone() }.encode_to_vec(),
        v1::TripCommand { kind: Some(start("12")), ..whole.clone() }.encode_to_vec(),
        v1::TripCommand { actor_id: vec![1], ..whole.clone() }.encode_to_vec(),
        v1::TripCommand { command_id: vec![], ..whole.clone() }.encode_to_vec(),
        // A driver is not operations.
        v1::TripCommand { kind: Some(Kind::UnlockPin(v1::UnlockPin {})), ..whole.clone() }
            .encode_to_vec(),
        v1::TripCommand {
            kind: Some(Kind::Rate(v1::Rate { by: v1::Party::Driver.into(), stars: 6 })),
            ..whole
        }
        .encode_to_vec(),
    ];
    for payload in broken {
        rejected(world.request(ride.trip, payload).await.unwrap(), "validation_failed");
    }
    assert_eq!(world.load(ride.trip).await.version, 4);
}

#[tokio::test]
async fn a_stopped_service_answers_nobody_and_loses_nothing() {
    let (mut world, ride) = (World::serving(STANDARD).await, Ride::new());
    world.stop_service().await;
    assert!(world.request(ride.trip, vec![]).await.is_none(), "surely not done");
    world.rider_requests(ride).await;
    world.serve(STANDARD).await;
    world.settled().await;
    assert_eq!(world.kinds(ride.trip).await, ["requested"]);
}
