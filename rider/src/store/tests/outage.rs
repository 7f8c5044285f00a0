//! A store that fails for a while.

use futures_util::FutureExt as _;
use tempfile::TempDir;
use uuid::Uuid;

use super::{ANNA, Home, RiderId, StoreError, order, place, waiting};
use crate::store::requests::OrderError;

#[tokio::test]
async fn when_a_statement_takes_the_whole_transaction_with_it_nobody_in_it_is_told_that_it_is_written()
 {
    let home = Home::Folder(TempDir::new().unwrap());
    let store = home.open().await;
    let (go_on, held) = std::sync::mpsc::channel::<()>();
    let (begins, begun) = std::sync::mpsc::channel::<()>();
    let mut holds = Box::pin(store.write::<_, StoreError, _>(move |_| {
        begins.send(()).ok();
        held.recv().ok();
        Ok(())
    }));
    assert!(holds.as_mut().now_or_never().is_none());
    begun.recv().unwrap();
    // These three are of one transaction.
    let mut before = Box::pin(place(&store, order(1, ANNA, "k")));
    assert!(before.as_mut().now_or_never().is_none());
    let mut fails = Box::pin(store.write::<_, StoreError, _>(|tx| {
        let insert = "INSERT OR ROLLBACK INTO view_position (view, sequence) VALUES ('v', 1)";
        tx.execute(insert, &[])?;
        tx.execute(insert, &[]).map(drop)
    }));
    assert!(fails.as_mut().now_or_never().is_none());
    let other = RiderId(Uuid::from_u128(0xB));
    let mut after = Box::pin(place(&store, order(2, other, "k")));
    assert!(after.as_mut().now_or_never().is_none());
    go_on.send(()).unwrap();
    holds.await.unwrap();
    for refused in [before.await, after.await] {
        assert!(matches!(&refused, Err(OrderError::Store(err)) if err.is_outage()), "{refused:?}");
    }
    assert!(fails.await.is_err());
    assert!(waiting(&store).await.is_empty());
    assert!(store.is_failing());
    // The next one finds nothing of it in its way.
    place(&store, order(1, ANNA, "k")).await.unwrap();
    assert_eq!(waiting(&store).await.len(), 1);
    assert!(!store.is_failing());
}
