//! The API for operations: what is going on, what went wrong, and the few things that only a person
//! may decide. Every route wants a token of the role `ops`.

mod dead_letters;
mod live;
mod model;
mod problems;
mod trips;

use std::path::PathBuf;

use axum::{
    Router,
    extract::{FromRef, State},
};
use common::{
    auth::{AsOperations, AuthConfig, BadKey, Issuer, Verifier},
    event_store::EventStore,
    http::{Json, Readiness, app},
    nats::Nats,
};
use tokio_util::sync::CancellationToken;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    dispatch::{self, Inspector},
    invariants::{SharedInvariants, Standing},
    record::TripDecider,
    replays::Replays,
};

/// What the handlers work with.
#[derive(Clone)]
struct Gateway {
    nats: Nats,
    store: EventStore<TripDecider>,
    invariants: SharedInvariants,
    verifier: Verifier,
    replays: Replays,
    archive: Option<PathBuf>,
    shutdown: CancellationToken,
}

/// What the gateway needs.
pub(crate) struct Parts {
    pub(crate) nats: Nats,
    pub(crate) store: EventStore<TripDecider>,
    pub(crate) invariants: SharedInvariants,
    pub(crate) inspector: Inspector,
    pub(crate) replays: Replays,
    pub(crate) archive: Option<PathBuf>,
    pub(crate) shutdown: CancellationToken,
}

impl FromRef<Gateway> for Verifier {
    fn from_ref(gateway: &Gateway) -> Self {
        gateway.verifier.clone()
    }
}

/// All routes of the gateway.
///
/// # Errors
/// When a configured key is not one.
pub(crate) fn router(auth: &AuthConfig, parts: Parts) -> Result<Router, BadKey> {
    let Parts { nats, store, invariants, inspector, replays, archive, shutdown } = parts;
    let verifier = Verifier::new(auth, nats.clock.clone())?;
    let issuer = Issuer::from_config(auth, &nats.clock)?;
    let readiness = {
        let nats = nats.clone();
        Readiness::new(move || {
            if nats.is_connected() { Ok(()) } else { Err("no connection to the broker".into()) }
        })
    };
    let gateway =
        Gateway { nats, store, invariants, verifier: verifier.clone(), replays, archive, shutdown };
    let mut routes = OpenApiRouter::new()
        .routes(routes!(trips::list))
        .routes(routes!(trips::timeline))
        .routes(routes!(trips::close))
        .routes(routes!(trips::unlock_pin))
        .routes(routes!(live::stream))
        .routes(routes!(dead_letters::browse::list))
        .routes(routes!(dead_letters::runs::list))
        .routes(routes!(dead_letters::runs::show))
        .routes(routes!(dead_letters::orders::replay_many))
        .routes(routes!(dead_letters::orders::discard_many))
        .routes(routes!(dead_letters::browse::show))
        .routes(routes!(dead_letters::orders::replay_one))
        .routes(routes!(dead_letters::orders::discard_one))
        .routes(routes!(invariants_standing))
        .with_state(gateway)
        .merge(dispatch::http::routes(inspector, verifier));
    if let Some(issuer) = issuer {
        routes = routes.merge(issuer.routes());
    }
    Ok(app("trip", routes, readiness))
}

/// Whether the promises hold, checked against every event of the log.
#[utoipa::path(
    get,
    path = "/v1/ops/invariants",
    tag = "operations",
    responses((status = 200, body = Standing))
)]
async fn invariants_standing(_: AsOperations, State(gateway): State<Gateway>) -> Json<Standing> {
    Json(gateway.invariants.with(|invariants| invariants.standing()))
}
