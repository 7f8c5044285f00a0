//! The whole system in one process, seen from outside: through its gateways, its log and its books.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod archive;
mod audit;
mod city;
mod dlq;
mod jetstream;
mod payments;
mod proxy;
mod ride;
mod scale_out;
mod sim;
