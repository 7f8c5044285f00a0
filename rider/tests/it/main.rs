//! `rider` against a private real broker. The trip service, `location` and the payment provider are
//! scripted here with the contract's own types.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod disk;
mod endings;
mod events;
mod idempotency;
mod input;
mod outbox;
mod payments;
mod phone;
mod quotes;
mod reconciliation;
mod replicas;
mod room;
mod world;
