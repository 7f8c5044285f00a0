//! Contracts and plumbing that every service shares. No rule about rides lives here.

pub mod auth;
pub mod broker;
pub mod clock;
pub mod consumer;
pub mod contract;
pub mod decider;
pub mod driver_commands;
pub mod envelope;
pub mod event_store;
pub mod geo;
pub mod http;
pub mod id;
pub mod money;
pub mod nats;
pub mod ping;
pub mod problem;
pub mod shutdown;
pub mod stream;
pub mod subject;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod timer;
pub mod trips;
pub mod view;
