//! What the broker says of messages beside the events themselves: how far every consumer is, what is
//! in the dead-letter queue, and what a work queue still holds.

use std::{collections::BTreeSet, fmt};

use async_nats::{
    HeaderMap,
    jetstream::{
        consumer::{self, pull},
        stream::{DirectGetErrorKind, Stream},
    },
};
use common::{
    consumer::dead,
    contract::{decode, v1},
    nats::Nats,
    stream::{self, CONSUMERS, ConsumerSpec},
    subject,
    view::{Start, Stored, ViewSpec},
};

use super::log::read_all;

/// The headers of a record of what became of a dead letter.
const RESOLVED_LETTER: &str = "dlq-letter";
const RESOLVED_OUTCOME: &str = "dlq-outcome";
const HANDLED: &str = "handled";
/// How subjects of frames of pings begin.
const PING_PREFIX: &str = "ping.";
/// Messages that are looked at in a work queue; more of them say nothing more.
const LEFT_MAX: usize = 100;

/// What the broker says.
#[derive(Debug, Clone, Default)]
pub struct BrokerEvidence {
    /// Every durable consumer.
    pub consumers: Vec<ConsumerState>,
    /// Every dead letter.
    pub dead: Vec<DeadLetter>,
    /// What nobody has taken out of the work queue.
    pub left: Vec<Left>,
}

/// How far a consumer is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerState {
    /// Its durable name.
    pub consumer: String,
    /// The stream that it reads.
    pub stream: String,
    /// In which settings it differs from what is declared: what it has, and what it should have.
    pub differs: Vec<String>,
    /// Messages that it was not given yet.
    pub pending: u64,
    /// Messages that it was given and did not answer.
    pub unanswered: u64,
    /// The first message after the last answered one, though nothing waits for an answer: the broker
    /// gives it to nobody any more.
    pub skipped: Option<u64>,
}

/// A message in the dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its own sequence there.
    pub sequence: u64,
    /// The subject that it has there.
    pub letter: String,
    /// Which consumer gave it up.
    pub consumer: String,
    /// The stream that the message is in.
    pub stream: String,
    /// The message's sequence there.
    pub of: u64,
    /// The message's subject.
    pub subject: String,
    /// How often it was tried.
    pub attempts: u64,
    /// Why it was given up.
    pub error: String,
    /// What its stream has at that sequence.
    pub original: Original,
    /// Somebody of operations sent it back, and it was handled; or it is a frame of pings that was
    /// counted without its answer: whoever takes a partition over reads what it finds in the stream.
    pub is_handled: bool,
}

/// What a stream has where a dead letter says that it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Original {
    /// The very message.
    Same,
    /// Another message.
    Other,
    /// Nothing any more, as it may be where messages are taken out or grow old.
    Gone,
    /// Nothing, and the stream has never had so many.
    Never,
}

/// A message in a work queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// The stream.
    pub stream: String,
    /// Its sequence.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
}

impl BrokerEvidence {
    /// Asks the broker.
    ///
    /// # Errors
    /// When it does not answer, or something in its streams is not what belongs there.
    pub async fn read(nats: &Nats) -> anyhow::Result<Self> {
        let mut consumers = Vec::new();
        for spec in CONSUMERS {
            for partition in spec.partitions(nats.partitions) {
                consumers.push(state(nats, spec, partition).await?);
            }
        }
        let mut evidence = Self {
            consumers,
            dead: Vec::new(),
            left: left(nats, stream::DRIVER_CMD, "driver.command.>").await?,
        };
        let handled = handled(nats).await?;
        for letter in whole(nats, stream::DLQ, subject::DEAD_LETTERS).await? {
            let mut dead = dead_letter(nats, &letter).await?;
            dead.is_handled = handled.contains(&dead.sequence) || is_counted(nats, &dead).await?;
            evidence.dead.push(dead);
        }
        Ok(evidence)
    }
}

