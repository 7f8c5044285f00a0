//! Counting on after a restart: what was counted is stored every few seconds, with the sequences of
//! the frames that are in it. What was stored late is counted again from the stream, exactly once,
//! as long as `location` is away for less than the stream keeps pings. A partition goes from one
//! replica to the next in the same way, and a checkpoint never replaces one that knows more.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::DirectGetErrorKind;
use common::{
    contract, failpoint,
    nats::{self, Nats},
    stream::LOCATION,
    subject,
};
use futures_util::future::try_join_all;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::{city::City, domain::frames::FrameId, tally::Tally};

/// Pause before what was counted before is asked for again.
const RESTORE_AGAIN: Duration = Duration::from_millis(200);
/// How often.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

/// Takes up the counts of the process before this one, however long the broker is away.
///
/// # Errors
/// When what is stored is not understood.
pub(crate) async fn restore(nats: &Nats, city: &City) -> anyhow::Result<()> {
    try_join_all(city.partitions.all().map(|partition| insist(nats, city, partition)))
        .await
        .context("reading what was counted before")?;
    Ok(())
}

async fn insist(nats: &Nats, city: &City, partition: u32) -> anyhow::Result<()> {
    while let Err(err) = take_over(nats, city, partition).await {
        if err.is::<contract::Malformed>() {
            return Err(err);
        }
        tracing::debug!(partition, error = %err, "asking again");
        tokio::time::sleep(RESTORE_AGAIN).await;
    }
    Ok(())
}

/// Takes up what another process counted of a partition, if that is more than this one did.
pub(crate) async fn take_over(nats: &Nats, city: &City, partition: u32) -> anyhow::Result<()> {
    if let Some((stored, checkpoint)) = stored_tally(nats, partition).await?
        && let Some(mut reading) = city.reading(partition)
    {
        reading.take_over(stored, checkpoint);
    }
    Ok(())
}

/// What is stored of a partition, and at which sequence.
pub(crate) async fn stored_tally(
    nats: &Nats,
    partition: u32,
) -> anyhow::Result<Option<(Tally, u64)>> {
    let stream = nats.jetstream.get_stream_no_info(LOCATION).await?;
    match stream.direct_get_last_for_subject(subject::counted(partition)).await {
        Ok(message) => {
            let stored: contract::v1::CountedFrames =
                contract::decode("counted frames", &message.payload)?;
            Ok(Some((Tally::from(stored), message.sequence)))
        }
        Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(err) => Err(err.into()),
    }
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
pub(crate) type Stored = HashMap<u32, (FrameId, u64, u64)>;

/// Stores the counts of every partition that has something new, while the past is still being read,
/// too: who dies meanwhile need not begin again. What fails is stored the next time.
pub(crate) async fn store(nats: &Nats, city: &City, stored: &mut Stored) {
    for partition in city.partitions.all() {
        let reading = city.reading(partition);
        let known = reading.map(|reading| (reading.tally.clone(), reading.checkpoint));
        let Some((tally, checkpoint)) = known else { continue };
        let mark = (tally.frames.newest(), tally.counts.total(), tally.malformed_frames);
        if stored.get(&partition).copied().unwrap_or_default() == mark {
            continue;
        }
        match store_one(nats, city, partition, &tally, checkpoint).await {
            Ok(()) => {
                stored.insert(partition, mark);
            }
            Err(err) => tracing::warn!(partition, error = %err, "counts not stored yet"),
        }
    }
}

async fn store_one(
    nats: &Nats,
    city: &City,
    partition: u32,
    tally: &Tally,
    checkpoint: u64,
) -> anyhow::Result<()> {
    let message = PublishMessage::build()
        .payload(contract::v1::CountedFrames::from(tally).encode_to_vec().into())
        .expected_last_subject_sequence(checkpoint);
    failpoint::reach("checkpoint.storing");
    let sent = nats.jetstream.send_publish(subject::counted(partition), message).await;
    let acked = match sent {
        Ok(ack) => ack.await,
        Err(err) => Err(err),
    };
    let checkpoint = match acked {
        Ok(ack) => {
            failpoint::reach("checkpoint.stored");
            ack.sequence
        }
        Err(err) if nats::is_wrong_sequence(&err) => {
            let Some((stored, sequence)) = stored_tally(nats, partition).await? else {
                anyhow::bail!("the checkpoint is gone");
            };
            if tally.frames.newest() < stored.frames.newest() {
                // Another replica reads this partition. What it stored is taken over with the
                // partition, should that come back.
                tracing::debug!(partition, "counted by another replica");
                return Ok(());
            }
            // An older one, or this one's own whose ack was lost: the next time replaces it.
            if let Some(mut reading) = city.reading(partition) {
                reading.checkpoint = sequence;
            }
            return Err(err.into());
        }
        Err(err) => return Err(err.into()),
    };
    if let Some(mut reading) = city.reading(partition) {
        reading.checkpoint = checkpoint;
    }
    Ok(())
}
