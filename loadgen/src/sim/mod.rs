//! The system in virtual time, from a seed: what real processes cannot be made to do on purpose.

pub mod jetstream;
