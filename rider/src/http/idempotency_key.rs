//! The `Idempotency-Key` header, where a route needs it and where it may be sent.

use std::convert::Infallible;

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
};
use common::{http::IDEMPOTENCY_KEY, problem::Problem};

/// Longer keys are refused: they are stored.
const LENGTH_MAX: usize = 255;

/// One intention of a phone. Sent twice, it happens once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdempotencyKey(pub(super) String);

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let key = parts.headers.get(IDEMPOTENCY_KEY).and_then(|value| value.to_str().ok());
        match key.map(str::trim) {
            Some(key) if !key.is_empty() && key.len() <= LENGTH_MAX => Ok(Self(key.to_owned())),
            _ => Err(Problem::bad_request(
                "idempotency_key_missing",
                format!("an `Idempotency-Key` of 1 to {LENGTH_MAX} visible characters is needed"),
            )),
        }
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Infallible> {
        Ok(<Self as FromRequestParts<S>>::from_request_parts(parts, state).await.ok())
    }
}
