//! Trips that ended long ago leave the log: never before they are on the archive's disk, never what
//! somebody has still to read, and nothing that comes late makes one of them begin again.

use std::{fs, time::Duration};

use common::{
    clock::Timestamp,
    consumer,
    contract::v1::{self, trip_command::Kind, trip_reply::Outcome},
    decider::Recorder as _,
    id::{EventId, TripId},
    stream, subject,
    testing::{deadline, eventually, eventually_within},
    trim,
};
use trip::{
    archive::{self, Archiver},
    domain::{Party, Terms, Trip, TripCommand, TripEvent},
    record::TripDecider,
};

use crate::{
    rides::{Ride, complete, request},
    world::{How, World},
};

/// Nobody rates: a completed trip is settled at once.
const UNRATED: Terms = Terms { rating_window: Duration::ZERO, ..Terms::STANDARD };
const WHOLE: [&str; 6] = ["requested", "offered", "assigned", "arrived", "started", "completed"];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl World {
    /// Everybody reads the trips' stream.
    async fn read_by_all() -> Self {
        let mut world = Self::reacting(How::Once, UNRATED).await;
        world.payments_read();
        world
    }

    fn archiver(&self) -> Archiver {
        Archiver::new(&self.nats, self.archive.path().to_owned(), Duration::ZERO)
    }

    async fn completed(&self, terms: Terms) -> Ride {
        let ride = self.on_the_road(terms).await;
        self.execute(ride.trip, &complete(ride)).await.unwrap();
        ride
    }

    /// Archives until this trip has left the log: first its readers have to be through.
    async fn archived(&self, archiver: &mut Archiver, trip: TripId) {
        eventually_within(deadline::RECOVERY, "it leaves the log", async || {
            archiver.archive().await.unwrap();
            self.kinds(trip).await.is_empty()
        })
        .await;
    }

    /// Waits until nobody has to read this trip any more, and it may go.
    async fn found(&self, archiver: &Archiver, trip: TripId) -> trim::Past {
        eventually_within(deadline::RECOVERY, "it may go", async || {
            let past = archiver.past().await.unwrap();
            archiver.find(past).await.unwrap().contains(&trip).then_some(past)
        })
        .await
    }

    /// What the archive says happened, in short.
    fn told(&self, trip: TripId) -> Vec<String> {
        let history = archive::contents(self.archive.path()).unwrap().history(trip).unwrap();
        let mut versions = 1..;
        let kinds = history.into_iter().map(|stored| {
            let recorded = TripDecider::decode(&stored.payload).unwrap();
            assert_eq!(Some(recorded.stamp.version), versions.next(), "each event once");
            assert_eq!(stored.envelope().unwrap().subject, trip.0);
            TripDecider::kind(&recorded.event).strip_prefix("trip.").unwrap().to_owned()
        });
        kinds.collect()
    }

    fn times_archived(&self, trip: TripId) -> usize {
        let contents = archive::contents(self.archive.path()).unwrap();
        contents.members.iter().filter(|member| member.trip == trip).count()
    }

    async fn messages_on(&self, filter: &str) -> usize {
        let trips = self.nats.admin.get_stream(stream::TRIP).await.unwrap();
        let info = trips.info_with_subjects(filter).await.unwrap();
        futures_util::StreamExt::count(info).await
    }
}

#[tokio::test]
async fn a_trip_that_ended_long_ago_is_in_the_archive_and_not_in_the_log() {
    let world = World::read_by_all().await;
    let (gone, open) = (world.completed(UNRATED).await, world.on_the_road(UNRATED).await);
    let rateable = world.completed(Terms::STANDARD).await;
    world.archived(&mut world.archiver(), gone.trip).await;
    assert_eq!(world.told(gone.trip), WHOLE);
    let of_trip = |prefix: &str| {
        let p = world.nats.partitions.of(&gone.trip.to_string());
        format!("{prefix}.{p}.{}.>", gone.trip)
    };
    assert_eq!(world.messages_on(&of_trip(subject::TRIP.timer)).await, 0);
    assert_eq!(world.messages_on(&format!("{}.>", subject::TRIP.due)).await, 0);
    // The others go on.
    assert_eq!(world.kinds(open.trip).await, WHOLE[..5]);
    assert_eq!(world.kinds(rateable.trip).await, WHOLE);
    assert_eq!((world.told(open.trip).len(), world.told(rateable.trip).len()), (0, 0));
    assert_eq!(world.archiver().archive().await.unwrap(), 0);
}

