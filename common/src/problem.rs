//! RFC 9457 problem details: the only form in which an HTTP client learns that something is wrong.

use std::{future::Future, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

tokio::task_local! {
    static TRACE: String;
}

/// Runs a request's handling with its trace id, so that problems name it.
pub(crate) async fn traced<T>(trace_id: String, work: impl Future<Output = T>) -> T {
    TRACE.scope(trace_id, work).await
}

/// The id of the trace that this request belongs to; empty outside of one.
#[must_use]
pub(crate) fn trace_id() -> String {
    TRACE.try_with(Clone::clone).unwrap_or_default()
}

/// What is wrong, for people and for programs.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after: Option<Duration>,
    extras: Map<String, Value>,
}

/// The JSON of a [`Problem`]. Some codes add members, such as `tries_left`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Names the problem; the code as a path.
    #[serde(rename = "type")]
    #[schema(example = "/problems/offer_withdrawn")]
    kind: String,
    /// The code in words.
    title: String,
    /// The HTTP status again.
    status: u16,
    /// What stands in the way, this time.
    detail: String,
    /// For programs.
    #[schema(example = "offer_withdrawn")]
    code: String,
    /// Whether the very same request may succeed later.
    retryable: bool,
    /// To ask operations about.
    trace_id: String,
    #[serde(flatten)]
    #[schema(ignore)]
    extras: Map<String, Value>,
}

impl Problem {
    /// A problem of this status and code.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None, extras: Map::new() }
    }

    /// 400: the request makes no sense.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401.
    pub fn unauthorized(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// 404: there is no such thing, or it is not the caller's.
    pub fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 409: not in this state.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422 `validation_failed`: the field at this JSON pointer cannot be so.
    pub fn invalid(pointer: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let errors = serde_json::json!([{ "pointer": pointer, "detail": detail }]);
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail)
            .with("errors", errors)
    }

    /// 503 `unavailable`: whether it happened or not, repeating it is safe.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
            .retry_after(Duration::from_secs(1))
    }

    /// Adds a member for programs.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extras.insert(name.to_owned(), value.into());
        self
    }

    /// Says when to try again, which makes the problem retryable.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(code = self.code, detail = self.detail, "request failed");
        } else {
            tracing::debug!(code = self.code, detail = self.detail, "request refused");
        }
        let body = ProblemBody {
            kind: format!("/problems/{}", self.code),
            title: self.code.replace('_', " "),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.to_owned(),
            retryable: self.retry_after.is_some(),
            trace_id: trace_id(),
            extras: self.extras,
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: a client must not come back too early.
            headers.insert(header::RETRY_AFTER, seconds_up(after).into());
        }
        response
    }
}

fn seconds_up(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::Problem;
    use axum::{http::header, response::IntoResponse as _};
    use std::time::Duration;

    #[test]
    fn a_retryable_problem_says_when() {
        let response = Problem::unavailable("the broker is away")
            .retry_after(Duration::from_millis(1200))
            .into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}
