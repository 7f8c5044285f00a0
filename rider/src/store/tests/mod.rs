//! What the store promises, whatever database is under it: the same on files of SQLite and on
//! PostgreSQL.

use std::time::Duration;

use common::{
    clock::Timestamp,
    contract::v1,
    event_store::Cause,
    geo::Point,
    id::{DriverId, RiderId, TripId},
    money::{Currency, Money},
    testing::postgres::{TestPostgres, postgres},
};
use futures_util::FutureExt as _;
use tempfile::TempDir;
use uuid::Uuid;

use super::{
    Place, Reader, Store, StoreError, ledger, outbox,
    requests::{Accepted, NoRide, OrderError, RideOrder, accept},
    trips,
};
use crate::{
    domain::{
        charge::{ChargeState, Debt, Purpose},
        idempotency::{Answer, KEPT_FOR},
        trip::{Phase, Quote, Ride},
    },
    fare::FareError,
};

mod outage;
mod replicas;

const NOON: Timestamp = Timestamp::from_micros(1_767_268_800_000_000);
const ANNA: RiderId = RiderId(Uuid::from_u128(0xA));

/// Where a test's store is.
enum Home {
    Folder(TempDir),
    Server(Box<TestPostgres>),
}

impl Home {
    async fn server() -> Self {
        Self::Server(Box::new(postgres().await))
    }

    fn place(&self) -> Place {
        match self {
            Self::Folder(folder) => Place::File(folder.path().join("rider.db")),
            Self::Server(server) => server.url().parse().unwrap(),
        }
    }

    async fn open(&self) -> Store {
        Store::open(&self.place()).await.unwrap()
    }
}

/// Each of these runs on each database.
macro_rules! on_every_database {
    ($($promise:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $promise() {
                super::$promise(super::Home::Folder(super::TempDir::new().unwrap())).await;
            })*
        }
        mod postgres {
            $(#[tokio::test] async fn $promise() {
                super::$promise(super::Home::server().await).await;
            })*
        }
    };
}

fn ride(trip: u128, rider: RiderId) -> Ride {
    let money = |amount| Money::new(amount, Currency::SEK);
    Ride {
        trip: TripId(Uuid::from_u128(trip)),
        rider,
        pickup: Point::new(57.7, 11.97).unwrap(),
        dropoff: Point::new(57.69, 11.95).unwrap(),
        quote: Quote {
            fare_id: Uuid::from_u128(3),
            product: "standard".into(),
            fare: money(12_000),
            distance_m: 5_000,
            duration_s: 600,
            surge_percent: 100,
            cancellation_fee: money(4_000),
        },
        pin: "0427".into(),
        requested_at: NOON,
    }
}

fn order(trip: u128, rider: RiderId, key: &str) -> RideOrder {
    let answer = Answer { status: 201, body: format!("trip {trip}") };
    RideOrder {
        rider,
        key: key.into(),
        fingerprint: [1; 32],
        now: NOON,
        cause: Cause::default(),
        ride: Ok((ride(trip, rider), answer)),
    }
}

async fn place(store: &Store, order: RideOrder) -> Result<Accepted, OrderError> {
    store.try_write(move |tx| accept(tx, &order)).await
}

async fn waiting(store: &Store) -> Vec<outbox::Waiting> {
    store.read(|tx| outbox::heads(tx, 100)).await.unwrap()
}

fn snapshot(trip: u128, sequence: u64, phase: v1::TripPhase) -> v1::TripSnapshot {
    v1::TripSnapshot {
        trip_id: TripId(Uuid::from_u128(trip)).to_vec(),
        version: sequence,
        sequence,
        at_us: NOON.micros(),
        state: Some(v1::TripState { phase: phase.into(), ..v1::TripState::default() }),
    }
}