#[tokio::test]
async fn what_ended_lately_stays() {
    let world = World::read_by_all().await;
    let ride = world.completed(UNRATED).await;
    world.found(&world.archiver(), ride.trip).await;
    let mut patient = Archiver::new(&world.nats, world.archive.path().to_owned(), DAY);
    assert_eq!(patient.archive().await.unwrap(), 0);
    assert_eq!(world.kinds(ride.trip).await, WHOLE);
}

#[tokio::test]
async fn what_somebody_has_still_to_read_stays() {
    // Nobody charges.
    let mut world = World::reacting(How::Once, UNRATED).await;
    let ride = world.completed(UNRATED).await;
    world.settled().await;
    let mut archiver = world.archiver();
    assert_eq!(archiver.archive().await.unwrap(), 0);
    assert_eq!(world.kinds(ride.trip).await, WHOLE);
    world.payments_read();
    world.archived(&mut archiver, ride.trip).await;
}

#[tokio::test]
async fn dying_between_archive_and_log_archives_twice_and_loses_nothing() {
    let world = World::read_by_all().await;
    let ride = world.completed(UNRATED).await;
    let mut dying = world.archiver();
    world.found(&dying, ride.trip).await;
    let histories = dying.read(&[ride.trip]).await.unwrap();
    dying.write(histories).await.unwrap();
    drop(dying);
    assert_eq!(world.kinds(ride.trip).await, WHOLE, "in the log until it is removed");
    world.archived(&mut world.archiver(), ride.trip).await;
    assert_eq!(world.times_archived(ride.trip), 2);
    assert_eq!(world.told(ride.trip), WHOLE);
}

#[tokio::test]
async fn dying_while_the_log_is_cleared_loses_nothing() {
    let world = World::read_by_all().await;
    let ride = world.completed(UNRATED).await;
    let mut dying = world.archiver();
    world.found(&dying, ride.trip).await;
    let histories = dying.read(&[ride.trip]).await.unwrap();
    dying.write(histories).await.unwrap();
    let last = world.load(ride.trip).await.sequence;
    let events = world.nats.partitions.trip_event(ride.trip);
    assert_eq!(trim::remove(&world.nats, stream::TRIP, &events, last).await.unwrap(), 5);
    drop(dying);
    world.archived(&mut world.archiver(), ride.trip).await;
    assert_eq!(world.told(ride.trip), WHOLE);
}

#[tokio::test]
async fn what_was_written_in_part_is_written_again() {
    let world = World::read_by_all().await;
    let ride = world.completed(UNRATED).await;
    let mut dying = world.archiver();
    world.found(&dying, ride.trip).await;
    let histories = dying.read(&[ride.trip]).await.unwrap();
    dying.write(histories).await.unwrap();
    drop(dying);
    let segment = fs::read_dir(world.archive.path()).unwrap().next().unwrap().unwrap().path();
    let whole = fs::metadata(&segment).unwrap().len();
    // In its header, and near its end.
    for length in [whole - 1, 7] {
        fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(length).unwrap();
        let contents = archive::contents(world.archive.path()).unwrap();
        assert_eq!((contents.members.len(), contents.torn), (0, vec![segment.clone()]));
    }
    world.archived(&mut world.archiver(), ride.trip).await;
    assert_eq!(world.told(ride.trip), WHOLE);
}

#[tokio::test]
async fn an_event_that_comes_after_the_archive_stays_in_the_log() {
    let world = World::read_by_all().await;
    let ride = world.completed(Terms::STANDARD).await;
    let mut archiver = world.archiver();
    let histories = archiver.read(&[ride.trip]).await.unwrap();
    let synced = archiver.write(histories).await.unwrap();
    let rate = TripCommand::RateByRider { rider: ride.rider, stars: 5.try_into().unwrap() };
    world.execute(ride.trip, &rate).await.unwrap();
    archiver.remove(trim::Past { end: u64::MAX }, &synced).await.unwrap();
    assert_eq!(world.kinds(ride.trip).await, ["rated"]);
    let loaded = world.load(ride.trip).await;
    let stars = 5.try_into().unwrap();
    assert_eq!(loaded.last, Some(TripEvent::Rated { by: Party::Rider, stars }));
    assert!(matches!(loaded.state, Trip::Completed(_)));
}

