//! Under which id a phone's command is carried out: its own key, if it sent one, so that a
//! repetition is the same command; else a fresh one.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use common::{
    http::IDEMPOTENCY_KEY,
    id::{CommandId, DriverId},
};

/// Longer keys are cut off here: what differs only behind is the same.
const KEY_CHARS_MAX: usize = 255;

/// The request's `Idempotency-Key`, if any, in the scope of its method and path: a key that is
/// used again for something else is another command.
#[derive(Debug, Clone)]
pub(super) struct CommandKey(Option<String>);

impl<S: Sync> FromRequestParts<S> for CommandKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let path = parts.uri.path();
        Ok(Self(sent(&parts.headers).map(|key| format!("{} {path} {key}", parts.method))))
    }
}

fn sent(headers: &HeaderMap) -> Option<String> {
    let key = headers.get(IDEMPOTENCY_KEY)?.to_str().ok()?.trim();
    (!key.is_empty()).then(|| key.chars().take(KEY_CHARS_MAX).collect())
}

impl CommandKey {
    /// The id of this driver's command.
    pub(super) fn command(&self, driver: DriverId) -> CommandId {
        match &self.0 {
            Some(key) => CommandId::keyed(driver.0, key),
            None => CommandId::fresh(),
        }
    }
}