on_every_database! {
    a_ride_and_its_outbox_row_are_written_together,
    the_same_key_is_answered_alike_and_asks_for_one_ride_even_after_a_restart,
    a_key_that_stands_for_something_else_is_refused,
    a_key_of_one_rider_is_nothing_to_another,
    a_key_is_kept_for_a_day_and_is_then_a_new_one,
    a_rider_is_on_one_trip_at_a_time,
    a_job_that_fails_undoes_its_own_writes_and_not_its_neighbours,
    what_waits_when_the_store_closes_is_written_and_what_comes_later_is_refused,
    an_older_state_never_replaces_a_newer_one,
    a_replay_of_what_a_view_has_seen_changes_nothing,
    a_riders_trips_come_newest_first_and_nobody_elses,
    a_debt_is_written_once_and_settled_once_and_the_books_balance,
    who_only_looks_makes_nothing_and_changes_nothing,
}

async fn a_ride_and_its_outbox_row_are_written_together(home: Home) {
    let store = home.open().await;
    let accepted = place(&store, order(1, ANNA, "k")).await.unwrap();
    assert!(!accepted.is_replay);
    let rows = waiting(&store).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].kind, "rider.ride_requested");
    assert_eq!(rows[0].correlation, Uuid::from_u128(1));
}

async fn the_same_key_is_answered_alike_and_asks_for_one_ride_even_after_a_restart(home: Home) {
    let store = home.open().await;
    let first = place(&store, order(1, ANNA, "k")).await.unwrap();
    store.close().await;
    let store = home.open().await;
    let again =
        RideOrder { ride: Err(NoRide::Fare(FareError::Expired(NOON))), ..order(2, ANNA, "k") };
    let second = place(&store, again).await.unwrap();
    assert!(second.is_replay);
    assert_eq!(second.answer, first.answer);
    assert_eq!(waiting(&store).await.len(), 1);
}

async fn a_key_that_stands_for_something_else_is_refused(home: Home) {
    let store = home.open().await;
    place(&store, order(1, ANNA, "k")).await.unwrap();
    let other = RideOrder { fingerprint: [2; 32], ..order(2, ANNA, "k") };
    assert!(matches!(place(&store, other).await, Err(OrderError::KeyReused)));
}

async fn a_key_of_one_rider_is_nothing_to_another(home: Home) {
    let store = home.open().await;
    let bert = RiderId(Uuid::from_u128(0xB));
    let first = place(&store, order(1, ANNA, "k")).await.unwrap();
    let second = place(&store, order(2, bert, "k")).await.unwrap();
    assert!(!second.is_replay);
    assert_ne!(first.answer, second.answer);
    assert_eq!(waiting(&store).await.len(), 2);
}

async fn a_key_is_kept_for_a_day_and_is_then_a_new_one(home: Home) {
    let store = home.open().await;
    place(&store, order(1, ANNA, "k")).await.unwrap();
    let ended = snapshot(1, 9, v1::TripPhase::Completed);
    store.write(move |tx| trips::apply(tx, &ended)).await.unwrap();
    let later = |after: Duration| RideOrder { now: NOON.plus(after), ..order(2, ANNA, "k") };
    assert!(place(&store, later(KEPT_FOR)).await.unwrap().is_replay);
    let fresh = place(&store, later(KEPT_FOR + Duration::from_secs(1))).await.unwrap();
    assert!(!fresh.is_replay);
    assert_eq!(fresh.answer.body, "trip 2");
}

async fn a_rider_is_on_one_trip_at_a_time(home: Home) {
    let store = home.open().await;
    place(&store, order(1, ANNA, "k")).await.unwrap();
    let refused = place(&store, order(2, ANNA, "l")).await;
    assert!(matches!(refused, Err(OrderError::TripInProgress(trip)) if trip.0.as_u128() == 1));
    let ended = snapshot(1, 9, v1::TripPhase::Cancelled);
    store.write(move |tx| trips::apply(tx, &ended)).await.unwrap();
    assert!(place(&store, order(2, ANNA, "l")).await.is_ok());
}

