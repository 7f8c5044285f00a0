//! What happens at the same time. Each race is run in both orders, and then many times at once: the
//! history tells which of them was first, and the rest follows from that.

use std::time::Duration;

use common::{
    contract::v1::{self, trip_command::Kind, trip_reply::Outcome},
    id::{DriverId, EventId, OfferId},
    testing::eventually,
};
use futures_util::future::join_all;
use trip::domain::{Rejection, Terms, TripCommand};

use crate::{
    rides::{Ride, arrive, just_now, offer, request, rider_cancels},
    world::World,
};

const STANDARD: Terms = Terms::STANDARD;
/// As many trips at once: some of each order.
const AT_ONCE: usize = 12;

fn cancel() -> Kind {
    Kind::CancelByRider(v1::CancelByRider {
        reason: "change_of_plans".into(),
        asked_at_us: just_now().micros(),
    })
}

async fn releases(world: &World, ride: Ride) -> usize {
    let sent = world.sent_to(ride.driver).await;
    sent.into_iter().filter(|sent| *sent == ("release", ride.offer)).count()
}

#[tokio::test]
async fn the_rider_cancels_while_the_driver_accepts() {
    let world = World::serving(STANDARD).await;
    let both = async |_| {
        let ride = world.offered(STANDARD).await;
        let (answer, _) = tokio::join!(
            world.command(ride.trip, ride.rider, cancel()),
            world.driver_accepts(ride)
        );
        assert!(matches!(answer, Outcome::Done(_)), "{answer:?}");
        ride
    };
    let rides = join_all((0..AT_ONCE).map(both)).await;
    world.settled().await;
    for ride in rides {
        let kinds = world.kinds(ride.trip).await;
        match kinds.len() {
            3 => assert_eq!(kinds, ["requested", "offered", "cancelled"]),
            _ => assert_eq!(kinds, ["requested", "offered", "assigned", "cancelled"]),
        }
        // Whoever was first: the driver does not stay bound.
        assert!((1..=2).contains(&releases(&world, ride).await));
    }
    let standing = world.console().get("/v1/ops/invariants").await.expect(200).body;
    assert_eq!(standing["holds"], true, "{standing}");
}

#[tokio::test]
async fn a_driver_who_accepts_after_the_rider_cancelled_is_released() {
    let world = World::serving(STANDARD).await;
    let ride = world.offered(STANDARD).await;
    world.execute(ride.trip, &rider_cancels(ride)).await.unwrap();
    world.driver_accepts(ride).await;
    world.settled().await;
    assert_eq!(world.kinds(ride.trip).await, ["requested", "offered", "cancelled"]);
    assert_eq!(releases(&world, ride).await, 2);
}

#[tokio::test]
async fn rider_and_driver_cancel_together() {
    let world = World::serving(STANDARD).await;
    let by_driver = || Kind::CancelByDriver(v1::CancelByDriver { reason: "other".into() });
    let both = async |_| {
        let ride = world.assigned(STANDARD).await;
        let answers = tokio::join!(
            world.command(ride.trip, ride.rider, cancel()),
            world.command(ride.trip, ride.driver, by_driver())
        );
        assert!(matches!(answers.0, Outcome::Done(_)), "the rider's always ends it: {answers:?}");
        (ride, answers.1)
    };
    let rides = join_all((0..AT_ONCE).map(both)).await;
    world.settled().await;
    for (ride, to_the_driver) in rides {
        let kinds = world.kinds(ride.trip).await;
        match to_the_driver {
            Outcome::Done(_) => assert_eq!(kinds[3..], ["unassigned", "cancelled"]),
            Outcome::Rejected(rejected) => {
                assert_eq!(rejected.code, "trip_ended");
                assert_eq!(kinds[3..], ["cancelled"]);
            }
            Outcome::Failed(failed) => panic!("{failed:?}"),
        }
        assert_eq!(releases(&world, ride).await, 1);
    }
}

#[tokio::test]
async fn two_dispatchers_offer_one_trip_to_two_drivers() {
    let world = World::serving(STANDARD).await;
    let both = async |_| {
        let first = Ride::new();
        let second = Ride { driver: DriverId::fresh(), offer: OfferId::fresh(), ..first };
        world.execute(first.trip, &request(first, STANDARD)).await.unwrap();
        let (one, other) = (offer(first), offer(second));
        let made = tokio::join!(world.execute(first.trip, &one), world.execute(first.trip, &other));
        match made {
            (Ok(_), Err(Rejection::OfferOpen { offer })) => assert_eq!(offer, first.offer),
            (Err(Rejection::OfferOpen { offer }), Ok(_)) => assert_eq!(offer, second.offer),
            other => panic!("{other:?}"),
        }
        // A confused pair of drivers: both say that they accepted.
        tokio::join!(world.driver_accepts(first), world.driver_accepts(second));
        (first, second)
    };
    let rides = join_all((0..AT_ONCE).map(both)).await;
    world.settled().await;
    for (first, second) in rides {
        assert_eq!(world.kinds(first.trip).await, ["requested", "offered", "assigned"]);
        let driver = world.load(first.trip).await.state.assignment().unwrap().driver;
        let loser = if driver == first.driver { second } else { first };
        assert_eq!(releases(&world, loser).await, 1);
    }
}

