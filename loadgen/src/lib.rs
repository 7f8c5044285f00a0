//! A city in one process: phones that drive the services, and what their load measured.

pub mod archive;
pub mod audit;
#[cfg(all(unix, feature = "chaos"))]
pub mod chaos;
pub mod city;
pub mod cli;
pub mod client;
pub mod demo;
pub mod dlq;
pub mod journal;
pub mod payments;
pub mod pings;
pub mod processes;
pub mod pulse;
pub mod report;
pub mod ride;
pub mod sim;
