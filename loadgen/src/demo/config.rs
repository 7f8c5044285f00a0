//! What the demo can be told.

use std::{path::PathBuf, time::Duration};

use crate::{city::CityConfig, cli::duration, client::Service};

use super::Addresses;

/// The demo: a broker, the four services and a city, in this process.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoConfig {
    /// How long to run, such as `120s` or `10m`; until Ctrl-C if left out.
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Where to keep streams, stores and the journal; in a temporary directory if left out.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Fail if fewer rides than this were completed.
    #[arg(long, default_value_t = 0)]
    pub expect_completed: u64,
    /// Write the report as JSON into this file, too.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Cars that send their positions; at one ping in 4.5 s, 15,000 make 200,000 a minute.
    #[arg(long, default_value_t = 15_000)]
    pub drivers: u64,
    /// Drivers among them who are online and take rides.
    #[arg(long, default_value_t = 600)]
    pub on_shift: u64,
    /// Rides a minute that are wanted in the mean of the week.
    #[arg(long, default_value_t = 90.0)]
    pub rides_per_minute: f64,
    /// Hours after Monday began at which the city starts (66 is Wednesday, 18:00).
    #[arg(long, default_value_t = 59.0)]
    pub start_hour: f64,
    /// The same demand at every hour.
    #[arg(long)]
    pub steady: bool,
    /// How many times faster than life cars move; the services' timers stay real.
    #[arg(long, default_value_t = 5.0)]
    pub time_scale: f64,
    /// What demand and dispositions are drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Keep-alive connections that the cars off shift share.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// How long rides under way may take to end once no more are wanted, such as `60s`.
    #[arg(long, value_parser = duration, default_value = "60s")]
    pub drain: Duration,
}

/// Cars are parked, cruise or drive; each says where it is so often.
const PING_EVERY_MS: u64 = 4_500;

impl DemoConfig {
    /// Whether the city has anybody in it.
    pub(super) fn has_phones(&self) -> bool {
        self.drivers > 0 || self.on_shift > 0 || self.rides_per_minute > 0.0
    }

    /// The city of this demo, against these services.
    pub(super) fn city(&self, addresses: &Addresses, journal: PathBuf) -> CityConfig {
        CityConfig {
            driver_url: addresses.driver.clone(),
            rider_url: addresses.rider.clone(),
            seed: self.seed,
            drivers: self.drivers,
            on_shift: self.on_shift,
            ping_every_ms: PING_EVERY_MS,
            connections: self.connections,
            rides_per_minute: self.rides_per_minute,
            start_hour: self.start_hour,
            steady: self.steady,
            time_scale: self.time_scale,
            duration_s: self.duration.map(|duration| duration.as_secs()),
            drain_s: self.drain.as_secs(),
            journal,
        }
    }
}

/// What the audit after a city against running services needs beside the journal.
#[derive(Debug, Clone, clap::Args)]
pub struct CityAudit {
    /// The broker that has the log; nothing is audited if left out.
    #[arg(long, env = "NATS_URL")]
    pub nats_url: Option<String>,
    /// The rider service's store; the ledger is not compared if left out.
    #[arg(long, env = "RIDER_STORE")]
    pub rider_store: Option<rider::store::Place>,
    /// The payment sandbox; its list is not compared if left out.
    #[arg(long, env = "PAYMENTS_URL")]
    pub payments_url: Option<Service>,
    /// Fail if fewer rides than this were completed.
    #[arg(long, default_value_t = 0)]
    pub expect_completed: u64,
    /// Write the report as JSON into this file, too.
    #[arg(long)]
    pub json: Option<PathBuf>,
}
