//! The demo.

mod deployment;

pub use deployment::{Addresses, Deployment, Plan, RunDir, connect};
