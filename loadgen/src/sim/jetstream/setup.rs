//! How the simulated broker is set up, and how it goes down.

use std::time::Duration;

/// The order in which a publish is checked depends on how many nodes keep the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replicas {
    /// Compare-and-set first: a repeated publish is refused with 10071.
    #[default]
    One,
    /// Duplicates first: a repeated publish is acknowledged as a duplicate.
    Three,
}

/// How the simulated broker is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// See [`Replicas`].
    pub replicas: Replicas,
    /// What all streams may take together.
    pub max_file_bytes: Option<u64>,
    /// How much later than it has to a timer fires.
    pub timer_lateness: Duration,
}

/// How the broker goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// In order: everything is written.
    Stopped,
    /// `kill -9`: facts stay; what consumers did in the last tenth of a second may be forgotten.
    Killed,
    /// The machine crashed: streams that are not synced before their ack lose this many messages.
    PowerLost {
        /// How many.
        unsynced: u64,
    },
}