#[tokio::test]
async fn a_late_acceptance_meets_the_next_drivers() {
    let world = World::serving(STANDARD).await;
    let first = world.offered(STANDARD).await;
    let second = Ride { driver: DriverId::fresh(), offer: OfferId::fresh(), ..first };
    world.execute(first.trip, &TripCommand::EndLease).await.unwrap();
    world.execute(first.trip, &offer(second)).await.unwrap();
    tokio::join!(world.driver_accepts(first), world.driver_accepts(second));
    world.settled().await;
    let kinds = world.kinds(first.trip).await;
    assert_eq!(kinds, ["requested", "offered", "offer_closed", "offered", "assigned"]);
    assert_eq!(world.load(first.trip).await.state.assignment().unwrap().driver, second.driver);
    assert_eq!(releases(&world, first).await, 2);
    assert_eq!(releases(&world, second).await, 0);
}

#[tokio::test]
async fn the_driver_accepts_at_the_very_end_of_the_lease() {
    let world = World::serving(STANDARD).await;
    // No time at all: the timer is due as soon as the offer stands.
    let at_once = Terms { offer_lease: Duration::ZERO, ..STANDARD };
    let both = async |_| {
        let ride = world.offered(at_once).await;
        world.driver_accepts(ride).await;
        ride
    };
    let rides = join_all((0..AT_ONCE).map(both)).await;
    for ride in &rides {
        eventually("one of both is recorded", async || world.kinds(ride.trip).await.len() == 3)
            .await;
    }
    world.settled().await;
    for ride in rides {
        let released = releases(&world, ride).await;
        match world.kinds(ride.trip).await[2].as_str() {
            "assigned" => assert_eq!(released, 0),
            last => {
                assert_eq!(last, "offer_closed");
                assert_eq!(released, 2, "for the lease, and for the acceptance");
            }
        }
    }
}

#[tokio::test]
async fn the_driver_arrives_at_the_very_end_of_the_watchdog() {
    let world = World::serving(STANDARD).await;
    let at_once = Terms { pickup_grace: Duration::ZERO, ..STANDARD };
    let both = async |_| {
        let ride = world.assigned(at_once).await;
        (ride, world.execute(ride.trip, &arrive(ride)).await)
    };
    let rides = join_all((0..AT_ONCE).map(both)).await;
    for (ride, _) in &rides {
        eventually("one of both is recorded", async || world.kinds(ride.trip).await.len() == 4)
            .await;
    }
    world.settled().await;
    for (ride, arrival) in rides {
        let released = releases(&world, ride).await;
        match (arrival, world.kinds(ride.trip).await[3].as_str()) {
            (Ok(_), "arrived") => assert_eq!(released, 0),
            (Err(Rejection::NotYours), "unassigned") => assert_eq!(released, 1),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_ride_cancelled_before_its_request_came_is_never_requested() {
    let (world, ride) = (World::serving(STANDARD).await, Ride::new());
    let answer = world.command(ride.trip, ride.rider, cancel()).await;
    assert!(matches!(answer, Outcome::Done(_)), "{answer:?}");
    world.rider_requests(ride).await;
    world.settled().await;
    assert_eq!(world.kinds(ride.trip).await, ["cancelled"]);
}

#[tokio::test]
async fn the_cancellation_and_the_request_come_together() {
    let world = World::serving(STANDARD).await;
    let both = async |_| {
        let ride = Ride::new();
        let (answer, _) = tokio::join!(
            world.command(ride.trip, ride.rider, cancel()),
            world.rider_requests(ride)
        );
        assert!(matches!(answer, Outcome::Done(_)), "{answer:?}");
        ride
    };
    let rides = join_all((0..AT_ONCE).map(both)).await;
    world.settled().await;
    for ride in rides {
        let kinds = world.kinds(ride.trip).await;
        assert!(kinds == ["cancelled"] || kinds == ["requested", "cancelled"], "{kinds:?}");
    }
}

#[tokio::test]
async fn a_ride_requested_twice_is_one_trip() {
    let (world, ride) = (World::serving(STANDARD).await, Ride::new());
    world.rider_requests(ride).await;
    world.rider_requests(ride).await;
    // A relay that lost its memory would name the same request anew.
    world.rider_requests_as(ride, EventId(uuid::Uuid::from_u128(9))).await;
    world.settled().await;
    assert_eq!(world.kinds(ride.trip).await, ["requested"]);
}

#[tokio::test]
async fn two_instances_share_the_work_and_nothing_happens_twice() {
    let mut world = World::serving(STANDARD).await;
    world.serve(STANDARD).await;
    let each = async |_| {
        let ride = Ride::new();
        world.rider_requests(ride).await;
        eventually("the trip is known", async || !world.kinds(ride.trip).await.is_empty()).await;
        world.execute(ride.trip, &offer(ride)).await.unwrap();
        world.driver_accepts(ride).await;
        ride
    };
    let rides = join_all((0..AT_ONCE).map(each)).await;
    world.settled().await;
    for ride in &rides {
        assert_eq!(world.kinds(ride.trip).await, ["requested", "offered", "assigned"]);
    }
}
