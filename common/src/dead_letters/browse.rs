//! Looks at dead letters: what each was, why it is here, and what became of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use async_nats::{HeaderMap, jetstream::stream::DirectGetErrorKind};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};

use super::{
    OperationError, dlq,
    resolution::{Origin, Outcome, Resolution},
    text,
};
use crate::{
    clock::Timestamp,
    consumer::{Class, dead},
    envelope::header,
    nats::Nats,
    scan::{Scan, ScanSpec},
    stream::{self, ConsumerSpec},
    subject,
    view::{Start, Stored},
};

/// Where the broker says how large a payload is that it leaves out.
const MESSAGE_SIZE: &str = "Nats-Msg-Size";

/// What became of a letter.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing yet.
    Open,
    /// It is on its way back to its consumer.
    Replaying,
    /// Its consumer has handled it since.
    Handled,
    /// It was sent back, and its consumer gave it up once more.
    Failed,
    /// Somebody decided that nothing shall come of it.
    Discarded,
}

impl State {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replaying => "replaying",
            Self::Handled => "handled",
            Self::Failed => "failed",
            Self::Discarded => "discarded",
        }
    }

    /// Whether something has to be done about it.
    #[must_use]
    pub fn is_open(self) -> bool {
        match self {
            Self::Open | Self::Failed => true,
            Self::Replaying | Self::Handled | Self::Discarded => false,
        }
    }
}

impl FromStr for State {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Open, Self::Replaying, Self::Handled, Self::Failed, Self::Discarded]
            .into_iter()
            .find(|state| state.name() == text)
            .ok_or_else(|| {
                format!("`{text}` is none of open, replaying, handled, failed, discarded")
            })
    }
}

/// A message that could not be handled.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Letter {
    /// Its sequence on the dead-letter queue.
    pub sequence: u64,
    /// The durable name of the consumer that gave it up.
    pub consumer: String,
    /// The stream it was in.
    pub stream: String,
    /// Its sequence there.
    pub original_sequence: u64,
    /// The subject it had; empty where it was gone before it could be copied.
    pub subject: String,
    /// What it says it is.
    pub kind: Option<String>,
    /// The ride it belongs to.
    pub correlation_id: Option<String>,
    /// Why it is here, in one word.
    pub class: Option<Class>,
    /// Why it is here.
    pub error: String,
    /// How often it was tried.
    pub attempts: Option<u32>,
    /// When it was stored: the first try came after this.
    pub stored_at: Option<Timestamp>,
    /// When it was given up: the last try came before this.
    pub failed_at: Option<Timestamp>,
    /// From when on it means nothing any more.
    pub expires_at: Option<Timestamp>,
    /// The payload's bytes.
    pub size: usize,
    /// What became of it.
    pub state: State,
    /// The last thing that was done about it.
    pub resolution: Option<Resolution>,
}

impl Letter {
    fn read(stored: &Stored) -> Option<Self> {
        let origin = Origin::of_letter(&stored.subject)?;
        let text = |name| text(&stored.headers, name);
        let size = text(MESSAGE_SIZE).and_then(|size| size.parse().ok());
        Some(Self {
            sequence: stored.sequence,
            consumer: origin.consumer,
            stream: origin.stream,
            original_sequence: origin.sequence,
            subject: text(dead::SUBJECT).unwrap_or_default(),
            kind: text(header::TYPE),
            correlation_id: text(header::CORRELATION),
            class: text(dead::CLASS).and_then(|class| class.parse().ok()),
            error: text(dead::ERROR).unwrap_or_default(),
            attempts: text(dead::ATTEMPTS).and_then(|count| count.parse().ok()),
            stored_at: text(dead::STORED_AT).and_then(|at| at.parse().ok()),
            failed_at: text(dead::FAILED_AT).and_then(|at| at.parse().ok()),
            expires_at: text(dead::EXPIRES_AT).and_then(|at| at.parse().ok()),
            size: size.unwrap_or(stored.payload.len()),
            state: State::Open,
            resolution: None,
        })
    }

    /// Where it is from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin {
            consumer: self.consumer.clone(),
            stream: self.stream.clone(),
            sequence: self.original_sequence,
        }
    }

    /// The name under which its consumer takes it back; nothing if it does not.
    #[must_use]
    pub fn returns_to(&self) -> Option<&'static str> {
        let (spec, _) = ConsumerSpec::of_durable(&self.consumer)?;
        spec.replays().filter(|_| !self.subject.is_empty()).map(|_| spec.name)
    }

    fn resolve(&mut self, resolution: Option<Resolution>, is_on_its_way: bool) {
        self.state = match resolution.as_ref().map(|it| it.outcome) {
            _ if is_on_its_way => State::Replaying,
            None => State::Open,
            Some(Outcome::Handled) => State::Handled,
            Some(Outcome::Failed) => State::Failed,
            Some(Outcome::Discarded) => State::Discarded,
        };
        self.resolution = resolution;
    }
}

