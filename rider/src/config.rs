//! What `rider` can be told, by flags or by the environment.

use std::{net::SocketAddr, time::Duration};

use axum::http::Uri;
use common::{
    auth::AuthConfig, breaker::BreakerConfig, nats::NatsConfig, room::RoomConfig,
    telemetry::TelemetryConfig,
};

use crate::{
    domain::tariff::{TARIFF_DEFAULT, Tariff},
    store::Place,
};

/// The gateway for riders: quotes, ride requests, payments.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "rider", version)]
pub struct Config {
    /// The broker.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// Who may call.
    #[command(flatten)]
    pub auth: AuthConfig,
    /// How it logs.
    #[command(flatten)]
    pub telemetry: TelemetryConfig,
    /// Where phones connect.
    #[arg(long, env = "RIDER_LISTEN", default_value = "127.0.0.1:7002")]
    pub listen: SocketAddr,
    /// What holds requests, the outbox and the ledger: a file (made where it is missing) for one
    /// process, or `postgres://user:password@host/database` for several replicas.
    #[arg(long, env = "RIDER_STORE", default_value = "rider.db", hide_env_values = true)]
    pub store: Place,
    /// Events that may wait for the broker before new rides are sent away.
    #[arg(long, env = "OUTBOX_MAX", default_value_t = 100_000)]
    pub outbox_max: u64,
    /// Where the payment provider is.
    #[arg(long, env = "PAYMENTS_URL", default_value = "http://127.0.0.1:7005")]
    pub payments_url: Uri,
    /// How long the payment provider may take for an answer before its outcome counts as unknown.
    #[arg(long, env = "PAYMENTS_TIMEOUT_MS", default_value_t = 3_000)]
    pub payments_timeout_ms: u64,
    /// When new rides are refused because the broker's store is nearly full.
    #[command(flatten)]
    pub room: RoomConfig,
    /// When the payment provider is left alone for a while.
    #[command(flatten)]
    pub breaker: BreakerConfig,
    /// When missed fares are caught up on and the ledger is compared with the log.
    #[command(flatten)]
    pub nightly: NightlyConfig,
    /// The secret that quotes are signed with, 32 bytes or more; all replicas share it.
    #[arg(long, env = "FARE_SECRET", hide_env_values = true)]
    pub fare_secret: String,
    /// Products and rates as JSON, in minor units.
    #[arg(long, env = "TARIFF", default_value = TARIFF_DEFAULT)]
    pub tariff: Tariff,
}

/// When the ledger is compared with the log, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct NightlyConfig {
    /// Seconds, minutes, hours, days, months, weekdays in UTC; or `@every 1h`. The broker keeps it.
    #[arg(long, env = "NIGHTLY", default_value = "0 0 3 * * *")]
    pub nightly: String,
    /// Trips that changed within this time are still being charged, and not compared.
    #[arg(long, env = "RECONCILE_AFTER_MS", default_value_t = 60_000)]
    pub reconcile_after_ms: u64,
}

impl NightlyConfig {
    /// Trips that changed within this time are not compared.
    #[must_use]
    pub fn reconcile_after(&self) -> Duration {
        Duration::from_millis(self.reconcile_after_ms)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::Config;

    #[test]
    fn only_keys_and_secrets_have_no_default() {
        Config::command().debug_assert();
        let flags = ["rider", "--auth-public-key", "k", "--fare-secret", "s"];
        let config = Config::try_parse_from(flags).unwrap();
        assert_eq!(config.listen.port(), 7002);
        assert_eq!(config.tariff.products.len(), 1);
    }
}
