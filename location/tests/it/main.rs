//! `location` against a private real broker: what goes in as frames and events, and what it says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod candidates;
mod counting;
mod fixture;
mod gateway;
mod silence;
