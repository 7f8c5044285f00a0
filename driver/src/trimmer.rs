//! Makes room on `DRIVER`: of every driver the last event stays for ever, since it carries the state;
//! older ones go once they are old and everybody has read them.

use std::time::Duration;

use common::{clock::Timestamp, nats::Nats, stream, subject, trim};
use tokio_util::sync::CancellationToken;

/// How often it is looked for what is old.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The default, and the least.
const KEPT_DAYS: u64 = stream::FACTS_KEPT_MIN.as_secs() / DAY.as_secs();

/// How long what drivers did stays in the log.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct TrimConfig {
    /// Days after which a driver's event leaves the log, if it is not that driver's last one.
    #[arg(
        long,
        env = "DRIVER_EVENTS_KEPT_DAYS",
        default_value_t = KEPT_DAYS,
        value_parser = clap::value_parser!(u64).range(KEPT_DAYS..)
    )]
    pub driver_events_kept_days: u64,
}

impl Default for TrimConfig {
    fn default() -> Self {
        Self { driver_events_kept_days: KEPT_DAYS }
    }
}

/// Trims until shutdown.
///
/// # Errors
/// Never: what fails is done the next time. The signature lets it stand in a `try_join!`.
pub(crate) async fn run(
    nats: &Nats,
    config: TrimConfig,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let days = u32::try_from(config.driver_events_kept_days).unwrap_or(u32::MAX);
    let kept = DAY.saturating_mul(days);
    let mut every = tokio::time::interval(LOOK_EVERY);
    while shutdown.run_until_cancelled(every.tick()).await.is_some() {
        match shutdown.run_until_cancelled(Box::pin(trim(nats, kept))).await {
            None => break,
            Some(Ok(0)) => {}
            Some(Ok(events)) => tracing::info!(events, "{events} old driver events left the log"),
            Some(Err(err)) => tracing::warn!(error = format!("{err:#}"), "not trimmed"),
        }
    }
    Ok(())
}

/// Removes what is older than `kept`, and says how many events. Replicas may do it at the same time.
///
/// # Errors
/// When the broker cannot be asked. What was not done is done the next time.
pub async fn trim(nats: &Nats, kept: Duration) -> anyhow::Result<u64> {
    let kept_us = i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
    let until = Timestamp::from_micros(nats.clock.now().micros().saturating_sub(kept_us));
    let past = trim::past(nats, stream::DRIVER, until).await?;
    let removed = trim::keep_last(nats, stream::DRIVER, subject::DRIVER.events(), past).await?;
    // What old timers fired: whoever was to hear of it has.
    let due = format!("{}.>", subject::DRIVER.due);
    trim::remove(nats, stream::DRIVER, &due, past.end).await?;
    Ok(removed)
}
