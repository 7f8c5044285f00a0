//! What every gateway has: layers, health, the OpenAPI document with its page, and graceful stop.

mod extract;
mod serve;

pub use extract::{Json, Path, Query};
pub use serve::{Readiness, app, serve};
