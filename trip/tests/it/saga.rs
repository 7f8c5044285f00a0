//! The saga's table of reactions: each once, each by a service that dies after its write and before
//! its ack, each for a message that comes twice. The outcome is the same.

use std::time::Duration;

use common::{contract::v1, stream, testing::eventually};
use trip::domain::{Terms, TripCommand};

use crate::{
    rides::{Ride, complete, driver_cancels, offer, request, rider_cancels},
    world::{EVERY_WAY, World},
};

const STANDARD: Terms = Terms::STANDARD;

#[tokio::test]
async fn a_requested_ride_becomes_one_trip() {
    for how in EVERY_WAY {
        let (world, ride) = (World::reacting(how, STANDARD).await, Ride::new());
        world.rider_requests(ride).await;
        world.settled().await;
        assert_eq!(world.kinds(ride.trip).await, ["requested"], "{how:?}");
    }
}

#[tokio::test]
async fn an_offer_is_proposed_to_its_driver_once() {
    for how in EVERY_WAY {
        let world = World::reacting(how, STANDARD).await;
        let ride = world.offered(STANDARD).await;
        let mut seen = Vec::new();
        // The proposal is only on the stream for as long as it is fresh.
        eventually("the driver is asked", async || {
            seen = world.sent_to(ride.driver).await;
            !seen.is_empty()
        })
        .await;
        assert_eq!(seen, [("offer", ride.offer)], "{how:?}");
        world.settled().await;
        assert!(world.sent_to(ride.driver).await.len() <= 1, "{how:?}");
    }
}

#[tokio::test]
async fn a_proposal_that_nobody_takes_up_is_gone_before_it_is_stale() {
    let world = World::reacting(crate::world::How::Once, STANDARD).await;
    let ride = world.offered(STANDARD).await;
    let subject = world.nats.partitions.driver_command(ride.driver);
    let sent = eventually("the driver is asked", async || {
        let commands = world.nats.admin.get_stream(stream::DRIVER_CMD).await.unwrap();
        commands.direct_get_last_for_subject(&subject).await.ok()
    })
    .await;
    assert_eq!(sent.headers.get("Nats-TTL").unwrap().as_str(), "5");
    assert_eq!(sent.headers.get("ce-correlationid").unwrap().as_str(), ride.trip.to_string());
}

#[tokio::test]
async fn whatever_ends_an_offer_on_the_drivers_side_closes_it_on_the_trips() {
    use v1::OfferEnd as End;
    for how in EVERY_WAY {
        let world = World::reacting(how, STANDARD).await;
        let mut rides = Vec::new();
        for why in [End::Busy, End::Declined, End::Lapsed, End::Lost, End::Offline] {
            let ride = world.offered(STANDARD).await;
            world.driver_ends(ride, why).await;
            rides.push((ride, why));
        }
        world.settled().await;
        for (ride, why) in rides {
            let kinds = world.kinds(ride.trip).await;
            assert_eq!(kinds, ["requested", "offered", "offer_closed"], "{how:?} {why:?}");
            let state = world.load(ride.trip).await.state;
            let is_excluded = matches!(why, End::Declined | End::Lapsed);
            assert_eq!(state.search().unwrap().excludes(ride.driver), is_excluded, "{why:?}");
            let sent = world.sent_to(ride.driver).await;
            assert!(!sent.contains(&("release", ride.offer)), "the driver knows: {sent:?}");
        }
    }
}

#[tokio::test]
async fn an_accepted_offer_is_assigned_once() {
    for how in EVERY_WAY {
        let world = World::reacting(how, STANDARD).await;
        let ride = world.offered(STANDARD).await;
        world.driver_accepts(ride).await;
        // Heard again, with the same id, as a relay that died would say it.
        world.driver_accepts(ride).await;
        world.settled().await;
        assert_eq!(world.kinds(ride.trip).await, ["requested", "offered", "assigned"], "{how:?}");
        assert!(!world.sent_to(ride.driver).await.contains(&("release", ride.offer)));
    }
}

#[tokio::test]
async fn a_driver_who_accepts_in_vain_is_released() {
    for how in EVERY_WAY {
        let world = World::reacting(how, STANDARD).await;
        let (unknown, closed) = (Ride::new(), world.offered(STANDARD).await);
        let lease_over = TripCommand::EndLease;
        world.execute(closed.trip, &lease_over).await.unwrap();
        for ride in [unknown, closed] {
            world.driver_accepts(ride).await;
        }
        world.settled().await;
        assert!(world.kinds(unknown.trip).await.is_empty());
        assert_eq!(released(&world, unknown).await, 1, "{how:?}");
        // Once because the lease was over, once because the acceptance was refused.
        assert_eq!(released(&world, closed).await, 2, "{how:?}");
        let kinds = world.kinds(closed.trip).await;
        assert_eq!(kinds, ["requested", "offered", "offer_closed"], "{how:?}");
    }
}

