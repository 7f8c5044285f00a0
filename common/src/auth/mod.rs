//! Who is calling: EdDSA-signed JWTs with a role, checked on every route.

mod issuer;

use std::sync::Arc;

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{StatusCode, header, request::Parts},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dashmap::DashMap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::{Clock, Timestamp},
    id::{DriverId, RiderId},
    problem::Problem,
};

pub use issuer::Issuer;

/// `iss` of every token.
const ISSUER: &str = "ride-dispatch";
/// Verified tokens that are remembered: a verification costs 45 µs, a look-up less than one.
const VERIFIED_MAX: usize = 200_000;

/// Which keys a service knows.
#[derive(Debug, Clone, clap::Args)]
pub struct AuthConfig {
    /// The Ed25519 public key (32 bytes, base64url) that tokens are verified with.
    #[arg(long, env = "AUTH_PUBLIC_KEY")]
    pub auth_public_key: String,
    /// An Ed25519 key (PKCS#8, base64url). Only for development: it opens `POST /v1/dev/token`,
    /// where anyone may become anybody.
    #[arg(long, env = "DEV_ISSUER_KEY", hide_env_values = true)]
    pub dev_issuer_key: Option<String>,
}

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the {what} is not a usable Ed25519 key: {why}")]
pub struct BadKey {
    what: &'static str,
    why: String,
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Asks for rides.
    Rider,
    /// Drives.
    Driver,
    /// Runs the system.
    Ops,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: Uuid,
    role: Role,
    iat: i64,
    exp: i64,
}

/// A caller whose token was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Whose token it is.
    pub id: Uuid,
    /// What it allows.
    pub role: Role,
    expires_at: Timestamp,
}

/// Verifies tokens, and remembers those that it has verified.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    key: DecodingKey,
    validation: Validation,
    clock: Clock,
    verified: DashMap<Box<str>, Caller>,
}

impl Verifier {
    /// With the configured public key; expiry is judged by this clock.
    ///
    /// # Errors
    /// When the key is not one.
    pub fn new(config: &AuthConfig, clock: Clock) -> Result<Self, BadKey> {
        let bad = |why: String| BadKey { what: "public key", why };
        let raw =
            URL_SAFE_NO_PAD.decode(&config.auth_public_key).map_err(|err| bad(err.to_string()))?;
        if raw.len() != 32 {
            return Err(bad(format!("{} bytes instead of 32", raw.len())));
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        // Expiry is judged here, by broker time: a token outlives its verification in the cache.
        validation.validate_exp = false;
        Ok(Self(Arc::new(Inner {
            key: DecodingKey::from_ed_der(&raw),
            validation,
            clock,
            verified: DashMap::new(),
        })))
    }

    /// Who sent this token.
    ///
    /// # Errors
    /// 401 when nobody known did, or too long ago.
    pub fn verify(&self, token: &str) -> Result<Caller, Problem> {
        let known = self.0.verified.get(token).map(|caller| *caller);
        let caller = match known {
            Some(caller) => caller,
            None => self.decode(token)?,
        };
        if caller.expires_at <= self.0.clock.now() {
            self.0.verified.remove(token);
            return Err(Problem::unauthorized("token_expired", "the token has expired"));
        }
        if known.is_none() {
            if self.0.verified.len() >= VERIFIED_MAX {
                self.0.verified.clear();
            }
            self.0.verified.insert(token.into(), caller);
        }
        Ok(caller)
    }

    fn decode(&self, token: &str) -> Result<Caller, Problem> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.0.key, &self.0.validation)
            .map_err(|_| Problem::unauthorized("unauthenticated", "the token cannot be verified"))?
            .claims;
        let expires_at = Timestamp::from_micros(claims.exp.saturating_mul(1_000_000));
        Ok(Caller { id: claims.sub, role: claims.role, expires_at })
    }

    fn caller(&self, parts: &Parts, role: Role) -> Result<Caller, Problem> {
        let token = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(|| Problem::unauthorized("unauthenticated", "a bearer token is needed"))?;
        let caller = self.verify(token)?;
        if caller.role == role {
            Ok(caller)
        } else {
            Err(Problem::new(StatusCode::FORBIDDEN, "wrong_role", "the token is for another role"))
        }
    }
}

macro_rules! caller {
    ($(#[$doc:meta])* $name:ident, $id:ty, $role:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name(pub $id);

        impl<S> FromRequestParts<S> for $name
        where
            S: Send + Sync,
            Verifier: FromRef<S>,
        {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
                let caller = Verifier::from_ref(state).caller(parts, $role)?;
                Ok(Self(<$id>::from(caller.id)))
            }
        }
    };
}

caller!(
    /// A rider is calling.
    AsRider,
    RiderId,
    Role::Rider
);
caller!(
    /// A driver is calling.
    AsDriver,
    DriverId,
    Role::Driver
);
caller!(
    /// Somebody of operations is calling.
    AsOperations,
    Uuid,
    Role::Ops
);

#[cfg(test)]
mod tests {
    use super::{AuthConfig, Issuer, Role, Verifier};
    use crate::clock::Clock;
    use std::time::Duration;
    use uuid::Uuid;

    fn issuer() -> Issuer {
        Issuer::generate(Clock::new()).unwrap()
    }

    #[test]
    fn a_token_tells_who_is_calling_and_is_remembered() {
        let issuer = issuer();
        let verifier = Verifier::new(&issuer.config(), Clock::new()).unwrap();
        let id = Uuid::from_u128(9);
        let token = issuer.issue(Role::Driver, id, Duration::from_secs(60)).unwrap();
        for _ in 0..2 {
            let caller = verifier.verify(&token).unwrap();
            assert_eq!((caller.id, caller.role), (id, Role::Driver));
        }
    }

    #[test]
    fn an_expired_token_is_refused() {
        let issuer = issuer();
        let verifier = Verifier::new(&issuer.config(), Clock::new()).unwrap();
        let token = issuer.issue(Role::Rider, Uuid::nil(), Duration::ZERO).unwrap();
        assert_eq!(verifier.verify(&token).unwrap_err().code(), "token_expired");
    }

    #[test]
    fn another_issuers_token_is_refused() {
        let verifier = Verifier::new(&issuer().config(), Clock::new()).unwrap();
        let token = issuer().issue(Role::Ops, Uuid::nil(), Duration::from_secs(60)).unwrap();
        assert_eq!(verifier.verify(&token).unwrap_err().code(), "unauthenticated");
        assert_eq!(verifier.verify("rubbish").unwrap_err().code(), "unauthenticated");
    }

    #[test]
    fn a_short_key_is_no_key() {
        let config = AuthConfig { auth_public_key: "AAAA".into(), dev_issuer_key: None };
        assert!(Verifier::new(&config, Clock::new()).is_err());
    }
}
