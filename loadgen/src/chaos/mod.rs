//! Failures injected on purpose: what stands between the parts and makes them fail.

pub mod proxy;
