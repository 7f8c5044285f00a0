//! Counting on after a restart: what was counted is stored every few seconds, with the sequences of
//! the frames that are in it. What was stored late is counted again from the stream, exactly once,
//! as long as `location` is away for less than the stream keeps pings.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_nats::jetstream::stream::DirectGetErrorKind;
use common::{contract, nats::Nats, stream::LOCATION, subject};
use futures_util::future::try_join_all;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::{city::City, tally::Tally};

/// How often.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

/// Takes up the counts of the process before this one.
pub(crate) async fn restore(nats: &Nats, city: &City) -> anyhow::Result<()> {
    let stream = nats.jetstream.get_stream_no_info(LOCATION).await?;
    let stream = &stream;
    try_join_all(city.partitions.all().map(|partition| async move {
        let stored: contract::v1::CountedFrames =
            match stream.direct_get_last_for_subject(subject::counted(partition)).await {
                Ok(message) => contract::decode("counted frames", &message.payload)?,
                Err(err) if err.kind() == DirectGetErrorKind::NotFound => return Ok(()),
                Err(err) => return Err(err.into()),
            };
        if let Some(mut reading) = city.reading(partition) {
            reading.tally = Tally::from(stored);
        }
        anyhow::Ok(())
    }))
    .await
    .context("reading what was counted before")?;
    Ok(())
}

/// Stores the counts that changed, until shutdown.
pub(crate) async fn run(
    nats: &Nats,
    city: &Arc<City>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut stored = Stored::new();
    let mut ticks = tokio::time::interval(CHECKPOINT_EVERY);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        store(nats, city, &mut stored).await;
    }
    Ok(())
}

/// What was stored last of each partition: newest frame, pings, malformed frames.
pub(crate) type Stored = HashMap<u32, (u64, u64, u64)>;

/// Stores the counts of every partition that has something new. What fails is stored the next time.
pub(crate) async fn store(nats: &Nats, city: &City, stored: &mut Stored) {
    for partition in city.partitions.all() {
        let tally = city.reading(partition).map(|reading| reading.tally.clone());
        let Some(tally) = tally.filter(|_| city.is_replayed()) else { continue };
        let mark = (tally.frames.newest(), tally.counts.total(), tally.malformed_frames);
        if stored.get(&partition).copied().unwrap_or_default() == mark {
            continue;
        }
        let payload = contract::v1::CountedFrames::from(&tally).encode_to_vec();
        let sent = nats.jetstream.publish(subject::counted(partition), payload.into()).await;
        let acked = match sent {
            Ok(ack) => ack.await,
            Err(err) => Err(err),
        };
        match acked {
            Ok(_) => {
                stored.insert(partition, mark);
            }
            Err(err) => tracing::warn!(partition, error = %err, "counts not stored yet"),
        }
    }
}
