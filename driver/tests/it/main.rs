//! The driver service against a private real broker: every test has its own. What `trip` and
//! `location` would do, the tests do by hand, so that each interleaving is forced.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod commands;
mod earnings;
mod events;
mod input;
mod offers;
mod phone;
mod pings;
mod room;
mod trim;
mod trips;
mod world;
