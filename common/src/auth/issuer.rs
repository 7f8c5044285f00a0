//! The issuer for development and tests. A deployment brings its own and gives the services only
//! the public key.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::extract::State;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{AuthConfig, BadKey, Claims, ISSUER, Role};
use crate::{clock::Clock, http::Json, id::RiderId, problem::Problem};

/// How long a development token holds.
const DEV_TOKEN_TTL: Duration = Duration::from_secs(12 * 60 * 60);

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
    State(issuer): State<Issuer>,
    Json(request): Json<DevTokenRequest>,
) -> Result<Json<DevToken>, Problem> {
    let id = request.id.unwrap_or_else(|| RiderId::fresh().0);
    let token = issuer
        .issue(request.role, id, DEV_TOKEN_TTL)
        .map_err(|err| Problem::unavailable(err.to_string()))?;
    let expires_in_ms = u64::try_from(DEV_TOKEN_TTL.as_millis()).unwrap_or(u64::MAX);
    Ok(Json(DevToken { token, id, expires_in_ms }))
}
