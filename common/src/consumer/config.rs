//! How patient consumers are, as a setting: slow enough for production, fast enough for tests.

use std::time::Duration;

use super::share::Share;
use crate::stream::ConsumerKind;

/// The first pause after a transient failure, unless it is set; it doubles with every try.
pub const RETRY_FIRST_MS: u64 = 1_000;

/// How long consumers wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct ConsumerConfig {
    /// The first pause after a transient failure; it doubles with every try.
    #[arg(long, env = "RETRY_FIRST_MS", default_value_t = RETRY_FIRST_MS)]
    pub retry_first_ms: u64,
    /// How long a handler may take for one message, instead of what its kind of consumer allows.
    #[arg(long, env = "HANDLING_MAX_MS")]
    pub handling_max_ms: Option<u64>,
    /// Which of the replicas this is.
    #[command(flatten)]
    pub share: Share,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self { retry_first_ms: RETRY_FIRST_MS, handling_max_ms: None, share: Share::ALIKE }
    }
}

impl ConsumerConfig {
    /// The first pause.
    #[must_use]
    pub fn retry_first(&self) -> Duration {
        Duration::from_millis(self.retry_first_ms)
    }

    /// How long a handler of this kind of consumer may take.
    #[must_use]
    pub fn handling_max(&self, kind: ConsumerKind) -> Duration {
        self.handling_max_ms.map_or_else(|| kind.handling_max(), Duration::from_millis)
    }
}
