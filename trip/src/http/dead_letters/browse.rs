//! The dead-letter queue, to look at.

use axum::extract::State;
use common::{
    auth::AsOperations,
    clock::Timestamp,
    consumer::Class,
    dead_letters::{self, Filter, Page},
    http::{Json, Path, Query},
    problem::{Problem, ProblemBody},
};
use serde::Deserialize;

use super::{super::Gateway, model::LetterWhole};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
pub(in crate::http) struct ListQuery {
    cursor: Option<u64>,
    limit: Option<usize>,
    consumer: Option<String>,
    stream: Option<String>,
    class: Option<Class>,
    kind: Option<String>,
    state: Option<dead_letters::State>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

/// What could not be handled, oldest first, and what became of it.
#[utoipa::path(
    get,
    path = "/v1/ops/dlq",
    tag = "operations",
    params(
        ("cursor" = Option<u64>, Query, description = "as the page before gave it"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000),
        ("consumer" = Option<String>, Query, description = "of one partition or of all"),
        ("stream" = Option<String>, Query, description = "where it was"),
        ("class" = Option<Class>, Query, description = "why it is here"),
        ("kind" = Option<String>, Query, description = "what it says it is"),
        ("state" = Option<dead_letters::State>, Query, description = "what became of it"),
        ("since" = Option<Timestamp>, Query, description = "given up at this time or later"),
        ("until" = Option<Timestamp>, Query, description = "given up before this time"),
    ),
    responses(
        (status = 200, body = Page),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn list(
    _: AsOperations,
    State(gateway): State<Gateway>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let filter = Filter {
        consumer: query.consumer,
        stream: query.stream,
        class: query.class,
        kind: query.kind,
        state: query.state,
        since: query.since,
        until: query.until,
    };
    let after = query.cursor.unwrap_or(0);
    Ok(Json(dead_letters::list(&gateway.nats, &filter, after, limit).await?))
}

/// One of them, with headers, payload, and who did what about it.
#[utoipa::path(
    get,
    path = "/v1/ops/dlq/{sequence}",
    tag = "operations",
    params(("sequence" = u64, Path)),
    responses(
        (status = 200, body = LetterWhole),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn show(
    _: AsOperations,
    State(gateway): State<Gateway>,
    Path(sequence): Path<u64>,
) -> Result<Json<LetterWhole>, Problem> {
    let found = dead_letters::show(&gateway.nats, sequence).await?;
    found.map(|whole| Json(whole.into())).ok_or_else(no_such_letter)
}

pub(super) fn no_such_letter() -> Problem {
    Problem::not_found("not_found", "there is no such dead letter")
}