#[tokio::test]
async fn two_replicas_archive_at_once() {
    let world = World::read_by_all().await;
    let mut rides = Vec::new();
    for _ in 0..4 {
        rides.push(world.completed(UNRATED).await);
    }
    let (mut one, mut other) = (world.archiver(), world.archiver());
    for ride in &rides {
        world.found(&one, ride.trip).await;
    }
    let (one, other) = tokio::join!(one.archive(), other.archive());
    assert!(one.unwrap() + other.unwrap() >= rides.len());
    for ride in rides {
        assert!(world.kinds(ride.trip).await.is_empty());
        assert_eq!(world.told(ride.trip), WHOLE);
    }
}

#[tokio::test]
async fn a_trip_in_the_archive_does_not_begin_again() {
    let mut world = World::read_by_all().await;
    let ride = world.completed(UNRATED).await;
    world.archived(&mut world.archiver(), ride.trip).await;
    world.serve(UNRATED).await;
    // Whoever comes late finds no such trip: the driver …
    let position = Some(crate::rides::pickup().into());
    let late = Kind::Arrive(v1::Arrive { position, forced: false });
    refused(world.command(ride.trip, ride.driver, late).await);
    // … the rider …
    let long_ago = world.nats.clock.now().micros() - i64::try_from((8 * DAY).as_micros()).unwrap();
    let cancel = v1::CancelByRider { reason: "other".into(), asked_at_us: long_ago };
    refused(world.command(ride.trip, ride.rider, Kind::CancelByRider(cancel)).await);
    // … a driver's event that is read again …
    world.driver_accepts(ride).await;
    // … and the request itself, from whatever kept it: people are told of it.
    let event = EventId(ride.offer.0);
    let asked_at = Timestamp::from_micros(long_ago);
    let sequence = world.rider_requested_at(ride, event, asked_at).await;
    let console = world.console();
    let letter = eventually("it is put aside", async || {
        let page = console.get("/v1/ops/dlq").await.expect(200).body;
        page["items"].as_array().unwrap().first().cloned()
    })
    .await;
    assert_eq!(
        (&letter["stream"], &letter["original_sequence"]),
        (&"RIDER".into(), &sequence.into())
    );
    assert_eq!((&letter["class"], &letter["attempts"]), (&"permanent".into(), &1.into()));
    world.settled().await;
    assert!(world.kinds(ride.trip).await.is_empty());
    // While one that was asked for just now begins.
    let fresh = Ride::new();
    world.rider_requests(fresh).await;
    world.settled().await;
    assert_eq!(world.kinds(fresh.trip).await, ["requested"]);
}

#[track_caller]
fn refused(outcome: Outcome) {
    let Outcome::Rejected(rejection) = outcome else { panic!("{outcome:?}") };
    assert_eq!((rejection.code.as_str(), rejection.current), ("trip_not_found", None));
}

#[tokio::test]
async fn operations_are_shown_what_the_archive_says() {
    let mut world = World::read_by_all().await;
    let ride = world.completed(UNRATED).await;
    world.serve(UNRATED).await;
    let (console, path) = (world.console(), format!("/v1/ops/trips/{}/timeline", ride.trip));
    let before = console.get(&path).await.expect(200).body;
    assert_eq!(before["archived"], false);
    world.archived(&mut world.archiver(), ride.trip).await;
    let after = console.get(&path).await.expect(200).body;
    assert_eq!((&after["archived"], &after["events"]), (&true.into(), &before["events"]));
    let never = format!("/v1/ops/trips/{}/timeline", TripId::fresh());
    console.get(&never).await.expect_problem(404, "trip_not_found");
}

#[tokio::test]
async fn a_replica_archives_its_own_partitions() {
    let world = World::read_by_all().await;
    let mut rides = Vec::new();
    for _ in 0..6 {
        let ride = Ride::new();
        world.execute(ride.trip, &request(ride, UNRATED)).await.unwrap();
        world.execute(ride.trip, &TripCommand::EndSearch).await.unwrap();
        rides.push(ride.trip);
    }
    for trip in &rides {
        world.found(&world.archiver(), *trip).await;
    }
    let mut nats = world.nats.clone();
    nats.consuming.share = consumer::Share { replica: 0, replicas: 2 };
    let dir = world.archive.path().to_owned();
    Archiver::new(&nats, dir, Duration::ZERO).archive().await.unwrap();
    for trip in rides {
        let is_own = world.nats.partitions.of(&trip.to_string()) == 0;
        assert_eq!(world.kinds(trip).await.is_empty(), is_own);
    }
}
