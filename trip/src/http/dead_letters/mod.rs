//! Messages that could not be handled: to look at, to send back, to discard.

pub(super) mod browse;
mod model;
pub(super) mod orders;
pub(super) mod runs;
