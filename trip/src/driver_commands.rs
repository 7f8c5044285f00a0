//! What trips tell drivers. The same cause gives the same command, so that a reaction that runs
//! twice says it once.

use std::time::Duration;

use common::{
    consumer::Failure,
    contract::v1::{self, driver_command::Kind},
    driver_commands::{self, Outgoing},
    envelope::Envelope,
    event_store::Cause,
    id::{CommandId, DriverId, OfferId, TripId},
    log::LogPort,
};

use crate::domain::Quote;

/// An offer that its driver's service did not take up within this time is gone: nobody sees a stale
/// one. With the 15 s that the phone shows it, it ends before the trip's lease of 30 s does.
const OFFER_TTL: Duration = Duration::from_secs(5);

/// An offer as the driver gets it. No address: that comes with the assignment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) driver: DriverId,
    pub(crate) offer: OfferId,
    pub(crate) pickup_eta_s: u32,
    pub(crate) pickup_distance_m: u32,
    pub(crate) quote: &'a Quote,
}

/// Sends commands to drivers.
#[derive(Debug, Clone)]
pub(crate) struct DriverCommands {
    port: LogPort,
}

/// What makes the trip speak.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Because<'a> {
    pub(crate) trip: TripId,
    pub(crate) event: &'a Envelope,
}

impl DriverCommands {
    pub(crate) fn new(port: &LogPort) -> Self {
        Self { port: port.clone() }
    }

    /// Proposes the trip to a driver.
    pub(crate) async fn offer(
        &self,
        because: Because<'_>,
        offer: Offer<'_>,
    ) -> Result<(), Failure> {
        let kind = Kind::Offer(v1::OfferTrip {
            trip_id: because.trip.to_vec(),
            offer_id: offer.offer.to_vec(),
            terms: Some(v1::OfferTerms {
                pickup_eta_s: offer.pickup_eta_s,
                pickup_distance_m: offer.pickup_distance_m,
                fare: Some(offer.quote.fare.into()),
                trip_distance_m: offer.quote.distance_m,
                trip_duration_s: offer.quote.duration_s,
            }),
        });
        self.send(because, offer.driver, "offer", kind, Some(OFFER_TTL)).await
    }

    /// Sets a driver free from an offer of the trip.
    pub(crate) async fn release(
        &self,
        because: Because<'_>,
        driver: DriverId,
        offer: OfferId,
        why: &str,
    ) -> Result<(), Failure> {
        let kind = Kind::Release(v1::Release {
            trip_id: because.trip.to_vec(),
            offer_id: offer.to_vec(),
            why: why.to_owned(),
        });
        self.send(because, driver, "release", kind, None).await
    }

    async fn send(
        &self,
        because: Because<'_>,
        driver: DriverId,
        step: &str,
        kind: Kind,
        ttl: Option<Duration>,
    ) -> Result<(), Failure> {
        let outgoing = Outgoing {
            driver,
            id: CommandId::step(because.event.id, step),
            kind,
            source: "trip",
            correlation: Some(because.trip.0),
            cause: Cause::from(because.event),
            ttl,
        };
        driver_commands::send(&self.port, outgoing)
            .await
            .map_err(|err| Failure::Transient(err.into()))
    }
}
