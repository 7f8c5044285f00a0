//! What `trip` can be told, by flags or by the environment.

use std::{net::SocketAddr, time::Duration};

use common::{auth::AuthConfig, nats::NatsConfig, telemetry::TelemetryConfig};

use crate::{archive::ArchiveConfig, dispatch::DispatchConfig, domain::Terms};

/// The life of a trip: rules, dispatch, fare; and the operations' API.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "trip", version)]
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
    /// Where operations connect.
    #[arg(long, env = "TRIP_LISTEN", default_value = "127.0.0.1:7004")]
    pub listen: SocketAddr,
    /// How long new trips wait for what.
    #[command(flatten)]
    pub terms: TermsConfig,
    /// How open trips are matched with drivers.
    #[command(flatten)]
    pub dispatch: DispatchConfig,
    /// Where trips go that ended long ago.
    #[command(flatten)]
    pub archive: ArchiveConfig,
}

/// The waiting times of new trips. A trip keeps those that it was requested with.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct TermsConfig {
    /// How long a driver is looked for.
    #[arg(long, env = "MATCH_DEADLINE_MS", default_value_t = ms(Terms::STANDARD.match_deadline))]
    pub match_deadline_ms: u32,
    /// How long an open offer waits for its answer; longer than what the driver's phone shows.
    #[arg(long, env = "OFFER_LEASE_MS", default_value_t = ms(Terms::STANDARD.offer_lease))]
    pub offer_lease_ms: u32,
    /// How much longer than twice the estimated way to the pickup may take.
    #[arg(long, env = "PICKUP_GRACE_MS", default_value_t = ms(Terms::STANDARD.pickup_grace))]
    pub pickup_grace_ms: u32,
    /// How long a driver waits at the pickup.
    #[arg(long, env = "NO_SHOW_WAIT_MS", default_value_t = ms(Terms::STANDARD.no_show_wait))]
    pub no_show_wait_ms: u32,
    /// How much longer than thrice the estimated ride may take.
    #[arg(long, env = "RIDE_GRACE_MS", default_value_t = ms(Terms::STANDARD.ride_grace))]
    pub ride_grace_ms: u32,
    /// How long after an assignment cancelling costs nothing.
    #[arg(
        long,
        env = "FREE_CANCELLATION_MS",
        default_value_t = ms(Terms::STANDARD.free_cancellation)
    )]
    pub free_cancellation_ms: u32,
    /// How long after the end both sides may rate.
    #[arg(long, env = "RATING_WINDOW_MS", default_value_t = ms(Terms::STANDARD.rating_window))]
    pub rating_window_ms: u32,
}

fn ms(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

impl From<Terms> for TermsConfig {
    fn from(terms: Terms) -> Self {
        Self {
            match_deadline_ms: ms(terms.match_deadline),
            offer_lease_ms: ms(terms.offer_lease),
            pickup_grace_ms: ms(terms.pickup_grace),
            no_show_wait_ms: ms(terms.no_show_wait),
            ride_grace_ms: ms(terms.ride_grace),
            free_cancellation_ms: ms(terms.free_cancellation),
            rating_window_ms: ms(terms.rating_window),
        }
    }
}

impl Default for TermsConfig {
    fn default() -> Self {
        Terms::STANDARD.into()
    }
}

impl TermsConfig {
    /// As the rules know them.
    #[must_use]
    pub fn terms(&self) -> Terms {
        let time = |ms: u32| Duration::from_millis(ms.into());
        Terms {
            match_deadline: time(self.match_deadline_ms),
            offer_lease: time(self.offer_lease_ms),
            pickup_grace: time(self.pickup_grace_ms),
            no_show_wait: time(self.no_show_wait_ms),
            ride_grace: time(self.ride_grace_ms),
            free_cancellation: time(self.free_cancellation_ms),
            rating_window: time(self.rating_window_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::Config;
    use crate::domain::Terms;

    #[test]
    fn what_is_not_set_is_as_the_rules_have_it() {
        let config = Config::parse_from(["trip", "--auth-public-key", "key"]);
        assert_eq!(config.terms.terms(), Terms::STANDARD);
    }
}
