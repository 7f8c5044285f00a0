//! What operations do about messages that could not be handled: look at them, send them back to
//! the consumer that gave them up, or decide that nothing shall come of them. All of it is on
//! record, with who and why.

mod browse;
mod discard;
mod replay;
pub mod resolution;
mod run;

use async_nats::{HeaderMap, jetstream::stream::Stream};
use axum::http::StatusCode;

pub use self::{
    browse::{Filter, Letter, Page, State, Whole, list, payload, show},
    discard::{DISCARDED_MAX, Discarded, discard},
    replay::{RATE_DEFAULT, RATE_MAX, Replay, Selection, replay},
    resolution::{Order, Origin, Outcome, Resolution},
    run::{Run, Status, announce, last_run, runs},
};
use crate::{contract::Malformed, nats::Nats, problem::Problem, stream};

/// Why an operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The broker cannot be asked. Trying again is safe.
    #[error("the dead-letter queue cannot be reached: {0:#}")]
    Unavailable(anyhow::Error),
    /// What is stored is no dead letter or no record of one.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl From<anyhow::Error> for OperationError {
    fn from(err: anyhow::Error) -> Self {
        Self::Unavailable(err)
    }
}

impl From<OperationError> for Problem {
    fn from(err: OperationError) -> Self {
        match err {
            OperationError::Unavailable(_) => Self::unavailable(err.to_string()),
            OperationError::Malformed(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", err.to_string())
            }
        }
    }
}

async fn dlq(nats: &Nats) -> Result<Stream<()>, OperationError> {
    let held = nats.jetstream.get_stream_no_info(stream::DLQ).await;
    held.map_err(|err| OperationError::Unavailable(err.into()))
}

pub(crate) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.as_str().to_owned())
}
