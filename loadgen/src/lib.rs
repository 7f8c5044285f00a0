//! A city in one process: phones that drive the services, and what their load measured.

pub mod city;
pub mod client;
pub mod journal;
pub mod pings;
pub mod processes;
pub mod pulse;
pub mod report;
