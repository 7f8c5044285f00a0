//! Where the evidence is: what an audit is told before it reads anything.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use common::{nats::Nats, stream::TRIP};
use rider::store::Place;

use super::evidence::counted_pings;
use crate::{client::Service, demo::Addresses};

/// Where the trips and the ping counts stood when a run began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    trips: u64,
    pings: u64,
}

impl Marks {
    /// Where they stand now.
    ///
    /// # Errors
    /// When the broker or `location` cannot be asked.
    pub async fn now(nats: &Nats) -> anyhow::Result<Self> {
        let trips = nats.admin.get_stream(TRIP).await?.cached_info().state.last_sequence;
        Ok(Self { trips, pings: counted_pings(nats).await? })
    }

    #[cfg(test)]
    pub(super) fn at(trips: u64, pings: u64) -> Self {
        Self { trips, pings }
    }

    /// The last sequence of the trips' stream.
    pub(super) fn trips(self) -> u64 {
        self.trips
    }

    /// Pings that had been counted.
    pub(super) fn pings(self) -> u64 {
        self.pings
    }
}

/// A message that was put into a stream on purpose and that nobody can handle. It must be in the
/// dead-letter queue; nothing else may be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Poison {
    /// The stream that stored it.
    pub stream: String,
    /// Where, as the broker acknowledged it.
    pub sequence: u64,
}

/// Not a stream and a sequence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `STREAM:SEQUENCE`")]
pub struct NotPoison(String);

impl FromStr for Poison {
    type Err = NotPoison;
    fn from_str(text: &str) -> Result<Self, NotPoison> {
        let parse = || {
            let (stream, sequence) = text.split_once(':')?;
            Some(Self { stream: stream.to_owned(), sequence: sequence.parse().ok()? })
        };
        parse().ok_or_else(|| NotPoison(text.to_owned()))
    }
}

/// Gateways of the services that run, all replicas: what they answer is compared with the log.
#[derive(Debug, Clone, Default)]
pub struct Services {
    /// Of `driver`.
    pub driver: Vec<Service>,
    /// Of `rider`.
    pub rider: Vec<Service>,
    /// Of `trip`.
    pub trip: Vec<Service>,
}

/// Where the evidence is. What is left out is not compared.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// What ended before them is another run's.
    pub since: Marks,
    /// What phones were promised: the journals of all that sent pings since the marks.
    pub journals: Vec<PathBuf>,
    /// Whether these journals are of all phones that there are: then what none of them has tried
    /// must not be in the log.
    pub is_whole_city: bool,
    /// The rider service's books.
    pub rider_store: Option<Place>,
    /// The payment provider.
    pub payments: Option<Service>,
    /// Whether `location` runs and is asked what drivers do.
    pub asks_location: bool,
    /// The services that run.
    pub services: Services,
    /// What was made to fail.
    pub poison: Vec<Poison>,
}

impl Sources {
    /// Everything that a deployment has, with this journal.
    #[must_use]
    pub fn of_deployment(
        since: Marks,
        journal: &Path,
        rider_store: &Path,
        addresses: &Addresses,
    ) -> Self {
        Self {
            since,
            journals: vec![journal.to_owned()],
            is_whole_city: false,
            rider_store: Some(Place::File(rider_store.to_owned())),
            payments: Some(addresses.payments.clone()),
            asks_location: true,
            services: Services {
                driver: vec![addresses.driver.clone()],
                rider: vec![addresses.rider.clone()],
                trip: vec![addresses.trip.clone()],
            },
            poison: Vec::new(),
        }
    }
}
