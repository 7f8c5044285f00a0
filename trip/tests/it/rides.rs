//! Rides in every phase, brought there as the dispatcher or another instance would.

use std::time::Duration;

use common::{
    clock::{Clock, Timestamp},
    contract::v1,
    event_store::{Cause, EventStore, ExecuteError, Outcome},
    geo::Point,
    id::{CommandId, DriverId, OfferId, RiderId, TripId},
    money::{Currency, Money},
    nats::Nats,
};
use trip::{
    domain::{Rejection, Terms, TripCommand},
    record::TripDecider,
};

use crate::world::World;

/// What the riders tell their drivers.
pub(crate) const PIN: &str = "0417";

/// A trip, its people, and the offer that binds the driver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ride {
    pub(crate) trip: TripId,
    pub(crate) rider: RiderId,
    pub(crate) driver: DriverId,
    pub(crate) offer: OfferId,
}

impl Ride {
    pub(crate) fn new() -> Self {
        Self {
            trip: TripId::fresh(),
            rider: RiderId::fresh(),
            driver: DriverId::fresh(),
            offer: OfferId::fresh(),
        }
    }
}

pub(crate) fn pickup() -> Point {
    Point::new(57.7, 11.97).unwrap()
}

pub(crate) fn dropoff() -> Point {
    Point::new(57.72, 12.0).unwrap()
}

impl World {
    pub(crate) async fn execute(
        &self,
        trip: TripId,
        command: &TripCommand,
    ) -> Result<Outcome<TripDecider>, Rejection> {
        let id = CommandId::fresh();
        match self.store.execute(trip, id, &Cause::default(), command).await {
            Ok(outcome) => Ok(outcome),
            Err(ExecuteError::Rejected { rejection, .. }) => Err(rejection),
            Err(err) => panic!("{err}"),
        }
    }

    /// A trip in search with an open offer to its driver.
    pub(crate) async fn offered(&self, terms: Terms) -> Ride {
        let ride = Ride::new();
        self.execute(ride.trip, &request(ride, terms)).await.unwrap();
        self.execute(ride.trip, &offer(ride)).await.unwrap();
        ride
    }

    pub(crate) async fn assigned(&self, terms: Terms) -> Ride {
        let ride = self.offered(terms).await;
        let assign = TripCommand::Assign { driver: ride.driver, offer: ride.offer };
        self.execute(ride.trip, &assign).await.unwrap();
        ride
    }

    pub(crate) async fn arrived(&self, terms: Terms) -> Ride {
        let ride = self.assigned(terms).await;
        self.execute(ride.trip, &arrive(ride)).await.unwrap();
        ride
    }

    pub(crate) async fn on_the_road(&self, terms: Terms) -> Ride {
        let ride = self.arrived(terms).await;
        let start = TripCommand::Start { driver: ride.driver, pin: PIN.parse().unwrap() };
        self.execute(ride.trip, &start).await.unwrap();
        ride
    }

    /// The same histories, written by somebody whose clock is this much behind.
    pub(crate) async fn store_in_the_past(&self, by: Duration) -> EventStore<TripDecider> {
        let nats = Nats::new(self.nats.client.clone(), self.nats.partitions);
        let behind = i64::try_from(by.as_micros()).unwrap();
        let then = Timestamp::from_micros(self.nats.clock.now().micros() - behind);
        nats.clock.observe(then, Duration::ZERO);
        EventStore::new(&nats)
    }
}

pub(crate) fn quote() -> v1::Quote {
    v1::Quote {
        fare_id: vec![7; 16],
        product: "standard".into(),
        fare: Some(Money::new(12_500, Currency::SEK).into()),
        distance_m: 3_500,
        duration_s: 600,
        surge_percent: 100,
        cancellation_fee: Some(Money::new(4_000, Currency::SEK).into()),
    }
}

pub(crate) fn request(ride: Ride, terms: Terms) -> TripCommand {
    TripCommand::Request {
        rider: ride.rider,
        pickup: pickup(),
        dropoff: dropoff(),
        quote: trip::domain::Quote {
            fare_id: vec![7; 16],
            product: "standard".into(),
            fare: Money::new(12_500, Currency::SEK),
            distance_m: 3_500,
            duration_s: 0,
            surge_percent: 100,
            cancellation_fee: Money::new(4_000, Currency::SEK),
        },
        pin: PIN.parse().unwrap(),
        terms,
        asked_at: just_now(),
    }
}

/// The way to the pickup takes no time: the watchdog waits for its grace alone.
pub(crate) fn offer(ride: Ride) -> TripCommand {
    TripCommand::Offer {
        driver: ride.driver,
        offer: ride.offer,
        pickup_eta_s: 0,
        pickup_distance_m: 40,
    }
}

pub(crate) fn arrive(ride: Ride) -> TripCommand {
    TripCommand::Arrive { driver: ride.driver, position: pickup(), forced: false }
}

/// The broker is on this machine.
pub(crate) fn just_now() -> Timestamp {
    Clock::new().now()
}

pub(crate) fn rider_cancels(ride: Ride) -> TripCommand {
    let reason = "other".parse().unwrap();
    TripCommand::CancelByRider { rider: ride.rider, reason, asked_at: just_now() }
}

pub(crate) fn driver_cancels(ride: Ride) -> TripCommand {
    TripCommand::CancelByDriver { driver: ride.driver, reason: "other".parse().unwrap() }
}

pub(crate) fn complete(ride: Ride) -> TripCommand {
    TripCommand::Complete { driver: ride.driver, position: dropoff(), distance_m: 3_600 }
}
