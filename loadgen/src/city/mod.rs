//! The simulated city.

pub mod crowd;
mod demand;
pub mod motion;
mod profile;
pub mod streets;
