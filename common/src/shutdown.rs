//! Stopping is part of running: one token that every part listens to.

use std::future::Future;

use tokio::signal;
use tokio_util::sync::CancellationToken;

/// Runs `service` and cancels its token at the first SIGINT or SIGTERM.
///
/// # Errors
/// The service's own.
pub async fn on_signal<F, Fut>(service: F) -> anyhow::Result<()>
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let shutdown = CancellationToken::new();
    let mut running = std::pin::pin!(service(shutdown.clone()));
    tokio::select! {
        ended = &mut running => return ended,
        asked = asked_to_stop() => asked?,
    }
    tracing::info!("stopping");
    shutdown.cancel();
    running.await
}

/// Waits for SIGINT (Ctrl-C) or SIGTERM.
///
/// # Errors
/// When signals cannot be listened to.
pub async fn asked_to_stop() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupted = signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    signal::ctrl_c().await
}
