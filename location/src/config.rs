//! What `location` can be told, by flags or by the environment.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use common::{nats::NatsConfig, telemetry::TelemetryConfig};

use crate::{
    domain::{liveness::Patience, session::Rules},
    roads::Speed,
};

/// Where drivers are, now: positions, roads, travel times and candidates.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "location", version)]
pub struct Config {
    /// The broker.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// How it logs.
    #[command(flatten)]
    pub telemetry: TelemetryConfig,
    /// Where health, readiness and the map's roads are served.
    #[arg(long, env = "LOCATION_LISTEN", default_value = "127.0.0.1:7003")]
    pub listen: SocketAddr,
    /// The city's road file, made by `import-roads`; without one, Gothenburg.
    #[arg(long, env = "ROADS")]
    pub roads: Option<PathBuf>,
    /// How fast cars are, as a factor on the free-flow speeds of the road file. A simulation whose
    /// cars move faster than life multiplies it.
    #[arg(long, env = "SPEED_FACTOR", default_value = "0.65")]
    pub speed_factor: Speed,
    /// What says that a ping is implausible.
    #[command(flatten)]
    pub pings: PingConfig,
    /// How long a driver may be silent.
    #[command(flatten)]
    pub silence: SilenceConfig,
    /// How far by air from a pickup cars are looked for, metres.
    #[arg(long, env = "CANDIDATE_RADIUS_M", default_value_t = 10_000.0)]
    pub candidate_radius_m: f64,
    /// How often the surge moves, by a sixth of the way to what demand and supply say.
    #[arg(long, env = "SURGE_EVERY_MS", default_value_t = 10_000)]
    pub surge_every_ms: u64,
}

/// What a ping must be like to move the index.
#[derive(Debug, Clone, clap::Args)]
pub struct PingConfig {
    /// No car drives faster, km/h; a simulation whose cars move faster than life multiplies it.
    #[arg(long, env = "PING_SPEED_MAX_KMH", default_value_t = 200.0)]
    pub ping_speed_max_kmh: f64,
    /// A position that is known worse than this says nothing, metres.
    #[arg(long, env = "PING_ACCURACY_MAX_M", default_value_t = 100.0)]
    pub ping_accuracy_max_m: f64,
}

impl PingConfig {
    pub(crate) fn rules(&self, silence: &SilenceConfig) -> Rules {
        Rules {
            speed_max_kmh: self.ping_speed_max_kmh,
            accuracy_max_m: self.ping_accuracy_max_m,
            // What was true longer ago than a driver stays live cannot make one live.
            age_max: silence.patience().live,
            ..Rules::default()
        }
    }
}

/// How long a driver may be silent before something happens.
#[derive(Debug, Clone, clap::Args)]
pub struct SilenceConfig {
    /// Up to here a driver is live and may be offered trips.
    #[arg(long, env = "LIVE_MS", default_value_t = 15_000)]
    pub live_ms: u64,
    /// Up to here stale; then lost: an open offer ends.
    #[arg(long, env = "STALE_MS", default_value_t = 60_000)]
    pub stale_ms: u64,
    /// Then an idle driver's duty ends.
    #[arg(long, env = "IDLE_SILENCE_MS", default_value_t = 300_000)]
    pub idle_silence_ms: u64,
    /// But nobody's who has been idle for less than this.
    #[arg(long, env = "IDLE_LEAST_MS", default_value_t = 65_000)]
    pub idle_least_ms: u64,
}

impl SilenceConfig {
    pub(crate) fn patience(&self) -> Patience {
        Patience {
            live: Duration::from_millis(self.live_ms),
            stale: Duration::from_millis(self.stale_ms),
            idle: Duration::from_millis(self.idle_silence_ms),
            idle_least: Duration::from_millis(self.idle_least_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::Config;
    use crate::domain::{liveness::Patience, session::Rules};

    #[test]
    fn what_is_not_set_is_as_the_rules_have_it() {
        let config = Config::parse_from(["location"]);
        assert_eq!(config.silence.patience(), Patience::default());
        assert_eq!(config.pings.rules(&config.silence), Rules::default());
    }
}
