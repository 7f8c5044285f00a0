//! The audit can fail: after a real ride it finds nothing, and then names one thing after the other
//! that is changed behind the system's back.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use async_nats::{HeaderMap, jetstream::message::PublishMessage};
use common::{
    consumer::dead,
    contract::{self, v1},
    envelope::header,
    nats::Nats,
    stream, subject,
    view::Stored,
};
use hyper::Method;
use loadgen::{
    audit::{
        Book, BookViolation, Log, MessageViolation, OrderViolation, Poison, Reaction, Sources,
        Violation, examine,
    },
    client::{Ask, HttpClient},
    demo::{Deployment, Plan},
    journal::{Attempt, Entry},
    ride::{self, JOURNAL, RideConfig},
};
use tokio::time::Instant;
use uuid::Uuid;

/// It bounds a failure and never slows down a success.
const WITHIN: Duration = Duration::from_secs(60);

/// A deployment after one ride, and what its audit has found so far.
struct Scene {
    dir: tempfile::TempDir,
    deployment: Deployment,
    nats: Nats,
    sources: Sources,
    known: BTreeSet<Violation>,
    log: Log,
}

impl Scene {
    async fn after_a_ride() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The story's phones jump from place to place.
        let plan = Plan { plausible_scale: 1e4, ..Plan::new(dir.path()) };
        let deployment = Box::pin(Deployment::start(&plan, &mut |_| ())).await.unwrap();
        let config = RideConfig { seed: 3, events_only: true };
        let out = Box::new(std::io::sink());
        let told = Box::pin(ride::tell(&config, &deployment, dir.path(), out)).await.unwrap();
        assert_eq!(told.verdict.violations, []);
        let nats = deployment.connect("test").await.unwrap();
        let journal = dir.path().join(JOURNAL);
        let (store, addresses) = (&deployment.rider_store, &deployment.addresses);
        let sources = Sources {
            is_whole_city: true,
            ..Sources::of_deployment(Default::default(), &journal, store, addresses)
        };
        let mut scene =
            Self { dir, deployment, nats, sources, known: BTreeSet::new(), log: Log::default() };
        assert_eq!(scene.new_violations().await, []);
        scene
    }

    /// What the audit finds that it had not found before.
    async fn new_violations(&mut self) -> Vec<Violation> {
        let deadline = Instant::now() + WITHIN;
        let examined = Box::pin(examine(&self.nats, &self.sources, deadline)).await.unwrap();
        let found: BTreeSet<Violation> = examined.verdict.violations.into_iter().collect();
        let new = found.difference(&self.known).cloned().collect();
        (self.known, self.log) = (found, examined.log);
        new
    }

    async fn names(&mut self, what: &str, is_it: impl Fn(&Violation) -> bool) {
        let new = self.new_violations().await;
        assert!(new.iter().any(is_it), "{what}: {new:#?}");
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join(JOURNAL)
    }

    /// Changes the rider's books behind its back.
    fn change_books(&self, sql: &str) {
        let books = rusqlite::Connection::open(&self.deployment.rider_store).unwrap();
        books.busy_timeout(WITHIN).unwrap();
        assert!(books.execute(sql, []).unwrap() > 0, "{sql}");
    }

    async fn publish(&self, subject: &str, headers: HeaderMap, payload: Vec<u8>) -> u64 {
        // What the broker was told then (an expectation, a timer to purge) is not said again.
        let mut kept = HeaderMap::new();
        for (name, values) in headers.iter() {
            if !AsRef::<str>::as_ref(name).starts_with("Nats-") {
                values.iter().for_each(|value| kept.append(name.clone(), value.clone()));
            }
        }
        let message = PublishMessage::build().payload(payload.into()).headers(kept);
        let ack = self.nats.jetstream.send_publish(subject.to_owned(), message).await.unwrap();
        ack.await.unwrap().sequence
    }

    async fn stored(&self, stream: &str, sequence: u64) -> Stored {
        let held = self.nats.admin.get_stream(stream).await.unwrap();
        let message = held.direct_get(sequence).await.unwrap();
        Stored {
            subject: message.subject.to_string(),
            sequence,
            published: common::clock::Timestamp::from(message.time),
            headers: message.headers,
            payload: message.payload,
        }
    }

    async fn delete(&self, stream: &str, sequence: u64) {
        let held = self.nats.admin.get_stream(stream).await.unwrap();
        held.delete_message(sequence).await.unwrap();
    }

    /// The driver's event that set them free.
    fn released(&self) -> u64 {
        let is_it = |event: &v1::DriverEvent| {
            matches!(event.kind, Some(v1::driver_event::Kind::Released(_)))
        };
        let mut entries = self.log.drivers.values().flatten();
        entries.find(|entry| is_it(&entry.event)).unwrap().sequence
    }

    fn completed(&self) -> u64 {
        let is_it =
            |event: &v1::TripEvent| matches!(event.kind, Some(v1::trip_event::Kind::Completed(_)));
        let mut entries = self.log.trips.values().flatten();
        entries.find(|entry| is_it(&entry.event)).unwrap().sequence
    }
}