/// Which letters; what is not said does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// The consumer that gave it up: of one partition (`trip-process-3`) or of all
    /// (`trip-process`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// The stream it was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Why it is here, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// What it says it is, such as `trip.completed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Given up at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Given up before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Whether it takes this letter, whatever became of it.
    fn takes(&self, letter: &Letter) -> bool {
        let is_of = |consumer: &String| {
            let of_all = || ConsumerSpec::of_durable(&letter.consumer).map(|(spec, _)| spec.name);
            *consumer == letter.consumer || of_all() == Some(consumer.as_str())
        };
        self.consumer.as_ref().is_none_or(is_of)
            && self.stream.as_ref().is_none_or(|stream| *stream == letter.stream)
            && self.class.is_none_or(|class| Some(class) == letter.class)
            && self.kind.as_ref().is_none_or(|kind| Some(kind) == letter.kind.as_ref())
            && self.since.is_none_or(|since| letter.failed_at.is_some_and(|at| since <= at))
            && self.until.is_none_or(|until| letter.failed_at.is_some_and(|at| at < until))
    }
}

/// Some letters, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page {
    /// The letters.
    pub items: Vec<Letter>,
    /// Where the next page begins, if there is one.
    pub next_cursor: Option<u64>,
}

/// The letters after a cursor that the filter takes, at most so many.
///
/// # Errors
/// When the broker cannot be asked.
pub async fn list(
    nats: &Nats,
    filter: &Filter,
    after: u64,
    limit: usize,
) -> Result<Page, OperationError> {
    let on_their_way = on_their_way(nats).await?;
    let spec = ScanSpec {
        stream: stream::DLQ,
        filters: vec![subject::DEAD_LETTERS.to_owned(), subject::RESOLUTIONS.to_owned()],
        start: Start::After(after),
        headers_only: true,
    };
    let (mut letters, mut resolutions) = (BTreeMap::new(), BTreeMap::new());
    let mut scan = Scan::open(nats, spec).await?;
    while let Some(stored) = scan.next().await? {
        if let Some(letter) = Letter::read(&stored) {
            if filter.takes(&letter) {
                letters.insert(letter.sequence, letter);
            }
        } else if let Ok(resolution) = Resolution::read(&stored.headers) {
            // A letter comes before what became of it.
            if letters.contains_key(&resolution.letter) {
                resolutions.insert(resolution.letter, resolution);
            }
        }
    }
    let mut items = Vec::new();
    for (sequence, mut letter) in letters {
        letter.resolve(resolutions.remove(&sequence), on_their_way.contains(&sequence));
        if filter.state.is_none_or(|state| state == letter.state) {
            items.push(letter);
        }
    }
    let is_more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items.last().filter(|_| is_more).map(|letter| letter.sequence);
    Ok(Page { items, next_cursor })
}

/// The letters that are on their way back to their consumers.
async fn on_their_way(nats: &Nats) -> Result<BTreeSet<u64>, OperationError> {
    // A work queue can only be read by its consumers, but it tells its subjects.
    let held = nats.jetstream.get_stream_no_info(stream::REPLAY).await;
    let held = held.map_err(anyhow::Error::from)?;
    let mut found = held.info_with_subjects(subject::REPLAYS).await.map_err(anyhow::Error::from)?;
    let mut letters = BTreeSet::new();
    while let Some((subject, _)) = found.try_next().await.map_err(anyhow::Error::from)? {
        letters.extend(subject.rsplit('.').next().and_then(|letter| letter.parse::<u64>().ok()));
    }
    Ok(letters)
}

/// A letter with all that is known of it.
#[derive(Debug, Clone)]
pub struct Whole {
    /// What it was and why it is here.
    pub letter: Letter,
    /// Its headers, those of the original among them.
    pub headers: HeaderMap,
    /// The original's payload.
    pub payload: Bytes,
    /// What was done about it, oldest first.
    pub history: Vec<Resolution>,
}

/// The payload of the message that a letter was; nothing if there is no such letter.
///
/// # Errors
/// When the broker cannot be asked.
pub async fn payload(nats: &Nats, sequence: u64) -> Result<Option<Bytes>, OperationError> {
    match dlq(nats).await?.direct_get(sequence).await {
        Ok(found) => Ok(Some(found.payload)),
        Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(err) => Err(OperationError::Unavailable(err.into())),
    }
}

/// One letter; nothing if there is none of that sequence.
///
/// # Errors
/// When the broker cannot be asked.
pub async fn show(nats: &Nats, sequence: u64) -> Result<Option<Whole>, OperationError> {
    let found = match dlq(nats).await?.direct_get(sequence).await {
        Ok(found) => found,
        Err(err) if err.kind() == DirectGetErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(OperationError::Unavailable(err.into())),
    };
    let stored = Stored {
        subject: found.subject.to_string(),
        sequence,
        published: Timestamp::from(found.time),
        headers: found.headers,
        payload: found.payload,
    };
    let Some(mut letter) = Letter::read(&stored) else { return Ok(None) };
    let spec = ScanSpec {
        stream: stream::DLQ,
        filters: vec![letter.origin().resolutions()],
        start: Start::After(0),
        headers_only: true,
    };
    let mut history = Vec::new();
    let mut scan = Scan::open(nats, spec).await?;
    while let Some(record) = scan.next().await? {
        history.push(Resolution::read(&record.headers)?);
    }
    let is_on_its_way = on_their_way(nats).await?.contains(&sequence);
    letter.resolve(history.last().cloned(), is_on_its_way);
    Ok(Some(Whole { letter, headers: stored.headers, payload: stored.payload, history }))
}
