//! The dead-letter queue, to look at.

use std::collections::BTreeMap;

use async_nats::HeaderMap;
use axum::extract::State;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{
    auth::AsOperations,
    clock::Timestamp,
    consumer::dead,
    envelope::header,
    http::{Json, Path, Query},
    problem::{Problem, ProblemBody},
    stream,
    view::Stored,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Gateway;
use crate::history;

const DEAD_LETTERS: &str = "dlq.>";
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    cursor: Option<u64>,
    limit: Option<usize>,
}

/// Dead letters, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetters {
    items: Vec<DeadLetter>,
    next_cursor: Option<u64>,
}

/// A message that could not be handled.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetter {
    /// On the dead-letter queue.
    sequence: u64,
    /// Which consumer gave it up.
    consumer: String,
    /// The subject it had.
    subject: String,
    /// The stream it is in.
    stream: String,
    /// What it says it is.
    kind: Option<String>,
    /// The ride it belongs to.
    correlation_id: Option<String>,
    error: String,
    attempts: Option<u32>,
    failed_at: Option<Timestamp>,
    size: usize,
}

/// A message that could not be handled, whole.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetterWhole {
    #[serde(flatten)]
    letter: DeadLetter,
    headers: BTreeMap<String, String>,
    payload_base64: String,
}

/// What could not be handled.
#[utoipa::path(
    get,
    path = "/v1/ops/dlq",
    tag = "operations",
    params(
        ("cursor" = Option<u64>, Query, description = "as the page before gave it"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000)
    ),
    responses(
        (status = 200, body = DeadLetters),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    _: AsOperations,
    State(gateway): State<Gateway>,
    Query(query): Query<ListQuery>,
) -> Result<Json<DeadLetters>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let after = query.cursor.unwrap_or(0);
    let letters = history::read(&gateway.nats, stream::DLQ, DEAD_LETTERS, after, limit)
        .await
        .map_err(|err| Problem::unavailable(format!("{err:#}")))?;
    let next_cursor =
        letters.last().filter(|_| letters.len() == limit).map(|letter| letter.sequence);
    let items = letters.iter().map(DeadLetter::from).collect();
    Ok(Json(DeadLetters { items, next_cursor }))
}

/// One of them, with headers and payload.
#[utoipa::path(
    get,
    path = "/v1/ops/dlq/{sequence}",
    tag = "operations",
    params(("sequence" = u64, Path)),
    responses(
        (status = 200, body = DeadLetterWhole),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    _: AsOperations,
    State(gateway): State<Gateway>,
    Path(sequence): Path<u64>,
) -> Result<Json<DeadLetterWhole>, Problem> {
    let before = sequence.saturating_sub(1);
    let stored = history::read(&gateway.nats, stream::DLQ, DEAD_LETTERS, before, 1)
        .await
        .map_err(|err| Problem::unavailable(format!("{err:#}")))?
        .into_iter()
        .find(|stored| stored.sequence == sequence)
        .ok_or_else(|| Problem::not_found("not_found", "there is no such dead letter"))?;
    let headers = stored
        .headers
        .iter()
        .filter_map(|(name, values)| Some((name.to_string(), values.first()?.as_str().to_owned())))
        .collect();
    let payload_base64 = STANDARD.encode(&stored.payload);
    Ok(Json(DeadLetterWhole { letter: (&stored).into(), headers, payload_base64 }))
}

impl From<&Stored> for DeadLetter {
    fn from(stored: &Stored) -> Self {
        let text = |name| text(&stored.headers, name);
        Self {
            sequence: stored.sequence,
            consumer: text(dead::CONSUMER).unwrap_or_default(),
            subject: text(dead::SUBJECT).unwrap_or_default(),
            stream: text(dead::STREAM).unwrap_or_default(),
            kind: text(header::TYPE),
            correlation_id: text(header::CORRELATION),
            error: text(dead::ERROR).unwrap_or_default(),
            attempts: text(dead::ATTEMPTS).and_then(|count| count.parse().ok()),
            failed_at: text(dead::FAILED_AT).and_then(|at| at.parse().ok()),
            size: stored.payload.len(),
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.as_str().to_owned())
}
