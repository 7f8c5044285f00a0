//! Logs. Fields in use: `trip.id`, `driver.id`, `rider.id`, `offer.id`, `aggregate.id`, `subject`,
//! `stream`, `sequence`, `consumer`, `attempt`, `duration_ms`, `error`, `code`. Never tokens, names
//! or coordinates.

use tracing_subscriber::EnvFilter;

/// How a process logs.
#[derive(Debug, Clone, clap::Args)]
pub struct TelemetryConfig {
    /// What to log, such as `info` or `warn,trip=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub log: String,
    /// One JSON object a line instead of text.
    #[arg(long, env = "LOG_JSON")]
    pub log_json: bool,
}

/// Starts logging to standard error. A second call changes nothing.
pub fn start(config: &TelemetryConfig) {
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    // Where a line cannot be written, for the disk is full, neither can a complaint about that: it
    // would be a panic.
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let started = if config.log_json { logs.json().try_init() } else { logs.try_init() };
    if let Err(err) = started {
        tracing::debug!(error = %err, "logging was started before");
    }
}
