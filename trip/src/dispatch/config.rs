//! How the dispatcher works; a sentence for each setting.

use std::time::Duration;

/// How open trips are matched with drivers.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct DispatchConfig {
    /// How long requests are gathered before they are matched together, in milliseconds; 0 = at
    /// once when a trip opens or changes.
    #[arg(long, env = "DISPATCH_WINDOW_MS", default_value_t = 1_000)]
    pub window_ms: u64,
    /// With a window of 0: pause before a trip that found nobody is tried again, in milliseconds.
    #[arg(long, env = "DISPATCH_RETRY_MS", default_value_t = 1_000)]
    pub retry_ms: u64,
    /// How many trips are matched together at most, those waiting longest first.
    #[arg(long, env = "DISPATCH_BATCH_MAX", default_value_t = 1_000)]
    pub batch_max: usize,
    /// How many drivers are considered for each trip, the nearest by road.
    #[arg(long, env = "DISPATCH_CANDIDATES_MAX", default_value_t = 20)]
    pub candidates_max: u32,
    /// How far away a driver may be.
    #[command(flatten)]
    pub cap: PickupCap,
    /// How many trips' candidates are asked for at the same time.
    #[arg(long, env = "DISPATCH_QUERIES_MAX", default_value_t = 32)]
    pub queries_max: usize,
    /// How long the answer to one such question is waited for, in milliseconds.
    #[arg(long, env = "DISPATCH_QUERY_TIMEOUT_MS", default_value_t = 500)]
    pub query_timeout_ms: u64,
    /// How many pairs the solver may look at in one batch before it takes the cheapest first.
    #[arg(long, env = "DISPATCH_STEPS_MAX", default_value_t = 5_000_000)]
    pub steps_max: u64,
    /// How long a driver who was just proposed is left out of further batches while the news has
    /// not reached everyone, in milliseconds.
    #[arg(long, env = "DISPATCH_HOLD_MS", default_value_t = 5_000)]
    pub hold_ms: u64,
}

/// How far away a driver may be: at first near, since long ways to the pickup eat the fleet, then
/// farther for those who found nobody.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct PickupCap {
    /// The longest way to the pickup at first, in seconds.
    #[arg(long, env = "DISPATCH_ETA_FIRST_S", default_value_t = 480)]
    pub eta_first_s: u32,
    /// By how much a failed round lengthens it, in seconds.
    #[arg(long, env = "DISPATCH_ETA_WIDENING_S", default_value_t = 120)]
    pub eta_widening_s: u32,
    /// The longest way to the pickup ever, in seconds.
    #[arg(long, env = "DISPATCH_ETA_MAX_S", default_value_t = 900)]
    pub eta_max_s: u32,
    /// How long a round lasts that may fail, in milliseconds: windows are short, and each of them
    /// counted as a failure would give up the near limit within seconds.
    #[arg(long, env = "DISPATCH_ROUND_MS", default_value_t = 10_000)]
    pub round_ms: u64,
}

impl Default for DispatchConfig {
    fn default() -> Self {
        Self {
            window_ms: 1_000,
            retry_ms: 1_000,
            batch_max: 1_000,
            candidates_max: 20,
            cap: PickupCap::default(),
            queries_max: 32,
            query_timeout_ms: 500,
            steps_max: 5_000_000,
            hold_ms: 5_000,
        }
    }
}

impl Default for PickupCap {
    fn default() -> Self {
        Self { eta_first_s: 480, eta_widening_s: 120, eta_max_s: 900, round_ms: 10_000 }
    }
}

impl DispatchConfig {
    /// See `window_ms`.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms)
    }

    /// How long a trip that found nobody is put off: into the next window, or where there is none
    /// for `retry_ms`.
    #[must_use]
    pub fn retry(&self) -> Duration {
        if self.window_ms == 0 { Duration::from_millis(self.retry_ms) } else { Duration::ZERO }
    }

    /// See `query_timeout_ms`.
    #[must_use]
    pub fn query_timeout(&self) -> Duration {
        Duration::from_millis(self.query_timeout_ms)
    }

    /// See `hold_ms`.
    #[must_use]
    pub fn hold(&self) -> Duration {
        Duration::from_millis(self.hold_ms)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::DispatchConfig;

    #[derive(clap::Parser)]
    struct CommandLine {
        #[command(flatten)]
        dispatch: DispatchConfig,
    }

    #[test]
    fn what_nobody_sets_is_what_the_code_calls_default() {
        let parsed = CommandLine::parse_from(["trip"]).dispatch;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", DispatchConfig::default()));
    }
}
