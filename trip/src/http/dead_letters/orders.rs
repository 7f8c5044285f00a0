//! What operations want done about dead letters. Every order has a reason, and is kept with who
//! gave it.

use axum::{extract::State, http::StatusCode};
use common::{
    auth::AsOperations,
    dead_letters::{
        self, Discarded, Filter, Letter, Order, RATE_DEFAULT, RATE_MAX, Replay, Selection,
    },
    http::{Json, Path},
    id::CommandId,
    problem::{Problem, ProblemBody},
};
use uuid::Uuid;

use super::{
    super::Gateway,
    browse::no_such_letter,
    model::{DiscardMany, ReplayMany, ReplayOne, Started, Why},
};

const REASON_LEN_MAX: usize = 500;

impl Gateway {
    fn order(&self, by: Uuid, reason: &str) -> Result<Order, Problem> {
        let reason = reason.trim();
        if reason.is_empty() || reason.len() > REASON_LEN_MAX {
            return Err(Problem::invalid("/reason", format!("1 to {REASON_LEN_MAX} bytes")));
        }
        let (by, at) = (by.to_string(), self.nats.clock.now());
        Ok(Order { by, reason: reason.to_owned(), run: CommandId::fresh().0, at })
    }

    async fn letter(&self, sequence: u64) -> Result<Letter, Problem> {
        let found = dead_letters::show(&self.nats, sequence).await?;
        Ok(found.ok_or_else(no_such_letter)?.letter)
    }

    async fn start(&self, replay: Replay) -> Result<(StatusCode, Json<Started>), Problem> {
        let run = replay.order.run;
        let ordered = self.replays.order(&self.nats, replay).await;
        ordered.map_err(|err| Problem::unavailable(err.to_string()))?;
        Ok((StatusCode::ACCEPTED, Json(Started { run })))
    }
}

fn chosen(filter: Filter) -> Result<Selection, Problem> {
    if filter == Filter::default() {
        return Err(Problem::invalid("/filter", "at least one field"));
    }
    Ok(Selection::Filter(filter))
}

/// Sends one letter back to the consumer that gave it up.
#[utoipa::path(
    post,
    path = "/v1/ops/dlq/{sequence}/replay",
    tag = "operations",
    params(("sequence" = u64, Path)),
    request_body = ReplayOne,
    responses(
        (status = 202, body = Started),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn replay_one(
    AsOperations(by): AsOperations,
    State(gateway): State<Gateway>,
    Path(sequence): Path<u64>,
    Json(wanted): Json<ReplayOne>,
) -> Result<(StatusCode, Json<Started>), Problem> {
    let order = gateway.order(by, &wanted.reason)?;
    let letter = gateway.letter(sequence).await?;
    if letter.returns_to().is_none() {
        let detail = "its consumer takes nothing back, or it was gone before it could be copied";
        return Err(Problem::conflict("not_replayable", detail));
    }
    if letter.expires_at.is_some_and(|at| at <= gateway.nats.clock.now()) {
        return Err(Problem::conflict("letter_expired", "it means nothing any more"));
    }
    if !letter.state.is_open() && !wanted.again {
        return Err(resolved(&letter));
    }
    let selection = Selection::Sequences(vec![sequence]);
    gateway.start(Replay { order, selection, rate_per_s: RATE_DEFAULT, again: wanted.again }).await
}

fn resolved(letter: &Letter) -> Problem {
    let state = serde_json::json!(letter.state);
    Problem::conflict("letter_resolved", "nothing is left to be done about it")
        .with("current_state", state)
}

/// Sends letters back: one first, and the others at a rate once that was handled.
#[utoipa::path(
    post,
    path = "/v1/ops/dlq/replay",
    tag = "operations",
    request_body = ReplayMany,
    responses(
        (status = 202, body = Started),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn replay_many(
    AsOperations(by): AsOperations,
    State(gateway): State<Gateway>,
    Json(wanted): Json<ReplayMany>,
) -> Result<(StatusCode, Json<Started>), Problem> {
    let order = gateway.order(by, &wanted.reason)?;
    let rate_per_s = wanted.rate_per_s.unwrap_or(RATE_DEFAULT);
    if !(1..=RATE_MAX).contains(&rate_per_s) {
        return Err(Problem::invalid("/rate_per_s", format!("1 to {RATE_MAX}")));
    }
    let selection = chosen(wanted.filter)?;
    gateway.start(Replay { order, selection, rate_per_s, again: wanted.again }).await
}

/// Decides that nothing shall come of a letter. It stays, with who decided and why.
#[utoipa::path(
    post,
    path = "/v1/ops/dlq/{sequence}/discard",
    tag = "operations",
    params(("sequence" = u64, Path)),
    request_body = Why,
    responses(
        (status = 200, body = Discarded),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn discard_one(
    AsOperations(by): AsOperations,
    State(gateway): State<Gateway>,
    Path(sequence): Path<u64>,
    Json(why): Json<Why>,
) -> Result<Json<Discarded>, Problem> {
    let order = gateway.order(by, &why.reason)?;
    let letter = gateway.letter(sequence).await?;
    if !letter.state.is_open() {
        return Err(resolved(&letter));
    }
    discard(&gateway, &Selection::Sequences(vec![sequence]), &order).await
}

/// Decides that nothing shall come of letters.
#[utoipa::path(
    post,
    path = "/v1/ops/dlq/discard",
    tag = "operations",
    request_body = DiscardMany,
    responses(
        (status = 200, body = Discarded),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn discard_many(
    AsOperations(by): AsOperations,
    State(gateway): State<Gateway>,
    Json(wanted): Json<DiscardMany>,
) -> Result<Json<Discarded>, Problem> {
    let order = gateway.order(by, &wanted.reason)?;
    discard(&gateway, &chosen(wanted.filter)?, &order).await
}

async fn discard(
    gateway: &Gateway,
    selection: &Selection,
    order: &Order,
) -> Result<Json<Discarded>, Problem> {
    Ok(Json(dead_letters::discard(&gateway.nats, selection, order).await?))
}