async fn released(world: &World, ride: Ride) -> usize {
    let sent = world.sent_to(ride.driver).await;
    sent.into_iter().filter(|sent| *sent == ("release", ride.offer)).count()
}

#[tokio::test]
async fn an_offer_that_ends_with_its_trip_or_lease_releases_the_driver() {
    for how in EVERY_WAY {
        let world = World::reacting(how, STANDARD).await;
        for end in ["cancelled", "unfulfilled", "offer_closed"] {
            let ride = world.offered(STANDARD).await;
            let command = match end {
                "cancelled" => rider_cancels(ride),
                "unfulfilled" => TripCommand::EndSearch,
                _ => TripCommand::EndLease,
            };
            world.execute(ride.trip, &command).await.unwrap();
            world.settled().await;
            assert_eq!(released(&world, ride).await, 1, "{how:?} {end}");
            assert_eq!(world.kinds(ride.trip).await, ["requested", "offered", end]);
        }
    }
}

#[tokio::test]
async fn an_assignment_that_ends_releases_the_driver() {
    for how in EVERY_WAY {
        let world = World::reacting(how, STANDARD).await;
        let completed = world.on_the_road(STANDARD).await;
        world.execute(completed.trip, &complete(completed)).await.unwrap();
        let cancelled = world.assigned(STANDARD).await;
        world.execute(cancelled.trip, &rider_cancels(cancelled)).await.unwrap();
        let given_back = world.assigned(STANDARD).await;
        world.execute(given_back.trip, &driver_cancels(given_back)).await.unwrap();
        world.settled().await;
        for (ride, last) in
            [(completed, "completed"), (cancelled, "cancelled"), (given_back, "unassigned")]
        {
            assert_eq!(released(&world, ride).await, 1, "{how:?} {last}");
            assert_eq!(world.kinds(ride.trip).await.last().unwrap(), last);
        }
    }
}

#[tokio::test]
async fn a_trip_that_ends_without_a_driver_tells_nobody() {
    for how in EVERY_WAY {
        let (world, ride) = (World::reacting(how, STANDARD).await, Ride::new());
        world.execute(ride.trip, &request(ride, STANDARD)).await.unwrap();
        world.execute(ride.trip, &rider_cancels(ride)).await.unwrap();
        world.settled().await;
        assert!(world.sent_to(ride.driver).await.is_empty(), "{how:?}");
    }
}

#[tokio::test]
async fn a_timer_that_fires_is_handled_once() {
    let soon = Terms { offer_lease: Duration::from_millis(200), ..STANDARD };
    for how in EVERY_WAY {
        let world = World::reacting(how, STANDARD).await;
        let ride = world.offered(soon).await;
        eventually("the lease is over", async || world.kinds(ride.trip).await.len() == 3).await;
        world.settled().await;
        let kinds = world.kinds(ride.trip).await;
        assert_eq!(kinds, ["requested", "offered", "offer_closed"], "{how:?}");
        assert_eq!(released(&world, ride).await, 1, "{how:?}");
    }
}

#[tokio::test]
async fn a_service_killed_with_messages_in_hand_is_replaced_and_nothing_happens_twice() {
    let mut world = World::empty().await;
    let (requested, accepted) = (Ride::new(), world.offered(STANDARD).await);
    world.react_and_hang();
    world.rider_requests(requested).await;
    world.driver_accepts(accepted).await;
    eventually("both are written, neither is acknowledged", async || {
        !world.kinds(requested.trip).await.is_empty() && world.kinds(accepted.trip).await.len() == 3
    })
    .await;
    world.kill_service().await;
    world.serve(STANDARD).await;
    world.settled().await;
    assert_eq!(world.kinds(requested.trip).await, ["requested"]);
    assert_eq!(world.kinds(accepted.trip).await, ["requested", "offered", "assigned"]);
    assert_eq!(released(&world, accepted).await, 0);
}

#[tokio::test]
async fn a_replay_from_the_first_message_changes_no_history() {
    let mut world = World::serving(STANDARD).await;
    let ride = Ride::new();
    world.rider_requests(ride).await;
    world.settled().await;
    world.execute(ride.trip, &offer(ride)).await.unwrap();
    world.driver_accepts(ride).await;
    world.settled().await;
    world.execute(ride.trip, &rider_cancels(ride)).await.unwrap();
    world.settled().await;
    let before = world.kinds(ride.trip).await;
    assert_eq!(before, ["requested", "offered", "assigned", "cancelled"]);
    world.stop_service().await;
    for spec in crate::world::LANES {
        let stream = world.nats.admin.get_stream(spec.stream).await.unwrap();
        for partition in world.nats.partitions.all() {
            stream.delete_consumer(&spec.durable(partition)).await.unwrap();
        }
    }
    world.serve(STANDARD).await;
    world.settled().await;
    assert_eq!(world.kinds(ride.trip).await, before);
    assert_eq!(released(&world, ride).await, 1);
}
