//! Messages that cannot be handled: put into lanes on purpose, and remembered, because exactly these
//! must be found in the dead-letter queue.

use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::{HeaderMap, jetstream::message::PublishMessage};
use bytes::Bytes;
use common::{
    failpoint::{self, Poison},
    nats,
    stream::{DLQ, DRIVER, DRIVER_CMD, TRIP},
    subject::{self, Partitions},
};
use futures_util::TryStreamExt as _;
use tokio::time::Instant;
use uuid::Uuid;

use super::{insist, record::Record, system::System};
use crate::audit;

/// What a stream without a limit of its own takes, and room for headers.
const HUGE_BYTES: i32 = 1 << 20;
const HEADERS_BYTES: i32 = 1024;
/// Five tries with their pauses end within this.
const BURIED_WITHIN: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const MALFORMED: &[u8] = b"\xff\xff\xff\xff this is no message";

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dose {
    /// Its handling ends so.
    Handled(Poison),
    /// As large as may be, and nonsense.
    Huge,
    /// Nonsense.
    Malformed,
}

/// A lane that messages are put into.
#[derive(Debug, Clone, Copy)]
struct Lane {
    stream: &'static str,
    prefix: &'static str,
}

/// Lanes that only wake somebody, so that what is put into them is no fact.
const LANES: [Lane; 3] = [
    Lane { stream: DRIVER_CMD, prefix: "driver.command" },
    Lane { stream: TRIP, prefix: subject::TRIP.due },
    Lane { stream: DRIVER, prefix: subject::DRIVER.due },
];

/// Puts one into the next lane in turn.
pub(super) async fn publish(system: &System, record: &Record, dose: Dose) -> anyhow::Result<()> {
    let turn = record.next_lane();
    let lane = LANES.get(turn % LANES.len()).context("no lane")?;
    put(system, record, lane, dose, Uuid::new_v5(&Uuid::NAMESPACE_OID, &key(record))).await
}

/// Puts malformed ones into the lanes of a service, a few, so that each of its replicas gets some.
pub(super) async fn publish_to(
    system: &System,
    record: &Record,
    service: &str,
    count: u32,
) -> anyhow::Result<()> {
    let lane = LANES.iter().find(|lane| lane.prefix.starts_with(service)).context("no lane")?;
    for _ in 0..count {
        let key = Uuid::new_v5(&Uuid::NAMESPACE_OID, &key(record));
        put(system, record, lane, Dose::Malformed, key).await?;
    }
    Ok(())
}

/// Returns when the last one that was put somewhere is in the dead-letter queue: until then its tries
/// hold up its lane, as they have to.
pub(super) async fn buried(system: &System, record: &Record) -> anyhow::Result<()> {
    let Some(last) = record.poison().pop() else { return Ok(()) };
    let deadline = Instant::now() + BURIED_WITHIN;
    let filter = format!("dlq.*.{}.{}", last.stream, last.sequence);
    let is_buried = || async {
        let stream = system.nats.admin.get_stream(DLQ).await?;
        let mut found = stream.info_with_subjects(&filter).await?;
        anyhow::Ok(found.try_next().await?.is_some())
    };
    while !is_buried().await.unwrap_or(false) {
        if Instant::now() > deadline {
            bail!("{} {} is not buried within {BURIED_WITHIN:?}", last.stream, last.sequence);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Keys that nobody else has, in an order that repeats.
fn key(record: &Record) -> Vec<u8> {
    format!("poison {} {}", record.seed, record.next_poison()).into_bytes()
}

async fn put(
    system: &System,
    record: &Record,
    lane: &Lane,
    dose: Dose,
    key: Uuid,
) -> anyhow::Result<()> {
    let nats = &system.nats;
    let partition = nats.partitions.of(&key.to_string());
    let subject = format!("{}.{partition}.{key}", lane.prefix);
    let mut headers = HeaderMap::new();
    if let Dose::Handled(poison) = dose {
        headers.insert(failpoint::POISON, poison.name());
    }
    let payload = match dose {
        Dose::Huge => Bytes::from(vec![0xff; huge_bytes(lane.stream, nats.partitions)?]),
        Dose::Handled(_) | Dose::Malformed => Bytes::from_static(MALFORMED),
    };
    let sequence = insist("publish a poisoned message", || async {
        let message = PublishMessage::build()
            .payload(payload.clone())
            .headers(headers.clone())
            .expected_last_subject_sequence(0);
        let acked = match nats.jetstream.send_publish(subject.clone(), message).await {
            Ok(ack) => ack.await,
            Err(err) => Err(err),
        };
        match acked {
            Ok(ack) => Ok(ack.sequence),
            // Stored by an attempt whose ack was lost.
            Err(err) if nats::is_wrong_sequence(&err) => {
                let stream = nats.jetstream.get_stream_no_info(lane.stream).await?;
                Ok(stream.get_last_raw_message_by_subject(&subject).await?.sequence)
            }
            Err(err) => Err(err.into()),
        }
    })
    .await?;
    record.poisoned(audit::Poison { stream: lane.stream.to_owned(), sequence });
    Ok(())
}

/// As large as this stream takes.
fn huge_bytes(stream: &str, partitions: Partitions) -> anyhow::Result<usize> {
    let streams = common::stream::streams(partitions);
    let limit = streams.iter().find(|config| config.name == stream);
    let limit = limit.map(|config| config.max_message_size).filter(|limit| *limit > 0);
    Ok(usize::try_from(limit.unwrap_or(HUGE_BYTES).min(HUGE_BYTES) - HEADERS_BYTES)?)
}
