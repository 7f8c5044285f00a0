//! Who is calling: EdDSA-signed JWTs with a role, checked on every route. The issuer here is for
//! development; a deployment brings its own and gives the services only the public key.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::{
    extract::{FromRef, FromRequestParts},
    http::{StatusCode, header, request::Parts},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dashmap::DashMap;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    clock::{Clock, Timestamp},
    http::Json,
    id::{DriverId, RiderId},
    problem::Problem,
};

/// `iss` of every token.
const ISSUER: &str = "ride-dispatch";
/// How long a development token holds.
const DEV_TOKEN_TTL: Duration = Duration::from_secs(12 * 60 * 60);
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

/// Makes tokens. For development and tests.
#[derive(Clone)]
pub struct Issuer {
    key: Arc<EncodingKey>,
    pkcs8: Arc<str>,
    public: Arc<str>,
    clock: Clock,
}

impl Issuer {
    /// With a new key.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate(clock: Clock) -> Result<Self, BadKey> {
        let bad = |what| BadKey { what, why: "no key could be made".to_owned() };
        let pkcs8 = Ed25519KeyPair::generate()
            .and_then(|pair| pair.to_pkcs8v1())
            .map_err(|_| bad("issuer key"))?;
        Self::from_pkcs8(pkcs8.as_ref(), clock)
    }

    /// With the configured key, if there is one.
    ///
    /// # Errors
    /// When it is not a key.
    pub fn from_config(config: &AuthConfig, clock: &Clock) -> Result<Option<Self>, BadKey> {
        let Some(text) = &config.dev_issuer_key else { return Ok(None) };
        let raw = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|err| BadKey { what: "issuer key", why: err.to_string() })?;
        Self::from_pkcs8(&raw, clock.clone()).map(Some)
    }

    fn from_pkcs8(pkcs8: &[u8], clock: Clock) -> Result<Self, BadKey> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8)
            .map_err(|err| BadKey { what: "issuer key", why: err.to_string() })?;
        Ok(Self {
            key: Arc::new(EncodingKey::from_ed_der(pkcs8)),
            pkcs8: URL_SAFE_NO_PAD.encode(pkcs8).into(),
            public: URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()).into(),
            clock,
        })
    }

    /// The configuration of services that trust this issuer and offer it for development.
    #[must_use]
    pub fn config(&self) -> AuthConfig {
        AuthConfig {
            auth_public_key: self.public.to_string(),
            dev_issuer_key: Some(self.pkcs8.to_string()),
        }
    }

    /// A token for `id` in this role.
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue(
        &self,
        role: Role,
        id: Uuid,
        ttl: Duration,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let now = self.clock.now();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: id,
            role,
            iat: now.micros() / 1_000_000,
            exp: now.plus(ttl).micros() / 1_000_000,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.key)
    }

    /// `POST /v1/dev/token`, for the services that offer it.
    pub fn routes(self) -> OpenApiRouter {
        OpenApiRouter::new().routes(routes!(dev_token)).with_state(self)
    }
}

/// Who to become.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct DevTokenRequest {
    role: Role,
    /// A new identity when left out.
    id: Option<Uuid>,
}

/// A token and whose it is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct DevToken {
    token: String,
    id: Uuid,
    expires_in_ms: u64,
}

/// Become anybody. Only where a development issuer is configured.
#[utoipa::path(
    post,
    path = "/v1/dev/token",
    tag = "development",
    request_body = DevTokenRequest,
    responses((status = 200, body = DevToken))
)]
async fn dev_token(
    axum::extract::State(issuer): axum::extract::State<Issuer>,
    Json(request): Json<DevTokenRequest>,
) -> Result<Json<DevToken>, Problem> {
    let id = request.id.unwrap_or_else(|| RiderId::fresh().0);
    let token = issuer
        .issue(request.role, id, DEV_TOKEN_TTL)
        .map_err(|err| Problem::unavailable(err.to_string()))?;
    let expires_in_ms = u64::try_from(DEV_TOKEN_TTL.as_millis()).unwrap_or(u64::MAX);
    Ok(Json(DevToken { token, id, expires_in_ms }))
}

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
