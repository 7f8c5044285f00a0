//! The archive read without a broker: whole histories are found whole, and what is missing or
//! changed is noticed.

use std::{fs, time::Duration};

use common::{
    event_store::{Cause, EventStore},
    geo::Point,
    id::{CommandId, RiderId, TripId},
    money::{Currency, Money},
    nats::Nats,
    subject::Partitions,
    testing,
};
use loadgen::archive::verify;
use tempfile::TempDir;
use trip::{
    archive::{Archiver, contents},
    domain::{Quote, Terms, TripCommand},
    record::TripDecider,
};

/// An archive with two trips that found nobody.
async fn archive() -> (TempDir, [TripId; 2]) {
    let (dir, broker) = (TempDir::new().unwrap(), testing::broker().await);
    let nats = Nats::new(broker.client().await, Partitions::new(2).unwrap());
    nats.prepare().await.unwrap();
    let store = EventStore::<TripDecider>::new(&nats);
    let trips = [TripId::fresh(), TripId::fresh()];
    for trip in trips {
        let request = TripCommand::Request {
            rider: RiderId::fresh(),
            pickup: Point::new(57.7, 11.97).unwrap(),
            dropoff: Point::new(57.72, 12.0).unwrap(),
            quote: Quote {
                fare_id: vec![7; 16],
                product: "standard".into(),
                fare: Money::new(12_500, Currency::SEK),
                distance_m: 3_500,
                duration_s: 600,
                surge_percent: 100,
                cancellation_fee: Money::new(4_000, Currency::SEK),
            },
            pin: "0417".parse().unwrap(),
            terms: Terms::STANDARD,
            asked_at: nats.clock.now(),
        };
        for command in [request, TripCommand::EndSearch] {
            let id = CommandId::fresh();
            store.execute(trip, id, &Cause::default(), &command).await.unwrap();
        }
    }
    let mut archiver = Archiver::new(&nats, dir.path().to_owned(), Duration::ZERO);
    let histories = archiver.read(&trips).await.unwrap();
    archiver.write(histories).await.unwrap();
    (dir, trips)
}

#[tokio::test]
async fn what_was_archived_is_whole() {
    let (dir, trips) = archive().await;
    let verified = verify(dir.path()).unwrap();
    assert!(verified.is_good(), "{verified}");
    assert_eq!((verified.trips, verified.events, verified.repeated), (trips.len(), 4, 0));
    // A second copy changes nothing.
    let segment = contents(dir.path()).unwrap().members[0].segment.clone();
    fs::copy(&segment, dir.path().join("trips-2026-01-01-00000.gz")).unwrap();
    let verified = verify(dir.path()).unwrap();
    assert!(verified.is_good(), "{verified}");
    assert_eq!((verified.trips, verified.events, verified.repeated), (trips.len(), 4, 2));
}

#[tokio::test]
async fn a_byte_that_changed_is_noticed() {
    let (dir, _) = archive().await;
    let member = contents(dir.path()).unwrap().members[1].clone();
    let mut bytes = fs::read(&member.segment).unwrap();
    let middle = usize::try_from(member.at + member.length / 2).unwrap();
    bytes[middle] ^= 0x10;
    fs::write(&member.segment, bytes).unwrap();
    assert!(verify(dir.path()).is_err());
}

#[tokio::test]
async fn a_history_without_its_beginning_is_noticed() {
    let broker = testing::broker().await;
    let nats = Nats::new(broker.client().await, Partitions::new(2).unwrap());
    nats.prepare().await.unwrap();
    let (from, trips) = archive().await;
    // What a careless archiver would have written: the last event alone.
    let history = contents(from.path()).unwrap().history(trips[0]).unwrap();
    let mut last = history.last().unwrap().clone();
    // It was compared with the event before it, which is not here.
    last.headers = last.envelope().unwrap().to_headers("test");
    let ack = nats.jetstream.publish_with_headers(last.subject, last.headers, last.payload).await;
    ack.unwrap().await.unwrap();
    let dir = TempDir::new().unwrap();
    let mut archiver = Archiver::new(&nats, dir.path().to_owned(), Duration::ZERO);
    let histories = archiver.read(&trips[..1]).await.unwrap();
    archiver.write(histories).await.unwrap();
    let verified = verify(dir.path()).unwrap();
    assert!(!verified.is_good(), "{verified}");
    assert_eq!((verified.trips, verified.events), (1, 1));
}
