//! trip: owns the life of a trip.

pub mod domain;
pub mod record;
