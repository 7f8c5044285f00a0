//! Feeds the invariants with every trip and driver event of the log, from the first one on.

use std::sync::{Arc, Mutex, PoisonError};

use common::{
    contract::{self, Malformed, v1},
    decider::Recorder as _,
    id::{DriverId, TripId},
    nats::Nats,
    stream, subject,
    view::{CaughtUp, Start, Stored, ViewSpec, follow},
};
use tokio_util::sync::CancellationToken;

use super::Invariants;
use crate::record::TripDecider;

/// The view, as its feeder and its readers share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedInvariants(Arc<Mutex<Invariants>>);

impl SharedInvariants {
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Invariants) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Watches until shutdown.
///
/// # Errors
/// Never by itself: what cannot be read is itself a broken promise.
pub(crate) async fn watch(
    nats: &Nats,
    invariants: SharedInvariants,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let spec = |stream, filter| ViewSpec { stream, filter, start: Start::After(0) };
    let (trips_caught_up, drivers_caught_up) = (CaughtUp::default(), CaughtUp::default());
    let trips = follow(
        nats,
        spec(stream::TRIP, subject::TRIP.events()),
        &trips_caught_up,
        shutdown.clone(),
        async |stored| {
            note(&invariants, stream::TRIP, &stored, see_trip(&invariants, &stored));
            Ok(())
        },
    );
    let drivers = follow(
        nats,
        spec(stream::DRIVER, subject::DRIVER.events()),
        &drivers_caught_up,
        shutdown.clone(),
        async |stored| {
            note(&invariants, stream::DRIVER, &stored, see_driver(&invariants, &stored));
            Ok(())
        },
    );
    tokio::try_join!(trips, drivers)?;
    Ok(())
}

fn see_trip(invariants: &SharedInvariants, stored: &Stored) -> Result<(), Malformed> {
    let trip = TripId(stored.envelope()?.subject);
    let recorded = TripDecider::decode(&stored.payload)?;
    invariants.with(|invariants| invariants.see_trip(trip, stored.sequence, recorded));
    Ok(())
}

fn see_driver(invariants: &SharedInvariants, stored: &Stored) -> Result<(), Malformed> {
    let driver = DriverId(stored.envelope()?.subject);
    let event: v1::DriverEvent = contract::decode("driver event", &stored.payload)?;
    invariants.with(|invariants| invariants.see_driver(driver, stored.sequence, &event))
}

fn note(
    invariants: &SharedInvariants,
    stream: &'static str,
    stored: &Stored,
    seen: Result<(), Malformed>,
) {
    if let Err(err) = seen {
        invariants.with(|invariants| invariants.unreadable(stream, stored.sequence, &err));
    }
}
