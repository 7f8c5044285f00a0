//! What can be set from outside.

use std::{net::SocketAddr, time::Duration};

use common::{auth::AuthConfig, nats::NatsConfig, room::RoomConfig, telemetry::TelemetryConfig};

use crate::trimmer::TrimConfig;

/// The first ping of a frame waits this long, and with it its phone for the 202.
const LINGER_MS: u64 = 10;
const FRAME_PINGS: usize = 256;
const FRAMES_IN_FLIGHT: usize = 256;
const INTERVAL_MS: u64 = 5_000;

/// The driver service.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "driver", version, about)]
pub struct Config {
    /// Where the gateway for drivers' phones listens.
    #[arg(long, env = "DRIVER_LISTEN", default_value = "127.0.0.1:7001")]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub nats: NatsConfig,
    #[command(flatten)]
    pub auth: AuthConfig,
    #[command(flatten)]
    pub gathering: GatherConfig,
    #[command(flatten)]
    pub room: RoomConfig,
    #[command(flatten)]
    pub trimming: TrimConfig,
    #[command(flatten)]
    pub telemetry: TelemetryConfig,
}

/// How pings of several phones are gathered into frames.
#[derive(Debug, Clone, clap::Args)]
pub struct GatherConfig {
    /// How long the first ping of a frame waits for others, in milliseconds.
    #[arg(long, env = "PING_LINGER_MS", default_value_t = LINGER_MS)]
    pub ping_linger_ms: u64,
    /// A frame with this many pings leaves at once.
    #[arg(long, env = "PING_FRAME_PINGS", default_value_t = FRAME_PINGS)]
    pub ping_frame_pings: usize,
    /// How many frames may wait for the broker's acknowledgement at a time.
    #[arg(long, env = "PING_FRAMES_IN_FLIGHT", default_value_t = FRAMES_IN_FLIGHT)]
    pub ping_frames_in_flight: usize,
    /// How often phones are asked to send, in milliseconds, while there is room.
    #[arg(long, env = "PING_INTERVAL_MS", default_value_t = INTERVAL_MS)]
    pub ping_interval_ms: u64,
}

impl Default for GatherConfig {
    fn default() -> Self {
        Self {
            ping_linger_ms: LINGER_MS,
            ping_frame_pings: FRAME_PINGS,
            ping_frames_in_flight: FRAMES_IN_FLIGHT,
            ping_interval_ms: INTERVAL_MS,
        }
    }
}

impl GatherConfig {
    pub(crate) fn linger(&self) -> Duration {
        Duration::from_millis(self.ping_linger_ms)
    }
}