/// Whether it is a frame of pings that `location` has counted.
async fn is_counted(nats: &Nats, letter: &DeadLetter) -> anyhow::Result<bool> {
    let partition = letter.subject.strip_prefix(PING_PREFIX).and_then(|p| p.parse::<u32>().ok());
    let Some(partition) = partition.filter(|_| letter.stream == stream::PINGS) else {
        return Ok(false);
    };
    let held = nats.admin.get_stream_no_info(stream::LOCATION).await?;
    match held.direct_get_last_for_subject(subject::counted(partition)).await {
        Ok(message) => {
            let counted: v1::CountedFrames = decode("counted frames", &message.payload)?;
            Ok(has_counted(&counted, letter.of))
        }
        Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(false),
        Err(err) => Err(err.into()),
    }
}

/// Whether this frame is one of those.
fn has_counted(counted: &v1::CountedFrames, frame: u64) -> bool {
    let after = counted.recent.iter().scan(counted.floor, |last, step| {
        *last = last.saturating_add(*step);
        Some(*last)
    });
    frame <= counted.floor || after.into_iter().any(|sequence| sequence == frame)
}

async fn state(nats: &Nats, spec: ConsumerSpec, partition: u32) -> anyhow::Result<ConsumerState> {
    let durable = spec.durable(partition);
    let held = nats.admin.get_stream_no_info(spec.stream).await?;
    let info = held.consumer_info(&durable).await?;
    let (floor, given) = (info.ack_floor.stream_sequence, info.delivered.stream_sequence);
    let unanswered = u64::try_from(info.num_ack_pending)?;
    let declared = spec.config(partition);
    let differs = differences(&declared, &info.config);
    let mut skipped = None;
    if unanswered == 0 && floor < given {
        for filter in declared.filter_subjects {
            let next = next(&held, &filter, floor + 1).await?.filter(|next| *next <= given);
            skipped = skipped.into_iter().chain(next).min();
        }
    }
    Ok(ConsumerState {
        consumer: durable,
        stream: spec.stream.to_owned(),
        differs,
        pending: info.num_pending,
        unanswered,
        skipped,
    })
}

