//! trip: owns the life of a trip.

pub mod dispatch;
pub mod domain;
pub mod record;
