//! Where drivers are, now: roads, travel times and candidates.

pub mod index;
pub mod roads;