fn letter(consumer: &str, stream: &str, of: u64, subject: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (dead::CONSUMER, consumer),
        (dead::STREAM, stream),
        (dead::SEQUENCE, &of.to_string()),
        (dead::SUBJECT, subject),
        (dead::ATTEMPTS, "6"),
        (dead::ERROR, "made up"),
    ] {
        headers.insert(name, value);
    }
    headers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_in_the_books_and_in_the_journal_is_named() {
    let mut scene = Box::pin(Scene::after_a_ride()).await;

    scene.change_books("UPDATE charge SET amount_minor = amount_minor + 1");
    scene
        .names("a charge of another amount", |it| {
            matches!(it, Violation::ChargedWrongly { book: Book::Ledger, .. })
        })
        .await;
    scene.change_books("UPDATE posting SET amount_minor = amount_minor + 1 WHERE step = 'owed'");
    scene
        .names("postings that sum to two", |it| {
            matches!(it, Violation::LedgerUnbalanced { sum: 2 })
        })
        .await;
    scene.change_books("DELETE FROM outbox WHERE id = (SELECT MIN(id) FROM outbox)");
    scene
        .names("an event without a row", |it| {
            matches!(it, Violation::Books(BookViolation::EventWithoutRow { .. }))
        })
        .await;
    charge_again(&scene).await;
    scene
        .names("a second charge at the provider", |it| {
            matches!(it, Violation::ChargedTwice { book: Book::Provider, times: 2, .. })
        })
        .await;
    forget_attempts(&scene.journal(), "/arrive");
    scene
        .names("an arrival that nobody reported", |it| {
            matches!(it, Violation::Books(BookViolation::NotAttempted { .. }))
        })
        .await;
    scene.change_books("UPDATE ride_request SET ended = 0");
    scene
        .names("a trip that the rider's view shows as open", |it| {
            matches!(it, Violation::Books(BookViolation::ProjectionDiffers { .. }))
        })
        .await;
    scene.deployment.stop().await.unwrap();
}

async fn charge_again(scene: &Scene) {
    let trip = scene.log.trips.keys().next().unwrap();
    let body = format!(
        r#"{{"idempotency_key":"other","reference":"{trip}:fare","amount_minor":1,"currency":"SEK"}}"#
    );
    let ask =
        Ask { method: Method::POST, path: "/v1/charges".to_owned(), key: None, body: body.into() };
    let payments = &scene.deployment.addresses.payments;
    let answer = HttpClient::new(1).send(payments, &ask, None).await.unwrap();
    assert_eq!(answer.status, 201);
}

