//! The gateway: health, readiness, and the roads to draw a map with.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use common::{
    http::{self, Readiness},
    nats::Nats,
    view::CaughtUp,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{city::City, roads::RoadGraph};

/// Serves until shutdown.
pub(crate) async fn run(
    listener: TcpListener,
    nats: Nats,
    city: Arc<City>,
    drivers: CaughtUp,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let routes =
        OpenApiRouter::new().routes(routes!(roads)).with_state(Roads(drawing(&city.roads)?));
    let broker = nats.clone();
    let readiness = Readiness::new(move || missing(&nats, &city, &drivers));
    let app = http::once_prepared(http::app("location", routes, readiness), broker);
    http::serve(listener, app, shutdown).await
}

fn missing(nats: &Nats, city: &City, drivers: &CaughtUp) -> Result<(), String> {
    if !nats.is_connected() {
        Err("the broker is away".to_owned())
    } else if !city.is_replayed() {
        Err("reading back the last positions".to_owned())
    } else if !drivers.is_true() {
        Err("reading what drivers do".to_owned())
    } else if !city.is_answering() {
        Err("not taking questions yet".to_owned())
    } else {
        Ok(())
    }
}

/// What the routes share.
#[derive(Debug, Clone)]
struct Roads(Bytes);

/// The drawing as JSON, made once: it does not change while the service runs.
fn drawing(roads: &RoadGraph) -> anyhow::Result<Bytes> {
    Ok(serde_json::to_vec(&roads.drawing())?.into())
}

/// The city's roads as lines for a map.
///
/// Each line is `[lat, lng, Δlat, Δlng, …]` in whole steps; `degrees = steps / steps_per_degree`.
/// Show `attribution` on every map that uses them.
#[utoipa::path(
    get,
    path = "/v1/roads",
    responses((status = 200, body = RoadsBody, description = "all roads, the narrowest first"))
)]
async fn roads(State(Roads(drawing)): State<Roads>) -> Response {
    // A road file changes with a deployment, not with the hour.
    let headers =
        [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "max-age=3600")];
    (headers, drawing).into_response()
}

/// Describes [`crate::roads::Drawing`] in the document.
#[derive(utoipa::ToSchema)]
#[schema(as = Roads)]
#[expect(dead_code, reason = "a schema, never a value: the drawing is served as bytes")]
struct RoadsBody {
    /// The city.
    name: String,
    /// Whose data it is.
    attribution: String,
    /// South, west, north, east, in degrees.
    bounds: BoundsBody,
    /// Steps of the lines in a degree.
    steps_per_degree: f64,
    /// By class.
    roads: Vec<LayerBody>,
}

#[derive(utoipa::ToSchema)]
#[schema(as = Bounds)]
#[expect(dead_code, reason = "a schema, never a value")]
struct BoundsBody {
    south: f64,
    west: f64,
    north: f64,
    east: f64,
}

#[derive(utoipa::ToSchema)]
#[schema(as = RoadLayer)]
#[expect(dead_code, reason = "a schema, never a value")]
struct LayerBody {
    /// `motorway` to `service`.
    class: String,
    lines: Vec<Vec<i32>>,
}
