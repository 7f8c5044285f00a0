//! `rider` owns what riders ask for and what they pay.

pub mod commands;
pub mod config;
pub mod domain;
pub mod fare;
pub mod location;
pub mod payments;
pub mod projection;
pub mod relay;
pub mod store;
pub mod wire;
