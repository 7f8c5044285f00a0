//! A private broker: found, provisioned, started, crashed, restarted, and never left behind.

mod finding;
mod running;
mod waiting;
