//! One delivery of a trip at a time: the second must see what became of the first, whatever the
//! provider remembers.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use common::id::TripId;
use tokio::sync::Notify;

/// Who has their turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Mutex<HashSet<TripId>>,
    ended: Notify,
}

/// A trip's turn; ends when dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    trip: TripId,
}

impl Turns {
    /// Waits for the trip's turn.
    pub(super) async fn take(&self, trip: TripId) -> Turn<'_> {
        loop {
            // Made before the look, so that no end is missed between the two.
            let ended = self.ended.notified();
            if self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(trip) {
                return Turn { turns: self, trip };
            }
            ended.await;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.trip);
        self.turns.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;
    use common::id::TripId;
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    #[tokio::test]
    async fn a_trips_second_delivery_waits_for_its_first_and_for_no_other() {
        let (turns, trip) = (Turns::default(), TripId(Uuid::from_u128(1)));
        let first = turns.take(trip).await;
        let _other = turns.take(TripId(Uuid::from_u128(2))).await;
        let mut second = Box::pin(turns.take(trip));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        second.await;
    }
}
