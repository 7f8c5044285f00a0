//! What is counted and measured: every name that a service shows at `GET /metrics`, in one place.
//! A metric is emitted through its declaration, so there is none that is not declared.

mod recorder;

pub use recorder::{Counter, Gauge, Histogram, render, upkeep};

/// For what needs no telling apart.
pub const NO_LABELS: [(&str, &str); 0] = [];

/// An HTTP request was answered: `service`, `route` (as declared, never with an id), `status`.
pub static HTTP_REQUESTS: Counter =
    Counter::new("http_requests_total", "Answered requests by service, route and status.");
/// How long the head of an answer took: `service`, `route`.
pub static HTTP_SECONDS: Histogram =
    Histogram::new("http_request_seconds", "Time to the head of the answer by service and route.");

/// Appends to histories: `aggregate`, `outcome` (see [`Appended`]).
pub static APPENDS: Counter = Counter::new(
    "event_store_appends_total",
    "Appends to histories: stored, unknown (only the log knows), refused (the broker would not).",
);

/// Messages given to a handler: `consumer`.
pub static CONSUMER_DELIVERIES: Counter =
    Counter::new("consumer_deliveries_total", "Messages given to a handler, repeated ones too.");
/// Messages given to a handler again: `consumer`.
pub static CONSUMER_REDELIVERIES: Counter =
    Counter::new("consumer_redeliveries_total", "Messages given to a handler not the first time.");
/// Tries that failed: `consumer`, `class` (as on a dead letter).
pub static CONSUMER_FAILURES: Counter =
    Counter::new("consumer_failures_total", "Tries that failed, for now or for ever.");
/// Messages given up: `consumer` (the durable one, of its partition).
pub static CONSUMER_DEAD_LETTERS: Counter =
    Counter::new("consumer_dead_letters_total", "Messages that went to the dead-letter queue.");

/// Messages that a consumer has not been given yet, of all its partitions: `consumer`.
pub static CONSUMER_PENDING: Gauge =
    Gauge::new("consumer_pending", "Messages that a consumer has not been given yet.");
/// Messages given to a consumer and not acknowledged: `consumer`.
pub static CONSUMER_IN_HAND: Gauge =
    Gauge::new("consumer_in_hand", "Messages given to a consumer and not acknowledged.");
/// Those of them that were given more than once: `consumer`.
pub static CONSUMER_REDELIVERED: Gauge = Gauge::new(
    "consumer_redelivered",
    "Messages given to a consumer more than once and not acknowledged.",
);
/// Letters of which something has to become.
pub static DLQ_DEPTH: Gauge =
    Gauge::new("dlq_depth", "Dead letters that nobody has replayed with success or discarded.");

/// Pings answered with "stored".
pub static PINGS_ACCEPTED: Counter =
    Counter::new("pings_accepted_total", "Pings that the stream acknowledged.");

/// A circuit breaker: `dependency`; 0 closed, 1 half-open, 2 open.
pub static BREAKER_STATE: Gauge =
    Gauge::new("breaker_state", "A dependency's breaker: 0 closed, 1 half-open, 2 open.");
/// Calls that a breaker let through: `dependency`, `outcome` (`success`, `failure`).
pub static BREAKER_CALLS: Counter =
    Counter::new("breaker_calls_total", "Calls to a dependency behind a breaker, by outcome.");

/// Rows that are committed and not published.
pub static OUTBOX_WAITING: Gauge =
    Gauge::new("outbox_waiting", "Rows that are committed and not yet published.");

/// What is refused for want of room: `load` (`pings`, `rides`).
pub static ROOM_REFUSED: Counter =
    Counter::new("room_refused_total", "Requests refused because the store is nearly full.");
/// What the account stores.
pub static ROOM_USED_MIB: Gauge = Gauge::new("room_used_mib", "What the broker stores, MiB.");
/// What it may store; 0 while that is not known.
pub static ROOM_MAX_MIB: Gauge = Gauge::new("room_max_mib", "What the broker may store, MiB.");

/// Histories that were written to the archive: `aggregate`.
pub static ARCHIVED: Counter =
    Counter::new("archived_total", "Histories that were written to the archive.");
/// Messages that were removed from a stream to make room: `stream`.
pub static TRIMMED: Counter =
    Counter::new("trimmed_total", "Messages removed from a stream because of their age.");

/// How far the logical clock is ahead of broker time.
pub static HLC_DRIFT_MS: Gauge =
    Gauge::new("hlc_drift_ms", "How far the logical clock is ahead of broker time, milliseconds.");
/// Logical times that were too far ahead to be taken over.
pub static HLC_REFUSED: Counter =
    Counter::new("hlc_refused_total", "Logical times from too far in the future, not taken over.");
/// This machine's clock against the broker's.
pub static CLOCK_OFFSET_MS: Gauge =
    Gauge::new("clock_offset_ms", "Broker time minus this machine's, milliseconds.");
/// How far this machine's clock on the wall was set since the process began; it follows the broker's.
pub static CLOCK_SET_MS: Gauge = Gauge::new(
    "clock_set_ms",
    "By how much this machine's clock was set since the process began, milliseconds.",
);

/// How an append ended, as the label `outcome` of [`APPENDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// On the stream.
    Stored,
    /// A time-out, another sequence or a duplicate: only the log knows.
    Unknown,
    /// The broker would not, or is away.
    Refused,
}

impl Appended {
    /// The label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
        }
    }
}
