//! What a chaos run can be told, and its two profiles.

use std::{path::PathBuf, time::Duration};

use super::{incident::Kind, storm::Weather};
use crate::cli::duration;

/// Make everything fail, and audit that nothing was lost and nothing doubled.
#[derive(Debug, Clone, clap::Args)]
pub struct ChaosConfig {
    /// About three minutes: every fault and every failpoint once.
    #[arg(long)]
    pub short: bool,
    /// What the plan, the network's errors and the city are drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long the storm lasts, such as `90s`; the profile's if left out.
    #[arg(long, value_parser = duration)]
    pub storm: Option<Duration>,
    /// How often the healing of each fault is measured; the profile's if left out.
    #[arg(long)]
    pub trials: Option<u32>,
    /// Only these faults, such as `disk-full,broker-killed`, each in turn.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) only: Vec<Kind>,
    /// Rides a minute; the profile's if left out.
    #[arg(long)]
    pub rides_per_minute: Option<f64>,
    /// Cars that send their positions, those on shift among them; the profile's if left out.
    #[arg(long)]
    pub cars: Option<u64>,
    /// Where streams, stores, logs and the journal are kept; in a temporary directory if left out,
    /// which is left behind when something was wrong.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Write the report as JSON into this file, too.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write the tables as Markdown into this file, too.
    #[arg(long)]
    pub markdown: Option<PathBuf>,
    /// What the services log, in files of their own.
    #[arg(long, default_value = "warn,common::event_store=debug")]
    pub service_log: String,
}

/// How long and how hard, and what has to be reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Profile {
    pub(super) name: &'static str,
    pub(super) quiet: Duration,
    pub(super) storm: Duration,
    /// How often the healing of each fault is measured.
    pub(super) trials: u32,
    pub(super) rides_per_minute: f64,
    pub(super) cars: u64,
    pub(super) on_shift: u64,
    /// Connections that the cars off shift share: as many as it takes for the pings to go on while
    /// some of them wait for an answer that does not come.
    pub(super) connections: usize,
    /// How likely each error of the network is while the storm lasts.
    pub(super) weather: Weather,
    /// Between two deaths of a service, once it has worked off what the last one left.
    pub(super) between_deaths: (Duration, Duration),
    /// How many more zombies there are than other incidents of each kind.
    pub(super) more_zombies: u64,
    pub(super) bars: Bars,
}

/// What a run has to reach to count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bars {
    /// Errors of the network, all kinds.
    pub(super) errors: u64,
    /// Dropped publishes, dropped acks, doubled deliveries, deliveries after the ack wait and
    /// connection resets, each.
    pub(super) errors_each: u64,
    pub(super) crashes: u64,
    pub(super) zombies: u64,
    pub(super) completed: u64,
    /// Each failpoint.
    pub(super) failpoint: u64,
    /// Each other fault.
    pub(super) incident: u64,
    /// Each row of the tables of reactions.
    pub(super) reaction: u64,
}

const SHORT: Profile = Profile {
    name: "short",
    quiet: Duration::from_secs(8),
    storm: Duration::from_secs(140),
    trials: 0,
    rides_per_minute: 120.0,
    cars: 200,
    on_shift: 60,
    connections: 64,
    weather: Weather { facts: 0.003, pings: 0.02, views: 0.0002, http: 0.004, http_pings: 0.01 },
    between_deaths: (Duration::from_millis(200), Duration::from_millis(1_000)),
    more_zombies: 0,
    bars: Bars {
        errors: 1_000,
        errors_each: 20,
        crashes: 20,
        zombies: 1,
        completed: 50,
        failpoint: 1,
        incident: 1,
        reaction: 0,
    },
};

const LONG: Profile = Profile {
    name: "long",
    quiet: Duration::from_secs(15),
    storm: Duration::from_secs(22 * 60),
    trials: 2,
    rides_per_minute: 300.0,
    cars: 2_000,
    on_shift: 250,
    connections: 600,
    weather: Weather { facts: 0.003, pings: 0.04, views: 0.0002, http: 0.004, http_pings: 0.01 },
    between_deaths: (Duration::from_millis(200), Duration::from_millis(1_000)),
    more_zombies: 1,
    bars: Bars {
        errors: 300_000,
        errors_each: 30_000,
        crashes: 100,
        zombies: 20,
        completed: 5_000,
        failpoint: 10,
        incident: 10,
        reaction: 10,
    },
};

impl ChaosConfig {
    pub(super) fn profile(&self) -> Profile {
        let profile = if self.short { SHORT } else { LONG };
        let cars = self.cars.unwrap_or(profile.cars);
        Profile {
            storm: self.storm.unwrap_or(profile.storm),
            trials: self.trials.unwrap_or(profile.trials),
            rides_per_minute: self.rides_per_minute.unwrap_or(profile.rides_per_minute),
            cars,
            on_shift: profile.on_shift.min(cars),
            ..profile
        }
    }
}
