//! What goes wrong in one run: a subset of all faults, each with its own rate, drawn from the seed
//! (swarm testing: a fault that is always on hides what happens without it).

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use serde::Serialize;

use super::jetstream::Replicas;

/// What happens to messages on one kind of way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Wire {
    /// Share of messages that get lost.
    pub dropped: f64,
    /// Share of messages that arrive twice.
    pub doubled: f64,
    /// Share of messages that take seconds.
    pub delayed: f64,
}

/// What happens to processes and what they depend on while faults are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mishap {
    /// A process dies at any of its awaits and is started again.
    Crash,
    /// A process stands still and goes on as if nothing had happened.
    Pause,
    /// A process and the broker do not reach each other.
    Cut,
    /// The broker dies and is started again.
    BrokerCrash,
    /// The account is full for a while; timers that are due then are lost until a restart.
    FullAccount,
    /// The payment provider does not answer.
    ProviderOutage,
    /// A driver's phone falls silent for a while.
    Silence,
}

const MISHAPS: [Mishap; 7] = [
    Mishap::Crash,
    Mishap::Pause,
    Mishap::Cut,
    Mishap::BrokerCrash,
    Mishap::FullAccount,
    Mishap::ProviderOutage,
    Mishap::Silence,
];

/// The kind of run: most have a bit of everything, some have much of one thing, for what needs several
/// misfortunes of a kind within seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weather {
    /// Any subset of the mishaps, each message rarely hurt.
    Mixed,
    /// Phones and gateways hardly reach each other: calls get lost, come twice and overtake others.
    FlakyCalls,
    /// The account is full for long and often, and no restart brings back the timers that it lost.
    Full,
    /// Processes stand still all the time, and go on with what they believed.
    Zombies,
    /// The payment provider's answers get lost, then it is away, then it has forgotten the keys.
    ForgetfulProvider,
}

/// All that is drawn from a seed besides the order of things.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Options {
    /// From this.
    pub seed: u64,
    /// What kind of run it is.
    pub weather: Weather,
    /// How many drivers there are.
    pub drivers: u64,
    /// How many riders there are.
    pub riders: u64,
    /// Partitions of the deployment.
    pub partitions: u32,
    /// Whether the broker checks duplicates before it compares sequences, as one of three nodes does.
    pub three_nodes: bool,
    /// Between processes and the broker.
    pub broker: Wire,
    /// Between phones and gateways, and between gateways and `trip`.
    pub calls: Wire,
    /// Between payments and the provider.
    pub provider: Wire,
    /// Share of reads that a lagging replica answers.
    pub stale_reads: f64,
    /// What else goes wrong.
    pub mishaps: Vec<Mishap>,
    /// The mean time between two mishaps, in milliseconds.
    pub mishap_every_ms: u64,
    /// How long the account is full at most, in milliseconds.
    pub full_max_ms: u64,
    /// How many of a hundred drivers do what they should once they have a trip.
    pub honest_percent: u64,
    /// How wrong the processes' clocks are at most, in seconds.
    pub clock_skew_s: u64,
    /// After this long the provider has forgotten a key, in seconds.
    pub keys_forgotten_s: u64,
    /// How late the broker fires timers.
    pub timers_late_ms: u64,
}

impl Options {
    /// What the seed says.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut chance = ChaCha8Rng::seed_from_u64(seed ^ 0x9e37_79b9_7f4a_7c15);
        let chance = &mut chance;
        let mixed = Self {
            seed,
            weather: weather(chance),
            drivers: chance.random_range(2..6),
            riders: chance.random_range(2..6),
            partitions: chance.random_range(1..3),
            three_nodes: chance.random_bool(0.3),
            broker: wire(chance),
            calls: wire(chance),
            provider: wire(chance),
            stale_reads: rate(chance, 0.2),
            mishaps: MISHAPS.into_iter().filter(|_| chance.random_bool(0.5)).collect(),
            mishap_every_ms: chance.random_range(3_000..25_000),
            full_max_ms: 15_000,
            honest_percent: chance.random_range(20..90),
            clock_skew_s: if chance.random_bool(0.5) { 300 } else { 0 },
            keys_forgotten_s: if chance.random_bool(0.6) { 10 } else { 24 * 3600 },
            timers_late_ms: chance.random_range(0..250),
        };
        mixed.with_much_of_one_thing(chance)
    }

    fn with_much_of_one_thing(self, chance: &mut ChaCha8Rng) -> Self {
        match self.weather {
            Weather::Mixed => self,
            Weather::FlakyCalls => {
                let mut much = || chance.random_range(0.1..0.35);
                let calls = Wire { dropped: much(), doubled: much(), delayed: much() };
                Self { calls, ..self }
            }
            Weather::Full => Self {
                mishaps: vec![Mishap::FullAccount],
                mishap_every_ms: chance.random_range(10_000..30_000),
                full_max_ms: 45_000,
                ..self
            },
            Weather::ForgetfulProvider => {
                let mut much = || chance.random_range(0.1..0.35);
                let provider = Wire { dropped: much(), doubled: much(), delayed: much() };
                let mishaps = vec![Mishap::ProviderOutage];
                let mishap_every_ms = chance.random_range(4_000..12_000);
                Self { provider, mishaps, mishap_every_ms, keys_forgotten_s: 10, ..self }
            }
            Weather::Zombies => Self {
                mishaps: vec![Mishap::Pause],
                mishap_every_ms: chance.random_range(1_500..5_000),
                ..self
            },
        }
    }

    /// As the simulated broker takes it.
    #[must_use]
    pub fn of_broker(&self) -> super::jetstream::Options {
        super::jetstream::Options {
            replicas: if self.three_nodes { Replicas::Three } else { Replicas::One },
            max_file_bytes: None,
            timer_lateness: Duration::from_millis(self.timers_late_ms),
        }
    }
}

fn weather(chance: &mut ChaCha8Rng) -> Weather {
    match chance.random_range(0..100) {
        0..15 => Weather::FlakyCalls,
        15..30 => Weather::Full,
        30..45 => Weather::Zombies,
        45..55 => Weather::ForgetfulProvider,
        _ => Weather::Mixed,
    }
}

fn wire(chance: &mut ChaCha8Rng) -> Wire {
    Wire { dropped: rate(chance, 0.08), doubled: rate(chance, 0.08), delayed: rate(chance, 0.08) }
}

fn rate(chance: &mut ChaCha8Rng, most: f64) -> f64 {
    if chance.random_bool(0.5) { chance.random_range(0.0..most) } else { 0.0 }
}