async fn a_job_that_fails_undoes_its_own_writes_and_not_its_neighbours(home: Home) {
    let store = home.open().await;
    let fails = store.write(|tx| {
        accept(tx, &order(1, ANNA, "k"))?;
        Err::<(), _>(OrderError::KeyReused)
    });
    let works = (0..50_u128)
        .map(|n| place(&store, order(100 + n, RiderId(Uuid::from_u128(1_000 + n)), "k")));
    let (failed, worked) = tokio::join!(fails, futures_util::future::join_all(works));
    assert!(failed.is_err());
    assert!(worked.iter().all(Result::is_ok));
    assert_eq!(waiting(&store).await.len(), 50);
}

async fn what_waits_when_the_store_closes_is_written_and_what_comes_later_is_refused(home: Home) {
    let store = home.open().await;
    let orders = (0..20_u128)
        .map(|n| place(&store, order(n, RiderId(Uuid::from_u128(n)), "k")))
        .collect::<Vec<_>>();
    let (placed, ()) = tokio::join!(futures_util::future::join_all(orders), store.close());
    assert!(placed.iter().all(Result::is_ok));
    let late = place(&store, order(99, ANNA, "k")).await;
    assert!(matches!(late, Err(OrderError::Store(StoreError::Closed))));
    let store = home.open().await;
    assert_eq!(waiting(&store).await.len(), 20);
}

#[tokio::test]
async fn a_store_that_is_too_far_behind_sends_new_work_away_and_loses_none_that_it_took() {
    let home = Home::Folder(TempDir::new().unwrap());
    let store = home.open().await;
    let (go_on, held) = std::sync::mpsc::channel::<()>();
    let mut holds = Box::pin(store.write::<_, StoreError, _>(move |_| {
        held.recv().ok();
        Ok(())
    }));
    assert!(holds.as_mut().now_or_never().is_none());
    let (mut taken, mut refused) = (Vec::new(), 0);
    for n in 0..1_500_u128 {
        let mut order = Box::pin(place(&store, order(n, RiderId(Uuid::from_u128(n)), "k")));
        match order.as_mut().now_or_never() {
            None => taken.push(order),
            Some(Err(OrderError::Store(StoreError::Overloaded))) => refused += 1,
            Some(other) => panic!("{other:?}"),
        }
    }
    go_on.send(()).unwrap();
    holds.await.unwrap();
    assert!(refused > 0);
    assert_eq!(taken.len() + refused, 1_500);
    let expected = taken.len();
    assert!(futures_util::future::join_all(taken).await.iter().all(Result::is_ok));
    let taken = store.read::<_, StoreError, _>(outbox::count_waiting).await.unwrap();
    assert_eq!(usize::try_from(taken).unwrap(), expected);
}

async fn an_older_state_never_replaces_a_newer_one(home: Home) {
    let store = home.open().await;
    place(&store, order(1, ANNA, "k")).await.unwrap();
    for (sequence, phase) in [(7, v1::TripPhase::Arrived), (5, v1::TripPhase::Assigned)] {
        let state = snapshot(1, sequence, phase);
        store.write(move |tx| trips::apply(tx, &state)).await.unwrap();
    }
    let trip =
        store.read(|tx| trips::find(tx, ANNA, TripId(Uuid::from_u128(1)))).await.unwrap().unwrap();
    assert_eq!(trip.phase(), Phase::Arrived);
}

