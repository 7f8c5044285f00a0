//! The provider over HTTP, and its faults: latency, failures before or after the money is taken, an
//! outage, forgotten keys.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Query, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post, put},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::book::{Book, ChargeRequest, Refusal};

/// Longer would only be an outage.
const LATENCY_MAX_MS: u64 = 60_000;

/// How unreliable the provider is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Added to every answer.
    pub latency_ms: u64,
    /// Share of charges that fail with 500, 0 to 1; half of them after the money was taken.
    pub failure_rate: f64,
    /// Everything answers 503.
    pub outage: bool,
    /// Keys are forgotten at once: the same key charges again.
    pub forget_keys: bool,
}

#[derive(Debug, Clone, Default)]
struct Provider {
    book: Arc<Mutex<Book>>,
    faults: Arc<Mutex<Faults>>,
}

/// The provider's routes, with these faults from the start.
pub fn router(faults: Faults) -> Router {
    let provider = Provider { faults: Arc::new(Mutex::new(faults)), ..Provider::default() };
    Router::new()
        .route("/v1/charges", post(charge).get(list))
        .layer(middleware::from_fn_with_state(provider.clone(), suffer))
        // Below the layer: an outage must be possible to end.
        .route("/v1/faults", put(set_faults).get(show_faults))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(provider)
}

impl Provider {
    fn faults(&self) -> Faults {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_book<T>(&self, use_it: impl FnOnce(&mut Book) -> T) -> T {
        use_it(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn suffer(State(provider): State<Provider>, request: Request, next: Next) -> Response {
    let faults = provider.faults();
    if faults.latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(faults.latency_ms)).await;
    }
    if faults.outage {
        return failed(StatusCode::SERVICE_UNAVAILABLE, "outage");
    }
    next.run(request).await
}

async fn charge(State(provider): State<Provider>, Json(request): Json<ChargeRequest>) -> Response {
    let faults = provider.faults();
    let fails = rand::random::<f64>() < faults.failure_rate;
    if fails && rand::random() {
        return failed(StatusCode::INTERNAL_SERVER_ERROR, "failed_before");
    }
    let charged = provider.with_book(|book| {
        if faults.forget_keys {
            book.forget_keys();
        }
        book.charge(&request)
    });
    if fails {
        return failed(StatusCode::INTERNAL_SERVER_ERROR, "failed_after");
    }
    match charged {
        Ok((charge, true)) => (StatusCode::CREATED, Json(charge)).into_response(),
        Ok((charge, false)) => (StatusCode::OK, Json(charge)).into_response(),
        Err(Refusal::KeyReused) => failed(StatusCode::CONFLICT, "idempotency_key_reused"),
        Err(Refusal::Invalid) => failed(StatusCode::UNPROCESSABLE_ENTITY, "charge_invalid"),
    }
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    reference: Option<String>,
}

async fn list(State(provider): State<Provider>, Query(query): Query<ListQuery>) -> Response {
    let charges = provider.with_book(|book| book.list(query.reference.as_deref()));
    Json(json!({ "charges": charges })).into_response()
}

async fn set_faults(State(provider): State<Provider>, Json(faults): Json<Faults>) -> Response {
    if !(0.0..=1.0).contains(&faults.failure_rate) || faults.latency_ms > LATENCY_MAX_MS {
        return failed(StatusCode::UNPROCESSABLE_ENTITY, "faults_invalid");
    }
    *provider.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    tracing::info!(?faults, "faults");
    Json(faults).into_response()
}

async fn show_faults(State(provider): State<Provider>) -> Json<Faults> {
    Json(provider.faults())
}

fn failed(status: StatusCode, code: &str) -> Response {
    (status, Json(json!({ "error": code }))).into_response()
}
