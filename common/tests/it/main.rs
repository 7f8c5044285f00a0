//! The plumbing against real brokers and processes: one binary, so that it is linked once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

mod broker;
mod consumer;
mod counter;
mod dead_letters;
mod event_store;
mod golden;
mod provisioning;
mod tidy;
