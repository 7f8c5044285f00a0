//! What can be wrong with the order of events: who wrote them, what caused them, which timers fired,
//! and which step of the saga is missing.

use common::id::TripId;
use serde::Serialize;
use uuid::Uuid;

use super::History;
use crate::audit::coverage::Reaction;

/// An event where it cannot be, or none where one must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(tag = "violation", rename_all = "snake_case")]
pub enum OrderViolation {
    /// One command made two events, or one event was stored twice.
    #[error("event `{id}` is in the log twice: {stream} {first} and {stream} {second}")]
    EventTwice { id: Uuid, stream: String, first: u64, second: u64 },
    /// Two events of one history name the same command.
    #[error("{history}: version {version} was made by the command that had made version {before}")]
    CommandTwice { history: History, before: u64, version: u64 },
    /// The snapshot does not name the last commands.
    #[error("{history}: version {version} does not remember the commands before it")]
    Forgetful { history: History, version: u64 },
    /// Somebody else wrote into a history.
    #[error("{stream} {sequence} was written by `{source_name}`, and only `{owner}` may")]
    ForeignWriter { stream: String, sequence: u64, source_name: String, owner: String },
    /// Subject and envelope name different aggregates.
    #[error("{stream} {sequence} has the subject of `{subject}` and the envelope of `{envelope}`")]
    Misaddressed { stream: String, sequence: u64, subject: Uuid, envelope: Uuid },
    /// The logical clock does not grow along a history.
    #[error(
        "{of}: {stream} {sequence} has logical time {hlc}, not after {before} of the one before"
    )]
    ClockBackwards { of: String, stream: String, sequence: u64, hlc: String, before: String },
    /// The logical clock says that an effect was before its cause.
    #[error(
        "{stream} {sequence} has logical time {hlc}, not after {before} of its cause {cause_stream} {cause}"
    )]
    BeforeItsCause {
        stream: String,
        sequence: u64,
        hlc: String,
        cause_stream: String,
        cause: u64,
        before: String,
    },
    /// What only a timer does was done without one that ran.
    #[error("{history}: `{kind}` (version {version}) is a timer's effect, and no such timer ran")]
    FiredWithoutRunning { history: History, version: u64, kind: String },
    /// A timer goes on though it fired, or though nothing waits for it.
    #[error(
        "{history}: timer `{timer}` ({kind}) still runs after version {version}, which ended it"
    )]
    TimerLeft { history: History, version: u64, timer: Uuid, kind: String },
    /// A timer is long overdue and had no effect.
    #[error("{history}: timer `{timer}` ({kind}) is overdue by {overdue_s} s and had no effect")]
    TimerOverdue { history: History, timer: Uuid, kind: String, overdue_s: u64 },
    /// It goes on, and nothing will ever end that.
    #[error("{history}: after version {version} a timer `{missing}` must run, and none does")]
    Stuck { history: History, version: u64, missing: String },
    /// A step of the saga was not taken.
    #[error("{stream} {sequence} (`{kind}`): {reaction} did not happen: {missing}")]
    ReactionMissing {
        reaction: Reaction,
        stream: String,
        sequence: u64,
        kind: String,
        trip: Option<TripId>,
        missing: String,
    },
}

impl OrderViolation {
    pub(super) fn trip(&self) -> Option<TripId> {
        match self {
            Self::CommandTwice { history, .. }
            | Self::Forgetful { history, .. }
            | Self::FiredWithoutRunning { history, .. }
            | Self::TimerLeft { history, .. }
            | Self::TimerOverdue { history, .. }
            | Self::Stuck { history, .. } => history.trip(),
            Self::ReactionMissing { trip, .. } => *trip,
            Self::EventTwice { .. }
            | Self::ForeignWriter { .. }
            | Self::Misaddressed { .. }
            | Self::ClockBackwards { .. }
            | Self::BeforeItsCause { .. } => None,
        }
    }
}