fn forget_attempts(journal: &std::path::Path, step: &str) {
    let lines = loadgen::journal::read(journal).unwrap().map(Result::unwrap);
    let is_other = |line: &Entry| !matches!(line, Entry::Attempt(Attempt { path, .. }) if path.ends_with(step));
    let kept: Vec<String> =
        lines.filter(is_other).map(|line| serde_json::to_string(&line).unwrap()).collect();
    std::fs::write(journal, kept.join("\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_in_the_streams_is_named() {
    let mut scene = Box::pin(Scene::after_a_ride()).await;

    // A dead letter of a message that there never was, and one of a message that was handled.
    let process = "trip-process-0";
    let letters = subject::dead_letter(process, stream::TRIP, 999_999);
    scene.publish(&letters, letter(process, stream::TRIP, 999_999, "x"), Vec::new()).await;
    scene
        .names("a dead letter from nowhere", |it| {
            matches!(it, Violation::Message(MessageViolation::DeadFromNowhere { .. }))
        })
        .await;
    let completed = scene.stored(stream::TRIP, scene.completed()).await;
    let payments = stream::RIDER_PAYMENTS.durable(0);
    let letters = subject::dead_letter(&payments, stream::TRIP, completed.sequence);
    let headers = letter(&payments, stream::TRIP, completed.sequence, &completed.subject);
    scene.publish(&letters, headers, completed.payload.to_vec()).await;
    scene
        .names("a dead letter of a message that is no poison", |it| {
            matches!(it, Violation::Message(MessageViolation::DeadUnexpected { attempts: 6, .. }))
        })
        .await;
    assert!(scene.known.iter().any(|it| {
        matches!(it, Violation::Message(MessageViolation::TriedTooOften { tries: 6, .. }))
    }));

    // A command in a partition that nobody reads.
    let astray = format!("driver.command.9999.{}", Uuid::nil());
    scene.publish(&astray, HeaderMap::new(), Vec::new()).await;
    scene
        .names("a command that nobody carries out", |it| {
            matches!(it, Violation::Message(MessageViolation::LeftInQueue { .. }))
        })
        .await;

    poison(&mut scene).await;

    // The same event once more, as a store without compare-and-set would have it.
    scene.publish(&completed.subject, completed.headers, completed.payload.to_vec()).await;
    scene
        .names("an event stored twice", |it| {
            matches!(it, Violation::Order(OrderViolation::EventTwice { .. }))
        })
        .await;

    // The effect of a release is gone.
    let released = scene.released();
    scene.delete(stream::DRIVER, released).await;
    scene
        .names("a release without effect", |it| {
            matches!(
                it,
                Violation::Order(OrderViolation::ReactionMissing {
                    reaction: Reaction::Release,
                    ..
                })
            )
        })
        .await;

    forge(&scene).await;
    scene
        .names("a driver's event written by somebody else", |it| {
            matches!(it, Violation::Order(OrderViolation::ForeignWriter { .. }))
        })
        .await;
    scene.deployment.stop().await.unwrap();
}

/// Poison that the audit is not told of is a violation in every reader; poison that it is told of
/// must be in the dead-letter queue, and is.
async fn poison(scene: &mut Scene) {
    let trip = common::id::TripId(Uuid::from_u128(7));
    let subject = scene.nats.partitions.trip_event(trip);
    let sequence = scene.publish(&subject, HeaderMap::new(), b"poison".to_vec()).await;
    scene
        .names(
            "a message that is no event",
            |it| matches!(it, Violation::Unreadable { sequence: at, .. } if *at == sequence),
        )
        .await;
    let is_poison = |it: &Violation| match it {
        Violation::Unreadable { sequence: at, .. } => *at == sequence,
        Violation::Message(MessageViolation::DeadUnexpected { sequence: of, .. }) => {
            *of == sequence
        }
        _ => false,
    };
    assert!(scene.known.iter().filter(|it| is_poison(it)).count() >= 2, "{:#?}", scene.known);
    scene.sources.poison.push(Poison { stream: stream::TRIP.to_owned(), sequence });
    assert_eq!(scene.new_violations().await, []);
    assert!(!scene.known.iter().any(is_poison), "{:#?}", scene.known);
}

/// An event of a driver, right in everything but its writer.
async fn forge(scene: &Scene) {
    let mut entries = scene.log.drivers.values();
    let last = entries.find_map(|entries| entries.last()).unwrap().sequence;
    let mut stored = scene.stored(stream::DRIVER, last).await;
    let event: v1::DriverEvent = contract::decode("driver event", &stored.payload).unwrap();
    assert!(event.kind.is_some());
    stored.headers.insert(header::SOURCE, "trip");
    stored.headers.insert(header::ID, Uuid::from_u128(8).to_string());
    scene.publish(&stored.subject, stored.headers, stored.payload.to_vec()).await;
}