async fn a_riders_trips_come_newest_first_and_nobody_elses(home: Home) {
    let store = home.open().await;
    let bert = RiderId(Uuid::from_u128(0xB));
    place(&store, order(1, ANNA, "k")).await.unwrap();
    place(&store, order(5, bert, "k")).await.unwrap();
    let ended = snapshot(1, 9, v1::TripPhase::Unfulfilled);
    store.write(move |tx| trips::apply(tx, &ended)).await.unwrap();
    place(&store, order(2, ANNA, "l")).await.unwrap();
    let page = |before| store.read(move |tx| trips::page(tx, ANNA, before, 10));
    let names = |trips: Vec<crate::domain::trip::Trip>| {
        trips.iter().map(|trip| trip.ride.trip.0.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(names(page(None).await.unwrap()), [2, 1]);
    assert_eq!(names(page(Some(TripId(Uuid::from_u128(2)))).await.unwrap()), [1]);
    let foreign = store.read(|tx| trips::find(tx, ANNA, TripId(Uuid::from_u128(5)))).await.unwrap();
    assert_eq!(foreign, None);
}

fn debt() -> Debt {
    Debt {
        trip: TripId(Uuid::from_u128(1)),
        purpose: Purpose::Fare,
        rider: ANNA,
        driver: Some(DriverId(Uuid::from_u128(7))),
        amount: Money::new(12_000, Currency::SEK),
    }
}

async fn a_debt_is_written_once_and_settled_once_and_the_books_balance(home: Home) {
    let store = home.open().await;
    for is_new in [true, false] {
        let charge = store.write(|tx| ledger::owe(tx, &debt(), NOON)).await.unwrap();
        assert_eq!(charge.is_new, is_new);
        assert_eq!(charge.state, ChargeState::Pending { first_call_at: NOON });
    }
    for _ in 0..2 {
        store
            .write(|tx| ledger::settle(tx, &debt(), "ch_1", &Cause::default(), NOON))
            .await
            .unwrap();
    }
    let rows = waiting(&store).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].kind, "rider.fare_charged");
    for (account, expected) in [("riders_owe", 0), ("revenue", -12_000), ("provider_holds", 12_000)]
    {
        let balance = store.read(move |tx| ledger::balance(tx, account)).await.unwrap();
        assert_eq!(balance, expected, "{account}");
    }
}

async fn a_replay_of_what_a_view_has_seen_changes_nothing(home: Home) {
    let store = home.open().await;
    place(&store, order(1, ANNA, "k")).await.unwrap();
    for (last, expected) in [(7_u64, 0), (5, 7), (9, 7)] {
        let seen = store.write(move |tx| {
            let seen = trips::resume(tx, "trips")?;
            trips::advance(tx, "trips", last)?;
            Ok::<_, StoreError>(seen)
        });
        assert_eq!(seen.await.unwrap(), expected);
    }
    let position = store.read::<_, StoreError, _>(|tx| trips::position(tx, "trips")).await;
    assert_eq!(position.unwrap(), 9);
}

async fn who_only_looks_makes_nothing_and_changes_nothing(home: Home) {
    assert!(Reader::open(&home.place()).await.is_err());
    let store = home.open().await;
    place(&store, order(1, ANNA, "k")).await.unwrap();
    let reader = Reader::open(&home.place()).await.unwrap();
    assert_eq!(reader.read::<_, StoreError, _>(outbox::count_waiting).await.unwrap(), 1);
    let refused = reader.read::<_, StoreError, _>(|tx| outbox::published(tx, 1, 7)).await;
    assert!(refused.is_err());
    assert_eq!(waiting(&store).await.len(), 1);
}

#[tokio::test]
async fn a_store_in_memory_is_done_at_once_keeps_what_succeeded_and_undoes_what_failed() {
    let store = Store::inline().unwrap();
    let first = place(&store, order(1, ANNA, "k")).now_or_never().unwrap().unwrap();
    let refused = store.write(|tx| {
        accept(tx, &order(2, RiderId(Uuid::from_u128(0xB)), "k"))?;
        Err::<(), _>(OrderError::KeyReused)
    });
    assert!(refused.now_or_never().unwrap().is_err());
    let again = place(&store.clone(), order(1, ANNA, "k")).now_or_never().unwrap().unwrap();
    assert!(again.is_replay);
    assert_eq!(again.answer, first.answer);
    assert_eq!(waiting(&store).now_or_never().unwrap().len(), 1);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = TempDir::new().unwrap();
    let place = Place::File(folder.path().join("rider.db"));
    let store = Store::open(&place).await.unwrap();
    store.close().await;
    let path = folder.path().join("rider.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(Store::open(&place).await.is_err());
}
