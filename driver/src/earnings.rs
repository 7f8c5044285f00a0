//! Who earned what: completed rides, read from trip events. A view; it can be rebuilt at any time.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::{
    clock::Timestamp,
    contract::{self, Malformed, v1},
    id::{DriverId, TripId},
    money::Money,
    nats::Nats,
    stream, subject,
    view::{self, CaughtUp, Start, Stored, ViewSpec},
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// Rides that are remembered, of all drivers together; the oldest is forgotten first.
const RIDES_MAX: usize = 200_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A completed ride.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Ride {
    pub(crate) trip_id: TripId,
    pub(crate) fare: Money,
    pub(crate) ended_at: Timestamp,
}

/// The rides of every driver.
#[derive(Debug, Clone, Default)]
pub(crate) struct Earnings(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    rides: HashMap<DriverId, VecDeque<Ride>>,
    /// Whose ride came when: the first is the oldest of all.
    order: VecDeque<DriverId>,
}

impl Earnings {
    /// The driver's rides, of the day that begins then or of all, oldest first.
    pub(crate) fn of(&self, driver: DriverId, day: Option<Timestamp>) -> Vec<Ride> {
        let is_wanted = |ride: &&Ride| {
            day.is_none_or(|start| start <= ride.ended_at && ride.ended_at < start.plus(DAY))
        };
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rides = book.rides.get(&driver);
        rides.into_iter().flatten().filter(is_wanted).copied().collect()
    }

    /// Follows trip events until shutdown.
    pub(crate) async fn follow(
        &self,
        nats: &Nats,
        caught_up: &CaughtUp,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let spec = ViewSpec {
            stream: stream::TRIP,
            filter: subject::TRIP.events(),
            start: Start::LastPerSubject,
        };
        view::follow(nats, spec, caught_up, shutdown, |stored| {
            if let Err(err) = self.apply(&stored) {
                // A view must not stop for one message; the trip's own readers report it.
                tracing::warn!(sequence = stored.sequence, error = %err, "not a trip event");
            }
            std::future::ready(Ok(()))
        })
        .await
    }

    fn apply(&self, stored: &Stored) -> Result<(), Malformed> {
        let event: v1::TripEvent = contract::decode("trip event", &stored.payload)?;
        let state = contract::required("state", event.state.as_ref())?;
        if state.phase() != v1::TripPhase::Completed {
            return Ok(());
        }
        let ride = Ride {
            trip_id: TripId(stored.key()?),
            fare: contract::money("fare", state.fare.as_ref())?,
            ended_at: Timestamp::from_micros(state.ended_at_us),
        };
        let driver = contract::id("driver_id", &state.driver_id)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).note(driver, ride, RIDES_MAX);
        Ok(())
    }
}

impl Book {
    /// A rated trip is told a second time.
    fn note(&mut self, driver: DriverId, ride: Ride, rides_max: usize) {
        let rides = self.rides.entry(driver).or_default();
        if rides.iter().rev().any(|known| known.trip_id == ride.trip_id) {
            return;
        }
        rides.push_back(ride);
        self.order.push_back(driver);
        if self.order.len() > rides_max
            && let Some(oldest) = self.order.pop_front()
            && let Some(rides) = self.rides.get_mut(&oldest)
        {
            rides.pop_front();
            if rides.is_empty() {
                self.rides.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Book, Earnings, Ride};
    use common::{
        clock::Timestamp,
        id::{DriverId, TripId},
        money::{Currency, Money},
    };
    use std::time::Duration;
    use uuid::Uuid;

    const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

    fn driver(number: u128) -> DriverId {
        DriverId(Uuid::from_u128(number))
    }

    fn ride(number: u64) -> Ride {
        Ride {
            trip_id: TripId(Uuid::from_u128(u128::from(number))),
            fare: Money::new(100, Currency::SEK),
            ended_at: START.plus(Duration::from_secs(3600 * number)),
        }
    }

    #[test]
    fn a_ride_told_twice_is_earned_once() {
        let mut book = Book::default();
        book.note(driver(1), ride(1), 10);
        book.note(driver(1), ride(1), 10);
        assert_eq!(book.rides[&driver(1)], [ride(1)]);
    }

    #[test]
    fn the_oldest_ride_of_all_is_forgotten_first() {
        let mut book = Book::default();
        book.note(driver(1), ride(1), 2);
        book.note(driver(2), ride(2), 2);
        book.note(driver(2), ride(3), 2);
        assert!(!book.rides.contains_key(&driver(1)));
        assert_eq!(book.rides[&driver(2)], [ride(2), ride(3)]);
    }

    #[test]
    fn a_day_has_the_rides_that_ended_on_it() {
        let earnings = Earnings::default();
        for number in [1, 23, 24, 30] {
            earnings.0.lock().unwrap().note(driver(1), ride(number), 10);
        }
        assert_eq!(earnings.of(driver(1), Some(START)), [ride(1), ride(23)]);
        assert_eq!(earnings.of(driver(1), None).len(), 4);
        assert_eq!(earnings.of(driver(2), None), []);
    }
}
