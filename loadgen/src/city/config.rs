//! Which city to simulate.

use std::path::PathBuf;

use crate::client::Service;

/// What city to simulate.
#[derive(Debug, Clone, clap::Args)]
pub struct CityConfig {
    /// The driver gateway.
    #[arg(long, env = "DRIVER_URL", default_value = "http://127.0.0.1:7001")]
    pub driver_url: Service,
    /// The rider gateway.
    #[arg(long, env = "RIDER_URL", default_value = "http://127.0.0.1:7002")]
    pub rider_url: Service,
    /// What demand and dispositions are drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Cars that send their positions; at one ping in 4.5 s, 15,000 make 200,000 a minute.
    #[arg(long, default_value_t = 15_000)]
    pub drivers: u64,
    /// Drivers among them who are online and take rides.
    #[arg(long, default_value_t = 600)]
    pub on_shift: u64,
    /// Between two pings of a car, milliseconds.
    #[arg(long, default_value_t = 4500)]
    pub ping_every_ms: u64,
    /// Keep-alive connections that the cars off shift share.
    #[arg(long, default_value_t = 256)]
    pub connections: usize,
    /// Rides a minute that are wanted in the mean of the week.
    #[arg(long, default_value_t = 100.0)]
    pub rides_per_minute: f64,
    /// Hours after Monday began at which the city starts (66 is Wednesday, 18:00).
    #[arg(long, default_value_t = 59.0)]
    pub start_hour: f64,
    /// The same demand at every hour.
    #[arg(long)]
    pub steady: bool,
    /// How many times faster than life cars move and the city's clock goes. Timers stay real.
    #[arg(long, default_value_t = 5.0)]
    pub time_scale: f64,
    /// How long rides are wanted, in seconds; until stopped if left out.
    #[arg(long)]
    pub duration_s: Option<u64>,
    /// How long to wait at the end for rides that are under way, seconds.
    #[arg(long, default_value_t = 30)]
    pub drain_s: u64,
    /// Where the phones write down what they were promised.
    #[arg(long, default_value = "city.journal.jsonl")]
    pub journal: PathBuf,
}
