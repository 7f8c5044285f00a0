//! What a request is the cause of: the command that it carries, in the request's trace.

use crate::{event_store::Cause, id::CommandId, problem};

/// A command that came by HTTP causes what follows from it.
#[must_use]
pub fn cause(command: CommandId) -> Cause {
    Cause { id: Some(command.0), traceparent: traceparent(command) }
}

/// The request's trace (W3C trace context), with the command as its span; `None` outside of one.
#[must_use]
pub fn traceparent(command: CommandId) -> Option<String> {
    let trace = problem::trace_id();
    let span = command.folded();
    (!trace.is_empty()).then(|| format!("00-{trace}-{span:016x}-01"))
}
