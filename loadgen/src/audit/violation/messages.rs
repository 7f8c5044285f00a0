//! What can be wrong with messages: not handled, given up without a copy, tried too often.

use serde::Serialize;

/// A message that is neither handled nor kept as a dead letter, exactly once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(tag = "violation", rename_all = "snake_case")]
pub enum MessageViolation {
    /// A consumer has messages that it was not given, or did not answer.
    #[error(
        "consumer `{consumer}` of {stream}: {pending} messages wait, {unanswered} have no answer"
    )]
    Unhandled { consumer: String, stream: String, pending: u64, unanswered: u64 },
    /// Nobody answered for a message and nobody is given it any more, and there is no copy of it.
    #[error(
        "consumer `{consumer}` let go of {stream} {sequence}, which is not in the dead-letter queue"
    )]
    Lost { consumer: String, stream: String, sequence: u64 },
    /// A durable command that nobody carries out.
    #[error("{stream} {sequence} is still in its work queue (`{subject}`)")]
    LeftInQueue { stream: String, sequence: u64, subject: String },
    /// A dead letter that nobody made to fail.
    #[error(
        "dead letter {letter}: consumer `{consumer}` gave up {stream} {sequence} (`{subject}`) after {attempts} tries: {error}"
    )]
    DeadUnexpected {
        letter: u64,
        consumer: String,
        stream: String,
        sequence: u64,
        subject: String,
        attempts: u64,
        error: String,
    },
    /// One message has two dead letters of one consumer.
    #[error(
        "dead letters {first} and {second} are of the same {stream} {sequence} and `{consumer}`"
    )]
    DeadTwice { consumer: String, stream: String, sequence: u64, first: u64, second: u64 },
    /// A dead letter of a message that there never was, or that is another one.
    #[error("dead letter {letter} says that it is {stream} {sequence} of `{consumer}`, but {why}")]
    DeadFromNowhere { letter: u64, consumer: String, stream: String, sequence: u64, why: String },
    /// Poison that is not in the dead-letter queue.
    #[error("poison {stream} {sequence} is not in the dead-letter queue")]
    PoisonNotDead { stream: String, sequence: u64 },
    /// More tries than allowed.
    #[error("{stream} {sequence} was tried {tries} times by `{consumer}`; {tries_max} are allowed")]
    TriedTooOften { consumer: String, stream: String, sequence: u64, tries: u64, tries_max: u64 },
    /// A consumer is not set as it is declared.
    #[error("consumer `{consumer}` of {stream} is set otherwise than declared: {setting}")]
    SetOtherwise { consumer: String, stream: String, setting: String },
}
