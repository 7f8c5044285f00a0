//! Gateway for drivers; owns a driver's duty and engagement.

pub mod domain;
pub mod record;
