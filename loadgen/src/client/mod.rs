//! HTTP as a phone speaks it: one request, one answer or none. Patience is in `phone`.

mod command;
mod line;
mod phone;
mod sse;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Uri,
    body::Incoming,
    header::{self, HeaderValue},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use command::{Command, Signal};
pub use line::Line;
pub use phone::{GaveUp, Phone, PhoneContext, Role, fetch_token};
pub use sse::{Feed, FeedEnded, SseEvent, SseParser};

/// An answer that takes longer than this does not come any more.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// No answer of a gateway is larger.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Idle connections are kept so long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: &str = "idempotent-replayed";

/// Where a service listens: `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    authority: String,
}

/// Not the address of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not of the form `http://host:port`")]
pub struct NotAService(String);

impl FromStr for Service {
    type Err = NotAService;
    fn from_str(text: &str) -> Result<Self, NotAService> {
        let uri: Uri = text.parse().map_err(|_| NotAService(text.to_owned()))?;
        let is_plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/");
        match uri.authority() {
            Some(authority) if is_plain && authority.port().is_some() => {
                Ok(Self { authority: authority.to_string() })
            }
            _ => Err(NotAService(text.to_owned())),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

/// One request, without the caller's identity.
#[derive(Debug, Clone)]
pub struct Ask {
    /// `GET`, `POST` or `PUT`.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The `Idempotency-Key`.
    pub key: Option<String>,
    /// JSON, or nothing.
    pub body: Bytes,
}

impl Ask {
    /// A question.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), key: None, body: Bytes::new() }
    }

    fn request(
        &self,
        uri: String,
        bearer: Option<&HeaderValue>,
    ) -> Result<Request<Full<Bytes>>, NoAnswer> {
        let mut request = Request::builder().method(self.method.clone()).uri(uri);
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, bearer.clone());
        }
        if !self.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = &self.key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        request.body(Full::new(self.body.clone())).map_err(|err| NoAnswer::NotSent(err.to_string()))
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON, as a rule.
    pub body: Bytes,
    /// The gateway answered this before.
    pub replayed: bool,
    /// Not to be asked again before.
    pub retry_after: Option<Duration>,
}

impl Answer {
    async fn read(response: hyper::Response<Incoming>) -> Result<Self, NoAnswer> {
        let (head, body) = response.into_parts();
        let seconds = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = seconds.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        Ok(Self {
            status: head.status.as_u16(),
            body: body.map_err(|err| NoAnswer::Unknown(err.to_string()))?.to_bytes(),
            replayed: head.headers.contains_key(REPLAYED),
            retry_after,
        })
    }

    /// 2xx: what was asked for is a fact.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body, as far as it is JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as what it should be.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.body)
    }

    /// The problem's code; empty if there is none.
    #[must_use]
    pub fn code(&self) -> String {
        self.json().get("code").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Whether asking again, later, may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        let says_so = || self.json().get("retryable").and_then(Value::as_bool) == Some(true);
        matches!(self.status, 429 | 502..=504) || (!self.is_success() && says_so())
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The request surely did not arrive.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have arrived and may have been done.
    #[error("no answer: {0}")]
    Unknown(String),
}

/// Keep-alive connections that phones share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpClient(Client<HttpConnector, Full<Bytes>>);

impl HttpClient {
    /// A client that keeps at most so many idle connections to each service.
    #[must_use]
    pub fn new(idle_connections_max: usize) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(ANSWER_TIMEOUT));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT);
        Self(builder.pool_max_idle_per_host(idle_connections_max).build(connector))
    }

    /// Asks once.
    ///
    /// # Errors
    /// When no answer comes in [`ANSWER_TIMEOUT`].
    pub async fn send(
        &self,
        service: &Service,
        ask: &Ask,
        bearer: Option<&HeaderValue>,
    ) -> Result<Answer, NoAnswer> {
        let request = ask.request(format!("{service}{}", ask.path), bearer)?;
        let answer = async {
            let response = self.0.request(request).await.map_err(|err| no_answer(&err))?;
            Answer::read(response).await
        };
        let late = || NoAnswer::Unknown("timed out".to_owned());
        tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| late())?
    }

    async fn open(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<hyper::Response<Incoming>, NoAnswer> {
        let response = tokio::time::timeout(ANSWER_TIMEOUT, self.0.request(request)).await;
        response
            .map_err(|_| NoAnswer::Unknown("timed out".to_owned()))?
            .map_err(|err| no_answer(&err))
    }
}

fn no_answer(err: &hyper_util::client::legacy::Error) -> NoAnswer {
    if err.is_connect() {
        NoAnswer::NotSent(err.to_string())
    } else {
        NoAnswer::Unknown(err.to_string())
    }
}
