//! The trip service against a private real broker: one binary, so that it is linked once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod archive;
mod commands;
mod console;
mod dead_letters;
mod malformed;
mod operations;
mod races;
mod rides;
mod saga;
mod said;
mod seen;
mod timers;
mod world;
