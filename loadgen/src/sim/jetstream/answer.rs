//! What the simulated broker says: acknowledgements, refusals, deliveries and republished messages.

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use common::clock::Timestamp;

/// Error codes of the real server's JetStream API.
pub mod code {
    /// The account has no room left.
    pub const ACCOUNT_RESOURCES: u64 = 10_002;
    /// The server has no room left.
    pub const INSUFFICIENT_RESOURCES: u64 = 10_023;
    /// A stream's limit is more than there is room for.
    pub const STORAGE_RESOURCES: u64 = 10_047;
    /// No such message.
    pub const NO_MESSAGE: u64 = 10_037;
    /// A setting that the stream cannot have.
    pub const INVALID_STREAM: u64 = 10_052;
    /// A stream of that name has other settings.
    pub const STREAM_NAME_IN_USE: u64 = 10_058;
    /// No such stream.
    pub const NO_STREAM: u64 = 10_059;
    /// The message is meant for another stream.
    pub const STREAM_MISMATCH: u64 = 10_060;
    /// Another stream has some of these subjects.
    pub const SUBJECTS_OVERLAP: u64 = 10_065;
    /// Compare-and-set: somebody else was faster.
    pub const WRONG_LAST_SEQUENCE: u64 = 10_071;
    /// A limit of the stream stands in the way.
    pub const STORE_FAILED: u64 = 10_077;
    /// A work queue wants explicit acks.
    pub const QUEUE_WITHOUT_ACK: u64 = 10_098;
    /// Two consumers without a filter on a work queue.
    pub const QUEUE_UNFILTERED: u64 = 10_099;
    /// Two consumers with overlapping filters on a work queue.
    pub const QUEUE_OVERLAP: u64 = 10_100;
    /// A consumer of a work queue begins with the first message.
    pub const QUEUE_NOT_ALL: u64 = 10_101;
    /// The message would replace others where that is not allowed.
    pub const ROLLUP_FAILED: u64 = 10_111;
    /// No such consumer.
    pub const NO_CONSUMER: u64 = 10_014;
    /// A consumer of that name has other settings.
    pub const CONSUMER_EXISTS: u64 = 10_148;
    /// Filters of one consumer overlap.
    pub const FILTERS_OVERLAP: u64 = 10_138;
    /// A message's time to live is not one.
    pub const TTL_INVALID: u64 = 10_165;
    /// Messages of this stream live for ever.
    pub const TTL_DISABLED: u64 = 10_166;
    /// The stream takes no schedules.
    pub const SCHEDULES_DISABLED: u64 = 10_188;
    /// Not a schedule.
    pub const SCHEDULE_INVALID: u64 = 10_189;
    /// The schedule's target is not one of the stream's subjects.
    pub const SCHEDULE_TARGET_INVALID: u64 = 10_190;
    /// The time to live of what a schedule fires is not one.
    pub const SCHEDULE_TTL_INVALID: u64 = 10_191;
    /// A schedule may only replace its own subject.
    pub const SCHEDULE_ROLLUP_INVALID: u64 = 10_192;
    /// What the message would end is no schedule.
    pub const SCHEDULER_INVALID: u64 = 10_212;
    /// A subject to compare, without a sequence to compare with.
    pub const EXPECTED_SUBJECT_INVALID: u64 = 10_193;
    /// Not the server's: the simulation does not know this feature.
    pub const NOT_MODELLED: u64 = 0;
}

/// What the broker does not carry out, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{description} ({code})")]
pub struct Refused {
    /// The server's error code; see [`code`].
    pub code: u64,
    /// In words.
    pub description: String,
}

impl Refused {
    pub(super) fn new(code: u64, description: impl Into<String>) -> Self {
        Self { code, description: description.into() }
    }

    /// For what the real server can and this one cannot: louder than a wrong answer.
    pub(super) fn not_modelled(what: &str) -> Self {
        Self::new(code::NOT_MODELLED, format!("not modelled: {what}"))
    }

    pub(super) fn no_stream() -> Self {
        Self::new(code::NO_STREAM, "stream not found")
    }
}

/// Why a publish stored nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No stream has the subject: nobody answers.
    #[error("no stream takes this subject")]
    NoStream,
    /// The stream refused.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// A publish that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// By which stream.
    pub stream: String,
    /// Where the message is; for a duplicate, where the first one is.
    pub sequence: u64,
    /// Whether a message of the same id had been stored before, so that nothing was stored now.
    pub duplicate: bool,
}

/// A stored message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When it was stored.
    pub published: Timestamp,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
}

/// Whoever pulls: what the broker delivers is addressed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader(pub u64);

/// What a pinned consumer's owner shows with every pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin(pub u64);

/// Names a delivery when it is answered; the real server has the same in its reply subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The message's sequence in the stream.
    pub sequence: u64,
    /// Which delivery of the consumer it is.
    pub delivered: u64,
    /// Which try of the message it is.
    pub attempt: u64,
}

/// A message handed to a reader.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// To whom.
    pub reader: Reader,
    /// From which stream.
    pub stream: String,
    /// By which consumer.
    pub consumer: String,
    /// What.
    pub message: Arc<Message>,
    /// To answer with.
    pub receipt: Receipt,
    /// How many more the consumer has to read.
    pub pending: u64,
    /// The pin that its owner has from now on.
    pub pin: Option<Pin>,
}

/// Why a pull ended without having all that it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It waited long enough (408).
    Expired,
    /// It did not want to wait (404).
    NoMessages,
    /// It did not want to wait, and earlier pulls already ask for more than there is (408).
    OthersWait,
    /// It showed a pin that is no longer the owner's (423).
    WrongPin,
    /// There are too many pulls (409).
    TooMany,
    /// It names no group, or one that the consumer does not have (400).
    WrongGroup,
}

/// What leaves the broker without having been asked for in that very call.
#[derive(Debug, Clone)]
pub enum Output {
    /// A message for a reader.
    Delivered(Delivery),
    /// A pull is over.
    PullEnded {
        /// Whose.
        reader: Reader,
        /// Of which stream.
        stream: String,
        /// Of which consumer.
        consumer: String,
        /// Why.
        why: Ended,
    },
    /// A copy of what was stored, for plain subscribers.
    Republished {
        /// Where.
        subject: String,
        /// With `Nats-Stream`, `Nats-Subject`, `Nats-Sequence` and `Nats-Last-Sequence`.
        headers: HeaderMap,
        /// What.
        payload: Bytes,
    },
}
