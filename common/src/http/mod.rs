//! What every gateway has: layers, health, the OpenAPI document with its page, and graceful stop.

mod cause;
mod extract;
mod serve;
pub mod sse;

pub use cause::{IDEMPOTENCY_KEY, cause, traceparent};
pub use extract::{Json, Path, Query};
pub use serve::{Readiness, app, bind, serve};
