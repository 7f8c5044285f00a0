//! What can be said to operations' commands.

use clap::{Args, Subcommand};
use common::{
    clock::Timestamp,
    consumer::Class,
    dead_letters::{Filter, State},
};

use crate::client::Service;

/// How to come in.
#[derive(Debug, Clone, Args)]
pub struct Door {
    /// A token of the role `ops`. Without one the service's development issuer is asked.
    #[arg(long, env = "OPS_TOKEN", hide_env_values = true, global = true)]
    pub token: Option<String>,
}

/// Dead letters of a deployment.
#[derive(Debug, Clone, Args)]
pub struct DlqConfig {
    /// Where the trip service is.
    #[arg(long, env = "TRIP_URL", default_value = "http://127.0.0.1:7004", global = true)]
    pub trip_url: Service,
    /// How to come in.
    #[command(flatten)]
    pub door: Door,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: DlqCommand,
}

/// What to do about dead letters.
#[derive(Debug, Clone, Subcommand)]
pub enum DlqCommand {
    /// List what could not be handled, oldest first.
    List {
        /// Which.
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show one letter: headers, payload, and who did what about it.
    Show {
        /// Its number.
        letter: u64,
    },
    /// Send letters back to the consumer that gave them up, one first, and follow what becomes of
    /// them.
    Replay {
        /// Which.
        #[command(flatten)]
        which: WhichArgs,
        /// Why; it is kept.
        #[arg(long)]
        reason: String,
        /// How many each second.
        #[arg(long)]
        rate: Option<u32>,
        /// Also those that were handled or discarded before. It changes nothing that is done.
        #[arg(long)]
        again: bool,
    },
    /// Decide that nothing shall come of letters. They stay, with who decided and why.
    Discard {
        /// Which.
        #[command(flatten)]
        which: WhichArgs,
        /// Why; it is kept.
        #[arg(long)]
        reason: String,
    },
    /// List the replays of late.
    Runs,
}

/// Which letters, by what they are.
#[derive(Debug, Clone, Default, Args)]
pub struct FilterArgs {
    /// The consumer that gave it up: `trip-process`, or of one partition `trip-process-3`.
    #[arg(long)]
    consumer: Option<String>,
    /// The stream it was in, such as `TRIP`.
    #[arg(long)]
    stream: Option<String>,
    /// Why it is there: transient, permanent, hung or fatal.
    #[arg(long)]
    class: Option<Class>,
    /// What it says it is, such as `trip.completed`.
    #[arg(long)]
    kind: Option<String>,
    /// What became of it: open, replaying, handled, failed or discarded.
    #[arg(long)]
    state: Option<State>,
    /// Given up at this time (RFC 3339) or later.
    #[arg(long)]
    since: Option<Timestamp>,
    /// Given up before this time (RFC 3339).
    #[arg(long)]
    until: Option<Timestamp>,
}

impl FilterArgs {
    /// As the service understands it.
    #[must_use]
    pub fn filter(&self) -> Filter {
        Filter {
            consumer: self.consumer.clone(),
            stream: self.stream.clone(),
            class: self.class,
            kind: self.kind.clone(),
            state: self.state,
            since: self.since,
            until: self.until,
        }
    }
}

/// One letter by its number, or all that a filter takes.
#[derive(Debug, Clone, Args)]
pub struct WhichArgs {
    /// One letter's number, instead of a filter.
    letter: Option<u64>,
    #[command(flatten)]
    filter: FilterArgs,
}

pub(super) enum Which {
    One(u64),
    Many(Filter),
}

impl WhichArgs {
    pub(super) fn which(&self) -> anyhow::Result<Which> {
        let filter = self.filter.filter();
        match (self.letter, filter == Filter::default()) {
            (Some(letter), true) => Ok(Which::One(letter)),
            (None, false) => Ok(Which::Many(filter)),
            (Some(_), false) => anyhow::bail!("either a letter's number or a filter"),
            (None, true) => anyhow::bail!("which letters? give a number or a filter"),
        }
    }
}

/// Whether what was charged is what is owed.
#[derive(Debug, Clone, Args)]
pub struct ReconcileConfig {
    /// Where the rider service is.
    #[arg(long, env = "RIDER_URL", default_value = "http://127.0.0.1:7002")]
    pub rider_url: Service,
    /// How to come in.
    #[command(flatten)]
    pub door: Door,
    /// Compare now, for this reason, rather than show what the last night found.
    #[arg(long, value_name = "REASON")]
    pub now: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
