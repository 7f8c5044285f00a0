//! What the people of one city share, and what they see of each other without a phone.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use super::streets::Streets;
use crate::client::{PhoneContext, Service};

/// One city of one run.
#[derive(Debug)]
pub(super) struct Town {
    pub(super) streets: Streets,
    pub(super) context: PhoneContext,
    pub(super) driver_service: Service,
    pub(super) rider_service: Service,
    /// All identities of this run are derived from it.
    pub(super) run: Uuid,
    pub(super) seed: u64,
    /// When the cars set off.
    pub(super) epoch: Instant,
    pub(super) time_scale: f64,
    pub(super) ping_every: Duration,
    pub(super) kerb: Kerb,
}

impl Town {
    /// How long something takes here that takes people so long in life: walking to the car, not
    /// thinking, because the services' timers run in real time.
    pub(super) fn scaled(&self, life: Duration) -> Duration {
        life.div_f64(self.time_scale.max(0.1))
    }
}

/// Where riders meet their cars: what is said aloud, and when a ride was asked for.
#[derive(Debug, Default)]
pub(super) struct Kerb {
    pins: Mutex<HashMap<Uuid, String>>,
    asked: Mutex<HashMap<Uuid, Instant>>,
}

impl Kerb {
    /// The rider stands at the car and says the PIN.
    pub(super) fn tell_pin(&self, trip: Uuid, pin: &str) {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.insert(trip, pin.to_owned());
    }

    /// The PIN, once the rider is there.
    pub(super) fn hear_pin(&self, trip: Uuid) -> Option<String> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner).get(&trip).cloned()
    }

    /// The rider pressed the button then.
    pub(super) fn asked_at(&self, trip: Uuid, at: Instant) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(trip, at);
    }

    /// When the rider pressed the button; told once, so that only the first offer is measured.
    pub(super) fn take_asked(&self, trip: Uuid) -> Option<Instant> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&trip)
    }

    /// The ride is over for its rider.
    pub(super) fn leave(&self, trip: Uuid) {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner).remove(&trip);
        self.take_asked(trip);
    }
}
