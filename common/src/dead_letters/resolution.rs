//! What became of a dead letter: a record for each time that somebody did something about it. The
//! letter itself stays as it was; its history is who did what, when and why.

use std::{fmt, str::FromStr};

use async_nats::{
    HeaderMap,
    jetstream::{
        message::PublishMessage,
        stream::{DirectGetErrorKind, Stream},
    },
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{OperationError, dlq, text};
use crate::{
    clock::Timestamp,
    consumer::{Class, dead},
    contract::Malformed,
    nats::{self, Nats},
    subject,
};

/// How an attempt to resolve a letter ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Its consumer has handled it.
    Handled,
    /// Its consumer gave it up once more.
    Failed,
    /// Somebody decided that nothing shall come of it.
    Discarded,
}

impl Outcome {
    /// Its name in headers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handled => "handled",
            Self::Failed => "failed",
            Self::Discarded => "discarded",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Outcome {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Handled, Self::Failed, Self::Discarded]
            .into_iter()
            .find(|outcome| outcome.name() == text)
            .ok_or_else(|| format!("`{text}` is none of handled, failed, discarded"))
    }
}

/// Who wants something done about letters, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Order {
    /// Who: the id of somebody of operations, or the name of a schedule.
    pub by: String,
    /// Why.
    pub reason: String,
    /// All that was ordered together has the same one.
    pub run: Uuid,
    /// When, in broker time.
    pub at: Timestamp,
}

const BY: &str = "dlq-by";
const REASON: &str = "dlq-reason";
const RUN: &str = "dlq-run";
const ORDERED_AT: &str = "dlq-ordered-at";
const OUTCOME: &str = "dlq-outcome";
const LETTER: &str = "dlq-letter";
const REPLAY: &str = "dlq-replay";

impl Order {
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(BY, dead::one_line(&self.by));
        headers.insert(REASON, dead::one_line(&self.reason));
        headers.insert(RUN, self.run.to_string());
        headers.insert(ORDERED_AT, self.at.to_string());
    }

    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Malformed> {
        Ok(Self {
            by: required(headers, BY)?,
            reason: required(headers, REASON)?,
            run: required(headers, RUN)?,
            at: required(headers, ORDERED_AT)?,
        })
    }
}

/// A header that must be there.
pub(crate) fn required<T: FromStr>(headers: &HeaderMap, name: &'static str) -> Result<T, Malformed>
where
    T::Err: fmt::Display,
{
    let value = text(headers, name).ok_or_else(|| Malformed::missing(name))?;
    value.parse().map_err(|err| Malformed::new(name, err))
}

/// One record of a letter's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Resolution {
    /// The letter's sequence on the DLQ.
    pub letter: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Who wanted it.
    #[serde(flatten)]
    pub order: Order,
    /// When it was resolved, in broker time.
    pub resolved_at: Timestamp,
    /// For a replay, its sequence on the stream of replays: names it.
    pub replay: Option<u64>,
    /// Why it failed once more, in one word.
    pub class: Option<Class>,
    /// Why it failed once more.
    pub error: Option<String>,
    /// How often it was tried this time.
    pub attempts: Option<i64>,
}

impl Resolution {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.order.write(&mut headers);
        headers.insert(LETTER, self.letter.to_string());
        headers.insert(OUTCOME, self.outcome.name());
        headers.insert(dead::FAILED_AT, self.resolved_at.to_string());
        if let Some(replay) = self.replay {
            headers.insert(REPLAY, replay.to_string());
        }
        if let Some(class) = self.class {
            headers.insert(dead::CLASS, class.name());
        }
        if let Some(error) = &self.error {
            headers.insert(dead::ERROR, dead::one_line(error));
        }
        if let Some(attempts) = self.attempts {
            headers.insert(dead::ATTEMPTS, attempts.to_string());
        }
        headers
    }

    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Malformed> {
        Ok(Self {
            letter: required(headers, LETTER)?,
            outcome: required(headers, OUTCOME)?,
            order: Order::read(headers)?,
            resolved_at: required(headers, dead::FAILED_AT)?,
            replay: text(headers, REPLAY).and_then(|replay| replay.parse().ok()),
            class: text(headers, dead::CLASS).and_then(|class| class.parse().ok()),
            error: text(headers, dead::ERROR),
            attempts: text(headers, dead::ATTEMPTS).and_then(|count| count.parse().ok()),
        })
    }

    /// Whether nothing has to be done about the letter any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self.outcome {
            Outcome::Handled | Outcome::Discarded => true,
            Outcome::Failed => false,
        }
    }
}

