//! What operations do about messages that could not be handled: look at them, send them back to
//! the consumer that gave them up, or decide that nothing shall come of them. All of it is on
//! record, with who and why.

pub mod resolution;

use async_nats::HeaderMap;

use crate::contract::Malformed;

/// Why an operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The broker cannot be asked. Trying again is safe.
    #[error("the dead-letter queue cannot be reached: {0}")]
    Unavailable(anyhow::Error),
    /// What is stored is no dead letter or no record of one.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

pub(crate) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.as_str().to_owned())
}
