//! What every gateway has: layers, health, the OpenAPI document with its page, and graceful stop.

mod cause;
mod extract;
mod key;
mod serve;
pub mod sse;

pub use cause::{cause, traceparent};
pub use extract::{Json, Path, Query};
pub use key::{IdempotencyKey, KeyNeeded, KeyTaken};
pub use serve::{Readiness, app, bind, once_prepared, serve};
