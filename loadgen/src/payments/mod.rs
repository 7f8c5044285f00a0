//! A sandbox of a payment provider: not ours, so it shares nothing with the services but HTTP.
//! Idempotent by key, looked up by reference, and as unreliable as it is told to be.

mod book;
mod http;
#[cfg(test)]
mod tests;

pub use book::{Book, Charge, ChargeRequest, Refusal};
pub use http::{Faults, router};

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Where the sandbox listens unless told otherwise.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:7005";

/// The payment sandbox.
#[derive(Debug, Clone, clap::Args)]
pub struct PaymentsConfig {
    /// Where to listen.
    #[arg(long, env = "PAYMENTS_LISTEN", default_value = LISTEN_DEFAULT)]
    pub listen: SocketAddr,
    /// Added to every answer, milliseconds.
    #[arg(long, default_value_t = 0)]
    pub latency_ms: u64,
    /// Share of calls that fail, 0 to 1; half of them after the money was taken.
    #[arg(long, default_value_t = 0.0)]
    pub failure_rate: f64,
}

/// Runs the sandbox until shutdown.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn run(config: PaymentsConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let faults = Faults {
        latency_ms: config.latency_ms,
        failure_rate: config.failure_rate,
        ..Faults::default()
    };
    serve(listener, faults, shutdown).await
}

/// Serves the sandbox on this listener until shutdown.
///
/// # Errors
/// When serving fails.
pub async fn serve(
    listener: TcpListener,
    faults: Faults,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    tracing::info!(listen = %listener.local_addr()?, "payment sandbox");
    let app = router(faults).into_make_service();
    axum::serve(listener, app).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
    Ok(())
}
