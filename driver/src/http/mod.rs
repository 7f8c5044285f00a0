//! The gateway for drivers' phones. It decodes and names; the rules are in `domain` and in the
//! trip service.

mod duty;
mod earnings;
mod feed;
mod locations;
mod model;
mod offers;
mod problems;
mod trip_seen;
mod trips;

use std::sync::Arc;

use axum::{Router, extract::FromRef};
use common::{
    auth::{Issuer, Verifier},
    event_store::{EventStore, Loaded},
    http::Readiness,
    id::{DriverId, TripId},
    nats::Nats,
    problem::Problem,
    room::Room,
    trips::{Trips, TripsError},
    view::CaughtUp,
};
use tokio_util::sync::CancellationToken;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{model::DriverView, trip_seen::TripSeen};
use crate::{earnings::Earnings, gather::Gatherer, location, record::DriverDecider};

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct Gateway(Arc<Parts>);

/// The parts of a [`Gateway`].
pub(crate) struct Parts {
    pub(crate) nats: Nats,
    pub(crate) drivers: EventStore<DriverDecider>,
    pub(crate) trips: Trips,
    pub(crate) gatherer: Arc<Gatherer>,
    pub(crate) room: Room,
    pub(crate) earnings: Earnings,
    pub(crate) verifier: Verifier,
    pub(crate) shutdown: CancellationToken,
}

impl std::ops::Deref for Gateway {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl FromRef<Gateway> for Verifier {
    fn from_ref(gateway: &Gateway) -> Self {
        gateway.verifier.clone()
    }
}

impl Gateway {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// What the driver's phone is to show.
    async fn view(
        &self,
        driver: DriverId,
        loaded: &Loaded<DriverDecider>,
    ) -> Result<DriverView, Problem> {
        let (trip, heard) = tokio::join!(self.trip_of(loaded), location::heard(&self.nats, driver));
        Ok(DriverView::new(driver, loaded, trip?.as_ref(), heard, self.nats.clock.now()))
    }

    /// The trip of an engaged driver.
    async fn trip_of(&self, loaded: &Loaded<DriverDecider>) -> Result<Option<TripSeen>, Problem> {
        match loaded.state.engaged() {
            Some(engaged) => Ok(self.last_of(engaged.pair.trip).await?),
            None => Ok(None),
        }
    }

    /// The trip as its last event tells it.
    async fn last_of(&self, trip: TripId) -> Result<Option<TripSeen>, TripsError> {
        let last = self.trips.last(trip).await?;
        Ok(last.map(|snapshot| TripSeen::new(trip, snapshot)))
    }
}

/// All routes of the gateway.
pub(crate) fn router(gateway: Gateway, issuer: Option<Issuer>, caught_up: CaughtUp) -> Router {
    let nats = gateway.nats.clone();
    let readiness = Readiness::new(move || {
        if !nats.is_connected() {
            return Err("the broker is not connected".to_owned());
        }
        if !caught_up.is_true() {
            return Err("earnings are still being read".to_owned());
        }
        Ok(())
    });
    let mut routes = OpenApiRouter::new()
        .routes(routes!(duty::set_duty))
        .routes(routes!(duty::state))
        .routes(routes!(locations::store_locations))
        .routes(routes!(feed::events))
        .routes(routes!(offers::accept))
        .routes(routes!(offers::decline))
        .routes(routes!(trips::arrive))
        .routes(routes!(trips::start))
        .routes(routes!(trips::complete))
        .routes(routes!(trips::cancel))
        .routes(routes!(trips::no_show))
        .routes(routes!(earnings::earnings))
        .with_state(gateway);
    if let Some(issuer) = issuer {
        routes = routes.merge(issuer.routes());
    }
    common::http::app("driver", routes, readiness)
}