/// Where a letter is from; that names it and its resolutions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The durable name of the consumer that gave it up.
    pub consumer: String,
    /// The stream of the original.
    pub stream: String,
    /// The original's sequence.
    pub sequence: u64,
}

impl Origin {
    /// From the subject of a letter.
    pub(crate) fn of_letter(subject: &str) -> Option<Self> {
        let mut tokens = subject.strip_prefix("dlq.")?.split('.');
        let (consumer, stream) = (tokens.next()?.to_owned(), tokens.next()?.to_owned());
        let sequence = tokens.next()?.parse().ok()?;
        tokens.next().is_none().then_some(Self { consumer, stream, sequence })
    }

    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(dead::CONSUMER, self.consumer.as_str());
        headers.insert(dead::STREAM, self.stream.as_str());
        headers.insert(dead::SEQUENCE, self.sequence.to_string());
    }

    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Malformed> {
        Ok(Self {
            consumer: required(headers, dead::CONSUMER)?,
            stream: required(headers, dead::STREAM)?,
            sequence: required(headers, dead::SEQUENCE)?,
        })
    }

    pub(super) fn resolutions(&self) -> String {
        subject::resolution(&self.consumer, &self.stream, self.sequence)
    }
}

/// What became of a letter last, and where that is written.
pub(super) async fn last<I>(
    dlq: &Stream<I>,
    origin: &Origin,
) -> Result<Option<(u64, Resolution)>, OperationError> {
    match dlq.direct_get_last_for_subject(origin.resolutions()).await {
        Ok(found) => Ok(Some((found.sequence, Resolution::read(&found.headers)?))),
        Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(err) => Err(OperationError::Unavailable(err.into())),
    }
}

/// Tries to record what became of a letter this often, when others do so at the same time.
const TRIES_MAX: u32 = 5;

/// Records what became of a letter. A replay is recorded once, however often it is tried; what is
/// resolved for good is not discarded once more.
///
/// # Errors
/// When the DLQ cannot be read or written. Then it may be recorded or not, and trying again is safe.
pub async fn record(
    nats: &Nats,
    origin: &Origin,
    resolution: &Resolution,
) -> Result<bool, OperationError> {
    let dlq = dlq(nats).await?;
    for _ in 0..TRIES_MAX {
        let last = last(&dlq, origin).await?;
        if let Some((_, known)) = &last {
            let is_same = known.replay.is_some() && known.replay == resolution.replay;
            if is_same || (resolution.outcome == Outcome::Discarded && known.is_final()) {
                return Ok(false);
            }
        }
        let record = PublishMessage::build()
            .headers(resolution.headers())
            .expected_last_subject_sequence(last.map_or(0, |(sequence, _)| sequence));
        let published = match nats.jetstream.send_publish(origin.resolutions(), record).await {
            Ok(ack) => ack.await.map(|_| ()),
            Err(err) => Err(err),
        };
        match published {
            Ok(()) => return Ok(true),
            Err(err) if nats::is_wrong_sequence(&err) => {}
            Err(err) => return Err(OperationError::Unavailable(err.into())),
        }
    }
    Err(OperationError::Unavailable(anyhow::anyhow!("others write to this letter's history")))
}
