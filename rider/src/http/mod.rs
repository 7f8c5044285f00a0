//! The gateway for riders: decodes, names and answers. What it decides is in `domain`, what it
//! promises is in the store before it is answered.

mod endings;
mod events;
mod feed;
mod model;
mod quotes;
mod reconciliation;
mod requests;
mod trips;

use std::sync::Arc;

use axum::{Router, extract::FromRef};
use common::{
    auth::{Issuer, Verifier},
    clock::Timestamp,
    http::Readiness,
    id::{CommandId, DriverId, RiderId, TripId},
    nats::Nats,
    problem::Problem,
    room::Room,
    trips::Trips,
    view::CaughtUp,
};
use tokio_util::sync::CancellationToken;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use self::model::{DriverLocation, TripResource};
use crate::{
    backlog::Backlog,
    domain::{tariff::Tariff, trip::Trip},
    fare::FareSigner,
    location::Location,
    relay::Bell,
    store::{Store, StoreError, ledger, ledger::ChargeLine, trips as rows},
};

/// What `/readyz` says while the store cannot be written.
const STORE_FAILS: &str = "the store cannot be written";

/// What the handlers work with; cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateway {
    /// The broker.
    pub nats: Nats,
    /// Requests, outbox, ledger and the view of trips.
    pub store: Store,
    /// Tells the relay about new rows.
    pub bell: Bell,
    /// How much waits in the outbox.
    pub backlog: Backlog,
    /// Who may call.
    pub verifier: Verifier,
    /// Signs quotes.
    pub fares: Arc<FareSigner>,
    /// What rides cost.
    pub tariff: Arc<Tariff>,
    /// Trips, as the log has them, and commands to them.
    pub trips: Trips,
    /// Questions to `location`.
    pub location: Location,
    /// How full the broker's store is.
    pub room: Room,
    /// Ends event streams.
    pub shutdown: CancellationToken,
}

impl FromRef<Gateway> for Verifier {
    fn from_ref(gateway: &Gateway) -> Self {
        gateway.verifier.clone()
    }
}

/// All routes of the gateway.
pub(crate) fn router(gateway: Gateway, issuer: Option<Issuer>, caught_up: CaughtUp) -> Router {
    let readiness = readiness(gateway.nats.clone(), gateway.store.clone(), caught_up);
    let mut routes = OpenApiRouter::new()
        .routes(routes!(quotes::products))
        .routes(routes!(quotes::quote))
        .routes(routes!(requests::request_trip, trips::list))
        .routes(routes!(trips::get))
        .routes(routes!(events::follow))
        .routes(routes!(endings::preview_cancellation))
        .routes(routes!(endings::cancel))
        .routes(routes!(endings::receipt))
        .routes(routes!(endings::rate))
        .routes(routes!(reconciliation::last, reconciliation::order))
        .with_state(gateway);
    if let Some(issuer) = issuer {
        routes = routes.merge(issuer.routes());
    }
    common::http::app("rider", routes, readiness)
}

/// Ready to take requests, even without the broker: they wait in the outbox. Not ready while the
/// store cannot be written, or the view still reads what happened before.
fn readiness(nats: Nats, store: Store, caught_up: CaughtUp) -> Readiness {
    Readiness::new(move || {
        if store.is_failing() {
            Err(STORE_FAILS.into())
        } else if nats.is_connected() && !caught_up.is_true() {
            Err("the view of trips is catching up".into())
        } else {
            Ok(())
        }
    })
}

impl From<StoreError> for Problem {
    fn from(err: StoreError) -> Self {
        match err {
            StoreError::Overloaded => Self::new(
                axum::http::StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "too many requests wait already",
            )
            .retry_after(std::time::Duration::from_secs(1)),
            StoreError::Closed => Self::unavailable("the service is stopping"),
            StoreError::Failed(_) | StoreError::Corrupt(_) => {
                tracing::error!(error = format!("{:#}", anyhow::Error::from(err)), "store");
                Self::unavailable("the store failed")
            }
        }
    }
}

impl Gateway {
    fn now(&self) -> Timestamp {
        self.nats.clock.now()
    }

    /// The caller's trip and its charge. What belongs to others does not exist.
    async fn trip(
        &self,
        rider: RiderId,
        trip: TripId,
    ) -> Result<(Trip, Option<ChargeLine>), Problem> {
        let found = self
            .store
            .read::<_, StoreError, _>(move |tx| {
                let Some(trip) = rows::find(tx, rider, trip)? else { return Ok(None) };
                let charge = ledger::charge_of(tx, trip.ride.trip)?;
                Ok(Some((trip, charge)))
            })
            .await?;
        found.ok_or_else(|| Problem::not_found("trip_not_found", "there is no such trip"))
    }

    /// Where the driver of a trip under way is; nothing when that is not known in time.
    async fn driver_location(&self, trip: &Trip) -> Option<DriverLocation> {
        let driver: DriverId = model::driver_under_way(trip)?;
        match self.location.driver(driver).await {
            Ok(reply) => DriverLocation::new(&reply, self.now()),
            Err(err) => {
                tracing::debug!(driver.id = %driver, error = %err, "no position");
                None
            }
        }
    }

    async fn resource(&self, trip: &Trip, charge: Option<&ChargeLine>) -> TripResource {
        let location = self.driver_location(trip).await;
        TripResource::new(trip, charge, location, self.now())
    }
}

/// A new name, for what is made here.
fn fresh() -> Uuid {
    CommandId::fresh().0
}
