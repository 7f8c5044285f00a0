//! The `Idempotency-Key` header, with one rule wherever it may be sent: 1 to 255 visible ASCII
//! characters. A route that needs one takes [`IdempotencyKey`], any other an `Option` of it.

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
};
use utoipa::IntoParams;
use uuid::Uuid;

use crate::{id::CommandId, problem::Problem};

const HEADER: &str = "idempotency-key";
/// Longer keys are refused: they are stored.
const LENGTH_MAX: usize = 255;

/// A caller's name for one intention. Sent twice, it happens once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    key: String,
    /// The method and the path: a key that is used again for something else is another intention.
    scope: String,
}

/// How the header is described where a route needs it.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "a description, never a value")]
pub struct KeyNeeded {
    /// Names one intention: sent twice, it happens once, and is answered as the first time.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    key: String,
}

/// How the header is described where a route takes it.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "a description, never a value")]
pub struct KeyTaken {
    /// Names one intention: sent twice, it happens once. Without it each request is a new one.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    key: Option<String>,
}

impl IdempotencyKey {
    /// The key itself.
    #[must_use]
    pub fn into_string(self) -> String {
        self.key
    }

    /// The command that this request of `caller` stands for; without a key, one of its own.
    #[must_use]
    pub fn command(key: Option<&Self>, caller: Uuid) -> CommandId {
        match key {
            Some(Self { key, scope }) => CommandId::keyed(caller, &format!("{scope} {key}")),
            None => CommandId::fresh(),
        }
    }

    fn read(parts: &Parts) -> Result<Option<Self>, Problem> {
        let mut sent = parts.headers.get_all(HEADER).iter();
        let Some(value) = sent.next() else { return Ok(None) };
        let key = value.to_str().unwrap_or_default();
        let is_key = (1..=LENGTH_MAX).contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_graphic())
            && sent.next().is_none();
        if !is_key {
            let detail = format!("one `Idempotency-Key` of 1 to {LENGTH_MAX} visible characters");
            return Err(Problem::invalid("", detail));
        }
        let scope = format!("{} {}", parts.method, parts.uri.path());
        Ok(Some(Self { key: key.to_owned(), scope }))
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::read(parts)?.ok_or_else(|| {
            Problem::bad_request("idempotency_key_missing", "an `Idempotency-Key` is needed")
        })
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        Self::read(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::IdempotencyKey;
    use axum::http::Request;
    use uuid::Uuid;

    fn read(path: &str, keys: &[&[u8]]) -> Result<Option<IdempotencyKey>, u16> {
        let request = keys
            .iter()
            .fold(Request::post(path), |request, key| request.header("Idempotency-Key", *key));
        let (parts, ()) = request.body(()).unwrap().into_parts();
        IdempotencyKey::read(&parts).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn a_key_has_1_to_255_visible_characters_and_comes_once() {
        assert_eq!(read("/", &[]), Ok(None));
        assert!(read("/", &[b"9f1c-7"]).unwrap().is_some());
        assert!(read("/", &[&[b'k'; 255]]).unwrap().is_some());
        let long = [b'k'; 256];
        for keys in [&[&b""[..]][..], &[&long], &[b"a b"], &["\u{e9}".as_bytes()], &[b"a", b"a"]] {
            assert_eq!(read("/", keys), Err(422), "{keys:?}");
        }
    }

    #[test]
    fn the_same_key_of_the_same_caller_on_the_same_route_is_the_same_command() {
        let command = |path, key: &str, caller| {
            let key = read(path, &[key.as_bytes()]).unwrap();
            IdempotencyKey::command(key.as_ref(), Uuid::from_u128(caller))
        };
        let first = command("/v1/trips/7/cancel", "k", 1);
        assert_eq!(first, command("/v1/trips/7/cancel", "k", 1));
        for other in [
            command("/v1/trips/7/cancel", "l", 1),
            command("/v1/trips/7/rating", "k", 1),
            command("/v1/trips/7/cancel", "k", 2),
        ] {
            assert_ne!(first, other);
        }
        let without = || IdempotencyKey::command(None, Uuid::from_u128(1));
        assert_ne!(without(), without());
    }
}
