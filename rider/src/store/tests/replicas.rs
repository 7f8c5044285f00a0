//! What the store promises when several replicas share a PostgreSQL, and when that crashes.

use std::sync::{
    Arc, Barrier,
    atomic::{AtomicU32, Ordering},
};

use common::{
    event_store::Cause,
    id::RiderId,
    testing::{eventually, postgres::postgres},
};
use futures_util::{FutureExt as _, future::join_all};
use uuid::Uuid;

use super::{
    super::{OpenError, Place, Store, StoreError, Tx, ledger, outbox, requests::OrderError},
    ANNA, Home, NOON, debt, order, place, waiting,
};

#[tokio::test]
async fn replicas_that_are_asked_at_once_with_one_key_take_up_one_ride() {
    let home = Home::server().await;
    let (one, other) = tokio::join!(home.open(), home.open());
    let taps = (0..40_u128).map(|n| {
        let store = if n % 2 == 0 { &one } else { &other };
        place(store, order(n + 1, ANNA, "k"))
    });
    let answers = join_all(taps).await;
    let first = answers[0].as_ref().unwrap().answer.clone();
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().answer == first));
    let carried_out = answers.iter().filter(|answer| !answer.as_ref().unwrap().is_replay);
    assert_eq!(carried_out.count(), 1);
    assert_eq!(waiting(&other).await.len(), 1);
}

#[tokio::test]
async fn replicas_that_are_asked_at_once_with_different_keys_take_up_one_ride() {
    let home = Home::server().await;
    let (one, other) = tokio::join!(home.open(), home.open());
    let taps = (0..40_u128).map(|n| {
        let store = if n % 2 == 0 { &one } else { &other };
        let key = format!("k{n}");
        async move { place(store, order(n + 1, ANNA, &key)).await }
    });
    let answers = join_all(taps).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let refused =
        answers.iter().filter(|answer| matches!(answer, Err(OrderError::TripInProgress(_))));
    assert_eq!(refused.count(), 39);
}

#[tokio::test]
async fn replicas_write_a_debt_once_and_settle_it_once() {
    let home = Home::server().await;
    let (one, other) = tokio::join!(home.open(), home.open());
    let owe = |store: &Store| {
        let store = store.clone();
        async move { store.write(|tx| ledger::owe(tx, &debt(), NOON)).await.unwrap().is_new }
    };
    let settle = |store: &Store| {
        let store = store.clone();
        let work = |tx: &Tx<'_>| ledger::settle(tx, &debt(), "ch_1", &Cause::default(), NOON);
        async move { store.write::<_, StoreError, _>(work).await.unwrap() }
    };
    let both = [&one, &other];
    let owed = join_all((0..20).map(|n| owe(both[n % 2]))).await;
    assert_eq!(owed.iter().filter(|is_new| **is_new).count(), 1);
    join_all((0..20).map(|n| settle(both[n % 2]))).await;
    assert_eq!(waiting(&one).await.len(), 1);
    let balance = one.read(|tx| ledger::balance(tx, "provider_holds")).await.unwrap();
    assert_eq!(balance, 12_000);
}

#[tokio::test]
async fn what_was_answered_is_there_after_the_database_crashed_and_a_call_meanwhile_fails() {
    let mut server = postgres().await;
    let place_of: Place = server.url().parse().unwrap();
    let store = Store::open(&place_of).await.unwrap();
    let orders = (0..200_u128).map(|n| place(&store, order(n, RiderId(Uuid::from_u128(n)), "k")));
    let mut placing = Box::pin(join_all(orders));
    assert!(placing.as_mut().now_or_never().is_none());
    let crash = async {
        let some = async || waiting(&store).await.len() > 10;
        eventually("some rides are taken up", some).await;
        server.crash();
    };
    let (placed, ()) = tokio::join!(placing, crash);
    let answered = placed.iter().filter(|placed| placed.is_ok()).count();
    let refused = place(&store, order(999, ANNA, "k")).await;
    assert!(matches!(refused, Err(OrderError::Store(StoreError::Failed(_)))), "{refused:?}");
    server.start().await;
    let kept = store.read::<_, StoreError, _>(outbox::count_waiting).await.unwrap();
    assert!(usize::try_from(kept).unwrap() >= answered, "{kept} of {answered}");
    // Whoever got no answer asks again: what was written after all is found.
    let again = (0..200_u128).map(|n| place(&store, order(n, RiderId(Uuid::from_u128(n)), "k")));
    let again = join_all(again).await;
    assert!(again.iter().all(Result::is_ok));
    assert_eq!(store.read::<_, StoreError, _>(outbox::count_waiting).await.unwrap(), 200);
}

#[tokio::test]
async fn of_two_transactions_that_wait_for_each_other_one_is_carried_out_again() {
    let home = Home::server().await;
    let store = home.open().await;
    let meeting = Arc::new(Barrier::new(2));
    let tries = Arc::new(AtomicU32::new(0));
    let lock_both = |first: &'static str, second: &'static str| {
        let (meeting, tries) = (meeting.clone(), tries.clone());
        store.write::<_, StoreError, _>(move |tx| {
            tx.lock(first)?;
            // Only in their first try do both stand there with one lock each.
            if tries.fetch_add(1, Ordering::SeqCst) < 2 {
                meeting.wait();
            }
            tx.lock(second)
        })
    };
    let (one, other) = tokio::join!(lock_both("a", "b"), lock_both("b", "a"));
    one.unwrap();
    other.unwrap();
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let home = Home::server().await;
    let store = home.open().await;
    let newer = "INSERT INTO schema_version (version) VALUES (99)";
    store.write::<_, StoreError, _>(move |tx| tx.execute(newer, &[])).await.unwrap();
    let refused = Store::open(&home.place()).await;
    assert!(matches!(refused, Err(OpenError::Newer { found: 99, .. })));
}
