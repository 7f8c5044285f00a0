//! The table of a trip as sentences: given what happened, when somebody wants something, then.

pub(crate) mod given;
mod laws;
mod offers;
mod pickup;
mod ride;
mod timers;
