//! `rider` owns what riders ask for and what they pay.

pub mod domain;
pub mod fare;
pub mod store;
pub mod wire;
