//! Puts a gateway's routes together with what all of them have, and serves them until shutdown.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ::metrics::SharedString;
use anyhow::Context as _;
use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
    serve::ListenerExt as _,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;
use uuid::Uuid;

use crate::{
    envelope::header::TRACEPARENT,
    metrics,
    nats::Nats,
    problem::{self, Problem},
};

/// The largest request body that any route takes.
const BODY_MAX: usize = 64 * 1024;
/// No request waits longer for the head of its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Open connections (an event stream, a slow phone) get this long once the service stops.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How often what was measured is folded, for nobody may ask for it.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// What answers without the broker.
const ALWAYS_OPEN: [&str; 2] = ["/healthz", "/metrics"];
/// The route of requests that no route takes: their paths must not become labels.
const NO_ROUTE: &str = "none";

/// Answers `/readyz`: `Err` says what is still missing.
#[derive(Clone)]
pub struct Readiness(Arc<dyn Fn() -> Result<(), String> + Send + Sync>);

impl Readiness {
    /// Ready when this says so.
    pub fn new(check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }
}

/// A gateway: its own routes and what every gateway has. The service's name is the document's title
/// and the metrics' label.
pub fn app(service: &'static str, routes: OpenApiRouter, readiness: Readiness) -> Router {
    let (router, mut document) = routes.split_for_parts();
    service.clone_into(&mut document.info.title);
    router
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(move || ready(readiness)))
        .route("/metrics", get(measured))
        .fallback(|| async { Problem::not_found("not_found", "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path does not answer that method",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_WITHIN))
        .layer(CatchPanicLayer::custom(|_| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "this is a defect")
                .into_response()
        }))
        .layer(middleware::from_fn(trace))
        .layer(middleware::from_fn(move |request, next| measure(service, request, next)))
}

/// The same gateway, which takes nothing before the broker was there once: what it would decide needs
/// broker time, and whoever asks must not hear that nothing is known of them. It says that it lives.
pub fn once_prepared(app: Router, nats: Nats) -> Router {
    app.layer(middleware::from_fn(move |request: Request, next: Next| {
        let is_open = nats.is_prepared() || ALWAYS_OPEN.contains(&request.uri().path());
        async move {
            if is_open {
                next.run(request).await
            } else {
                Problem::unavailable("the broker is away").into_response()
            }
        }
    }))
}

async fn measured() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::render()).into_response()
}

/// Counts the answer under its route. Paths are no labels: they have ids in them.
async fn measure(service: &'static str, request: Request, next: Next) -> Response {
    let route: SharedString = match request.extensions().get::<MatchedPath>() {
        Some(path) => path.as_str().to_owned().into(),
        None => NO_ROUTE.into(),
    };
    let asked = Instant::now();
    let response = next.run(request).await;
    let taken = asked.elapsed();
    let status: SharedString = response.status().as_str().to_owned().into();
    let by_route = [("service", service.into()), ("route", route)];
    metrics::HTTP_SECONDS.with(&by_route).record(taken);
    let [service, route] = by_route;
    metrics::HTTP_REQUESTS.with(&[service, route, ("status", status)]).increment(1);
    response
}

async fn ready(readiness: Readiness) -> Response {
    match (readiness.0)() {
        Ok(()) => "ready".into_response(),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing).into_response(),
    }
}

/// Gives the request a trace: the caller's, if it sent one (W3C trace context), else a new one.
async fn trace(request: Request, next: Next) -> Response {
    let sent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let trace_id = match sent.and_then(|value| value.split('-').nth(1)) {
        Some(id) if id.len() == 32 => id.to_owned(),
        _ => fresh_trace(),
    };
    problem::traced(trace_id, next.run(request)).await
}

#[allow(clippy::disallowed_methods, reason = "a trace begins at the gateway")]
fn fresh_trace() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Listens at a service's address.
///
/// # Errors
/// When somebody else does.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Serves until shutdown, then lets open requests end within `DRAIN_MAX`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let listener = listener.tap_io(|stream| {
        if let Err(err) = stream.set_nodelay(true) {
            tracing::debug!(error = %err, "no TCP_NODELAY");
        }
    });
    let serving =
        axum::serve(listener, app).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    let upkeep = async {
        let mut every = tokio::time::interval(UPKEEP_EVERY);
        loop {
            every.tick().await;
            metrics::upkeep();
        }
    };
    tokio::select! {
        served = async { serving.await } => Ok(served?),
        () = upkeep => Ok(()),
        () = drained => {
            tracing::warn!("connections still open were closed");
            Ok(())
        }
    }
}
