//! The rider's rules: what a ride costs, what a cancellation costs, what is owed after a trip and
//! how a repeated request is answered. Pure functions: no clock, no chance, no broker, no store.

pub mod cancellation;
pub mod charge;
pub mod idempotency;
pub mod reconciliation;
pub mod tariff;
pub mod trip;

#[cfg(test)]
mod tests;