/// The first message of this subject from this sequence on.
async fn next(held: &Stream<()>, filter: &str, from: u64) -> anyhow::Result<Option<u64>> {
    match held.direct_get_next_for_subject(filter, Some(from)).await {
        Ok(message) => Ok(Some(message.sequence)),
        Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// Of the settings that are declared, those that the broker has otherwise.
fn differences(declared: &pull::Config, found: &consumer::Config) -> Vec<String> {
    let setting = |name, found: &dyn fmt::Debug, declared: &dyn fmt::Debug| {
        let (found, declared) = (format!("{found:?}"), format!("{declared:?}"));
        (found != declared).then(|| format!("{name}: {found} instead of {declared}"))
    };
    let subjects = |config: &[String]| config.iter().cloned().collect::<BTreeSet<_>>();
    // One subject alone comes back in a field of its own.
    let of_one = (!found.filter_subject.is_empty()).then(|| found.filter_subject.clone());
    let mut found_subjects = subjects(&found.filter_subjects);
    found_subjects.extend(of_one);
    [
        setting("max_deliver", &found.max_deliver, &declared.max_deliver),
        setting("max_ack_pending", &found.max_ack_pending, &declared.max_ack_pending),
        setting("ack_wait", &found.ack_wait, &declared.ack_wait),
        setting("ack_policy", &found.ack_policy, &declared.ack_policy),
        setting("deliver_policy", &found.deliver_policy, &declared.deliver_policy),
        setting("filter_subjects", &found_subjects, &subjects(&declared.filter_subjects)),
        setting("priority_policy", &found.priority_policy, &declared.priority_policy),
        setting("priority_groups", &found.priority_groups, &declared.priority_groups),
        setting("priority_timeout", &found.priority_timeout, &declared.priority_timeout),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Letters that were sent back and handled.
async fn handled(nats: &Nats) -> anyhow::Result<BTreeSet<u64>> {
    let records = whole(nats, stream::DLQ, subject::RESOLUTIONS).await?;
    let handled = records
        .iter()
        .filter(|record| text(&record.headers, RESOLVED_OUTCOME).as_deref() == Some(HANDLED));
    Ok(handled.map(|record| number(&record.headers, RESOLVED_LETTER)).collect())
}

async fn dead_letter(nats: &Nats, letter: &Stored) -> anyhow::Result<DeadLetter> {
    let text = |name| text(&letter.headers, name).unwrap_or_default();
    let (stream, of) = (text(dead::STREAM), number(&letter.headers, dead::SEQUENCE));
    let subject = text(dead::SUBJECT);
    let original = original(nats, &stream, of, &subject, &letter.payload).await?;
    Ok(DeadLetter {
        sequence: letter.sequence,
        letter: letter.subject.clone(),
        consumer: text(dead::CONSUMER),
        attempts: number(&letter.headers, dead::ATTEMPTS),
        error: text(dead::ERROR),
        stream,
        of,
        subject,
        original,
        is_handled: false,
    })
}

async fn original(
    nats: &Nats,
    stream: &str,
    sequence: u64,
    subject: &str,
    payload: &[u8],
) -> anyhow::Result<Original> {
    let Ok(held) = nats.admin.get_stream(stream).await else { return Ok(Original::Never) };
    match held.direct_get(sequence).await {
        Ok(message) if message.subject.as_str() == subject && message.payload == payload => {
            Ok(Original::Same)
        }
        Ok(_) => Ok(Original::Other),
        Err(err) if err.kind() == DirectGetErrorKind::NotFound => {
            let last = held.cached_info().state.last_sequence;
            let was_there = (1..=last).contains(&sequence);
            Ok(if was_there { Original::Gone } else { Original::Never })
        }
        Err(err) => Err(err.into()),
    }
}

/// What a work queue holds in two looks one after the other: what comes and goes is at work.
async fn left(nats: &Nats, stream: &str, filter: &str) -> anyhow::Result<Vec<Left>> {
    let first = look(nats, stream, filter).await?;
    if first.is_empty() {
        return Ok(Vec::new());
    }
    tokio::time::sleep(super::settle::LOOK_EVERY).await;
    let second = look(nats, stream, filter).await?;
    Ok(first.intersection(&second).cloned().collect())
}

async fn look(nats: &Nats, stream: &str, filter: &str) -> anyhow::Result<BTreeSet<Left>> {
    let held = nats.admin.get_stream_no_info(stream).await?;
    let (mut left, mut from) = (BTreeSet::new(), 1);
    while left.len() < LEFT_MAX {
        let message = match held.direct_get_next_for_subject(filter, Some(from)).await {
            Ok(message) => message,
            Err(err) if err.kind() == DirectGetErrorKind::NotFound => break,
            Err(err) => return Err(err.into()),
        };
        from = message.sequence + 1;
        let (sequence, subject) = (message.sequence, message.subject.to_string());
        left.insert(Left { stream: stream.to_owned(), sequence, subject });
    }
    Ok(left)
}

/// All messages of a stream under a filter.
async fn whole(nats: &Nats, stream: &'static str, filter: &str) -> anyhow::Result<Vec<Stored>> {
    let mut all = Vec::new();
    let spec = ViewSpec { stream, filter: filter.to_owned(), start: Start::After(0) };
    read_all(nats, spec, |stored| all.push(stored)).await?;
    Ok(all)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.as_str().to_owned())
}

/// Zero, which is no sequence, where there is no number.
fn number(headers: &HeaderMap, name: &str) -> u64 {
    text(headers, name).and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{has_counted, v1};

    #[test]
    fn a_frame_is_counted_up_to_the_floor_and_where_it_is_named() {
        let counted =
            v1::CountedFrames { floor: 10, recent: vec![2, 3], ..v1::CountedFrames::default() };
        let frames = (9..17).filter(|frame| has_counted(&counted, *frame));
        assert_eq!(frames.collect::<Vec<_>>(), [9, 10, 12, 15]);
    }
}
