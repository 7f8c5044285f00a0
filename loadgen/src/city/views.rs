//! What the gateways show a phone, as far as these phones look.

use std::time::Duration;

use common::{clock::machine_time, geo::Point};
use serde::Deserialize;
use uuid::Uuid;

use crate::journal;

/// `GET /v1/driver/state` and the driver's events.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct DriverView {
    pub(super) version: u64,
    pub(super) duty: Duty,
    pub(super) offer: Option<Offer>,
    pub(super) trip: Option<DriverTrip>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Duty {
    Offline,
    Online,
    Finishing,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Offer {
    pub(super) offer_id: Uuid,
    pub(super) trip_id: Uuid,
    pub(super) expires_in_ms: u64,
    pub(super) pickup_eta_in_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct DriverTrip {
    pub(super) trip_id: Uuid,
    pub(super) status: Status,
    #[serde(default)]
    pub(super) version: u64,
    #[serde(default)]
    pub(super) pickup: Option<Point>,
    #[serde(default)]
    pub(super) dropoff: Option<Point>,
    #[serde(default)]
    pub(super) no_show_allowed_in_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Confirming,
    Matching,
    Assigned,
    Arrived,
    InProgress,
    Completed,
    Cancelled,
    Unfulfilled,
}

/// A rider's trip.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Trip {
    pub(super) trip_id: Uuid,
    pub(super) status: Status,
    pub(super) version: u64,
    #[serde(default)]
    pub(super) pin: Option<String>,
    #[serde(default)]
    pub(super) cancelled: Option<Cancelled>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Cancelled {
    pub(super) by: String,
}

/// `event: trip`
#[derive(Debug, Deserialize)]
pub(super) struct TripChange {
    pub(super) trip: Trip,
}

/// `event: state`
#[derive(Debug, Deserialize)]
pub(super) struct StateChange {
    pub(super) state: DriverView,
}

#[derive(Debug, Deserialize)]
pub(super) struct Quotes {
    pub(super) quotes: Vec<Quote>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Quote {
    pub(super) fare_id: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Receipt {
    pub(super) charged: bool,
    total: Money,
    provider_reference: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Money {
    amount_minor: i64,
    currency: String,
}

impl Receipt {
    /// As the rider's journal keeps it.
    pub(super) fn noted(self, rider: Uuid, trip: Uuid) -> journal::Entry {
        journal::Entry::Receipt(journal::Receipt {
            at: machine_time(),
            id: rider,
            trip,
            amount_minor: self.total.amount_minor,
            currency: self.total.currency,
            provider_reference: self.provider_reference,
        })
    }
}

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
