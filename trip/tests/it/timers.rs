//! Timers are messages in the log: the broker fires them, even after it was killed, and what it
//! forgets the sweeper finds.

use std::{sync::Arc, time::Duration};

use common::{
    event_store::{Cause, EventStore, ExecuteError},
    id::CommandId,
    log::{Ack, Append, AppendError, Log, LogError, LogPort, ReadFrom, Stored},
    stream, subject,
    testing::{deadline, eventually, eventually_within},
    timer,
};
use futures_util::future::BoxFuture;
use trip::{
    domain::{Terms, Trip},
    record::TripDecider,
};

use crate::{
    rides::{Ride, arrive, request},
    world::World,
};

const STANDARD: Terms = Terms::STANDARD;
const SOON: Duration = Duration::from_millis(150);

async fn becomes(world: &World, ride: Ride, last: &str) {
    eventually_within(deadline::RECOVERY, last, async || {
        world.store.load(ride.trip).await.is_ok_and(|loaded| {
            loaded.last.is_some_and(|event| {
                use common::decider::Recorder as _;
                TripDecider::kind(&event) == format!("trip.{last}")
            })
        })
    })
    .await;
}

#[tokio::test]
async fn a_search_ends_at_its_deadline() {
    let terms = Terms { match_deadline: SOON, ..STANDARD };
    let (world, ride) = (World::serving(terms).await, Ride::new());
    // The configured terms are those of new trips.
    world.rider_requests(ride).await;
    becomes(&world, ride, "unfulfilled").await;
}

#[tokio::test]
async fn an_unanswered_offer_ends_with_its_lease() {
    let world = World::serving(STANDARD).await;
    let ride = world.offered(Terms { offer_lease: SOON, ..STANDARD }).await;
    becomes(&world, ride, "offer_closed").await;
}

#[tokio::test]
async fn a_driver_who_is_late_loses_the_trip() {
    let world = World::serving(STANDARD).await;
    let ride = world.assigned(Terms { pickup_grace: SOON, ..STANDARD }).await;
    becomes(&world, ride, "unassigned").await;
}

#[tokio::test]
async fn the_riders_time_at_the_pickup_ends() {
    let world = World::serving(STANDARD).await;
    let ride = world.arrived(Terms { no_show_wait: SOON, ..STANDARD }).await;
    becomes(&world, ride, "wait_over").await;
    let Trip::Arrived(arrived) = world.load(ride.trip).await.state else { panic!() };
    assert!(arrived.arrival.wait_over);
}

#[tokio::test]
async fn a_ride_that_takes_far_too_long_is_marked() {
    let world = World::serving(STANDARD).await;
    let ride = world.on_the_road(Terms { ride_grace: SOON, ..STANDARD }).await;
    becomes(&world, ride, "stalled").await;
}

#[tokio::test]
async fn timers_fire_although_the_broker_was_killed() {
    let mut world = World::serving(STANDARD).await;
    let terms = Terms { match_deadline: Duration::from_millis(400), ..STANDARD };
    let ride = Ride::new();
    world.execute(ride.trip, &request(ride, terms)).await.unwrap();
    let late = world.assigned(Terms { pickup_grace: Duration::from_millis(400), ..STANDARD }).await;
    world.broker.kill().await.unwrap();
    world.broker.restart().await.unwrap();
    becomes(&world, ride, "unfulfilled").await;
    becomes(&world, late, "unassigned").await;
    eventually("phones are answered again", async || {
        world.request(ride.trip, vec![]).await.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_timer_that_the_broker_forgot_is_found_by_the_sweeper() {
    let mut world = World::empty().await;
    let past = world.store_in_the_past(Duration::from_secs(600)).await;
    let ride = Ride::new();
    let command = request(ride, STANDARD);
    past.execute(ride.trip, CommandId::fresh(), &Cause::default(), &command).await.unwrap();
    // It is long overdue. Whatever was to remind anybody of it is lost.
    let trips = world.nats.admin.get_stream(stream::TRIP).await.unwrap();
    for reminder in ["trip.timer.>", "trip.due.>"] {
        eventually("it is lost", async || trips.purge().filter(reminder).await.is_ok()).await;
    }
    world.serve(STANDARD).await;
    becomes(&world, ride, "unfulfilled").await;
    assert_eq!(world.kinds(ride.trip).await, ["requested", "unfulfilled"]);
}

/// Loses trips' events, not the timers that are set before them.
#[derive(Debug)]
struct LosingEvents(Arc<dyn Log>);

impl Log for LosingEvents {
    fn append(&self, message: Append) -> BoxFuture<'_, Result<Ack, AppendError>> {
        if message.subject.starts_with(subject::TRIP.event) {
            return Box::pin(async { Err(AppendError::Unavailable("lost".to_owned())) });
        }
        self.0.append(message)
    }

    fn last<'a>(
        &'a self,
        stream: &'static str,
        subject: &'a str,
        from: ReadFrom,
    ) -> BoxFuture<'a, Result<Option<Stored>, LogError>> {
        self.0.last(stream, subject, from)
    }

    fn is_reachable(&self) -> bool {
        self.0.is_reachable()
    }
}

#[tokio::test]
async fn an_arrival_that_was_lost_on_its_way_does_not_shorten_the_riders_time_at_the_pickup() {
    let world = World::empty().await;
    let (ride, id, cause) = (world.assigned(STANDARD).await, CommandId::fresh(), Cause::default());
    // The driver's phone told of the arrival before, and nothing but its timer was stored: the
    // broker fires that soon.
    let before = world.store_in_the_past(STANDARD.no_show_wait).await;
    let losing = Arc::new(LosingEvents(Arc::clone(&before.port().log)));
    let before = EventStore::<TripDecider>::new(LogPort { log: losing, ..before.port().clone() });
    let lost = before.execute(ride.trip, id, &cause, &arrive(ride)).await;
    assert!(matches!(lost, Err(ExecuteError::Unavailable(_))), "{lost:?}");
    // The phone repeats itself.
    world.store.execute(ride.trip, id, &cause, &arrive(ride)).await.unwrap();
    let trips = world.nats.admin.get_stream(stream::TRIP).await.unwrap();
    let fired = subject::TRIP.fired(world.nats.partitions, ride.trip.0);
    eventually_within(deadline::RECOVERY, "the timer fired", async || {
        trips.get_last_raw_message_by_subject(&fired).await.is_ok()
    })
    .await;
    let due = trips.get_last_raw_message_by_subject(&fired).await.unwrap();
    timer::on_due(&world.store, &due.payload, &cause).await.unwrap();
    let Trip::Arrived(arrived) = world.load(ride.trip).await.state else { panic!() };
    assert!(!arrived.arrival.wait_over, "the rider's time is over before it began");
}
