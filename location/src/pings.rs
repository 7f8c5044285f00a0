//! Reading pings: the recent past first, then what comes; and up to when each partition was read.

use std::{collections::HashMap, ops::Range, sync::Arc, time::Duration};

use async_nats::jetstream::{
    consumer::PullConsumer,
    stream::{DirectGetErrorKind, Stream},
};
use common::{
    clock::Timestamp,
    consumer::{self, Delivery},
    nats::Nats,
    scan::{Scan, ScanSpec},
    stream::{LOCATION_PINGS, PINGS},
    subject,
    view::{self, CaughtUp, Start, Stored, ViewSpec},
};
use futures_util::future::{join_all, try_join_all};
use tokio_util::sync::CancellationToken;

use crate::{
    checkpoint,
    city::{City, Frame},
    domain::frames::FrameId,
};

/// Whoever was heard within this time is known after a start.
const REPLAY: Duration = Duration::from_secs(90);
/// A gap is read frame by frame. What is longer is what another replica left, and comes in one go: with
/// hundreds of questions one is bound to get lost.
const FRAMES_ONE_BY_ONE: usize = 16;
/// Pause before the recent past is asked for again.
const REPLAY_AGAIN: Duration = Duration::from_millis(200);
/// How often it is checked that a quiet partition is quiet.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Reads pings until shutdown.
pub(crate) async fn run(
    nats: &Nats,
    city: &Arc<City>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let replayed = async {
        while let Err(err) = Box::pin(replay(nats, city)).await {
            tracing::debug!(error = format!("{err:#}"), "the recent past is read again");
            tokio::time::sleep(REPLAY_AGAIN).await;
        }
    };
    if shutdown.run_until_cancelled(replayed).await.is_none() {
        return Ok(());
    }
    let reader = (nats.clone(), Arc::clone(city));
    let lanes =
        consumer::run(nats, LOCATION_PINGS, shutdown.clone(), move |delivery, partition| {
            let (nats, city) = reader.clone();
            async move {
                if is_take_over(&city, &delivery, partition) {
                    let caught_up = catch_up(&nats, &city, delivery.sequence, partition).await;
                    caught_up.map_err(consumer::Failure::Transient)?;
                }
                expect_next(&city, &delivery, partition);
                Ok(read(&city, &delivery, partition)?)
            }
        });
    tokio::try_join!(lanes, probe(nats, city, shutdown.clone()))?;
    Ok(())
}

fn read(
    city: &City,
    delivery: &Delivery,
    partition: u32,
) -> Result<(), common::contract::Malformed> {
    // A broker that crashed gives the sequences of lost frames to others, and a consumer that had
    // such a sequence in flight gets it again, whosever it is now. Its own consumer has it too.
    if delivery.subject != subject::ping(partition) {
        tracing::debug!(subject = delivery.subject, sequence = delivery.sequence, "not ours");
        return Ok(());
    }
    let frame = Frame {
        partition,
        sequence: delivery.sequence,
        published: delivery.published,
        payload: &delivery.payload,
    };
    city.read(&frame)
}

/// Whether others may have been given messages of this partition since the last one that came here.
/// Until the next one is expected it is so again: a take-over that fails or is broken off is none.
fn is_take_over(city: &City, delivery: &Delivery, partition: u32) -> bool {
    let Some(mut reading) = city.reading(partition) else { return false };
    reading.next_delivery.take() != Some(delivery.delivered)
}

fn expect_next(city: &City, delivery: &Delivery, partition: u32) {
    if let Some(mut reading) = city.reading(partition) {
        reading.next_delivery = Some(delivery.delivered.saturating_add(1));
    }
}

/// Takes a partition over from whoever read it: first what they stored, then what they counted
/// since, which only the stream has.
async fn catch_up(nats: &Nats, city: &City, end: u64, partition: u32) -> anyhow::Result<()> {
    checkpoint::take_over(nats, city, partition).await?;
    let stream = nats.jetstream.get_stream_no_info(PINGS).await?;
    let subject = subject::ping(partition);
    let newest = city.reading(partition).map(|reading| reading.newest()).unwrap_or_default();
    let is_kept = newest == FrameId::default()
        || stored_at(&stream, newest.sequence).await? == Some(newest.stored_at);
    let start = if is_kept {
        let gap = newest.sequence + 1..end;
        let Some(next) = read_one_by_one(&stream, city, partition, gap).await? else {
            return Ok(());
        };
        Start::After(next.saturating_sub(1))
    } else {
        // It is too old, or it was lost and others may have its sequence and those before it.
        Start::Since(newest.stored_at)
    };
    let spec = ScanSpec { stream: PINGS, filters: vec![subject], start, headers_only: false };
    let mut scan = Scan::open(nats, spec).await?;
    while let Some(stored) = scan.next().await?.filter(|stored| stored.sequence < end) {
        replay_one(city, &stored);
    }
    Ok(())
}

/// Reads the first frames of a gap. Where to go on, if there are more.
async fn read_one_by_one<I>(
    stream: &Stream<I>,
    city: &City,
    partition: u32,
    mut gap: Range<u64>,
) -> anyhow::Result<Option<u64>> {
    let subject = subject::ping(partition);
    for _ in 0..FRAMES_ONE_BY_ONE {
        if gap.is_empty() {
            return Ok(None);
        }
        let next = stream.direct_get_next_for_subject(subject.clone(), Some(gap.start)).await;
        let message = match next {
            Ok(message) if gap.contains(&message.sequence) => message,
            Ok(_) => return Ok(None),
            Err(err) if err.kind() == DirectGetErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err.into()),
        };
        gap.start = message.sequence + 1;
        city.replay(&Frame {
            partition,
            sequence: message.sequence,
            published: Timestamp::from(message.time),
            payload: &message.payload,
        });
    }
    Ok(Some(gap.start))
}

/// Reads the last [`REPLAY`] without acks, and from farther back what nobody has counted yet. All
/// partitions come in one go, in the order of the stream.
async fn replay(nats: &Nats, city: &City) -> anyhow::Result<()> {
    let began = nats.clock.now();
    let replayed = i64::try_from(REPLAY.as_micros()).unwrap_or(i64::MAX);
    let recent = Timestamp::from_micros(began.micros().saturating_sub(replayed));
    let stream = nats.admin.get_stream(PINGS).await?;
    let last = stream.cached_info().state.last_sequence;
    let uncounted = try_join_all(
        city.partitions.all().map(|partition| uncounted_since(&stream, city, partition)),
    )
    .await?;
    let since = uncounted.into_iter().flatten().fold(recent, Timestamp::min);
    read_through(nats, city, Start::Since(since), last).await?;
    // What was stored before the start has been read, whether there was anything or not.
    city.partitions.all().for_each(|partition| city.has_read_up_to(partition, began));
    city.set_replayed();
    tracing::info!(
        drivers = city.index.driver_count(),
        pings = city.counts(&HashMap::new()).0.total(),
        duration_ms = u64::try_from(nats.clock.now().since(began).as_millis()).unwrap_or(u64::MAX),
        "positions of the last {} s read back",
        REPLAY.as_secs(),
    );
    Ok(())
}

/// When the frame that has this sequence was stored; none where it is gone.
async fn stored_at<I>(stream: &Stream<I>, sequence: u64) -> anyhow::Result<Option<Timestamp>> {
    match stream.direct_get(sequence).await {
        Ok(message) => Ok(Some(Timestamp::from(message.time))),
        Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// Since when a partition may hold what is in no count: since the newest that was counted, or where an
/// owner died with frames in hand.
async fn uncounted_since<I>(
    stream: &Stream<I>,
    city: &City,
    partition: u32,
) -> anyhow::Result<Option<Timestamp>> {
    let counted = city.reading(partition).map(|reading| reading.newest()).unwrap_or_default();
    let stored = newest_stored(stream, partition).await?;
    let since_counted = stored.filter(|stored| counted < *stored).map(|_| counted.stored_at);
    let durable: PullConsumer = stream
        .get_consumer(&LOCATION_PINGS.durable(partition))
        .await
        .map_err(anyhow::Error::from_boxed)?;
    let info = durable.cached_info();
    let in_hand = match info.num_ack_pending {
        0 => None,
        // What is gone was older than all that is there.
        _ => Some(stored_at(stream, info.ack_floor.stream_sequence + 1).await?.unwrap_or_default()),
    };
    Ok(since_counted.into_iter().chain(in_hand).min())
}

async fn newest_stored<I>(stream: &Stream<I>, partition: u32) -> anyhow::Result<Option<FrameId>> {
    match stream.direct_get_last_for_subject(subject::ping(partition)).await {
        Ok(message) => Ok(Some(FrameId {
            stored_at: Timestamp::from(message.time),
            sequence: message.sequence,
        })),
        Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(err) => Err(err.into()),
    }
}

async fn read_through(nats: &Nats, city: &City, start: Start, last: u64) -> anyhow::Result<()> {
    let spec = ViewSpec { stream: PINGS, filter: subject::PINGS.to_owned(), start };
    let (caught_up, done) = (CaughtUp::default(), CancellationToken::new());
    let follow = view::follow(nats, spec, &caught_up, done.clone(), |stored| {
        replay_one(city, &stored);
        if stored.sequence >= last {
            done.cancel();
        }
        std::future::ready(Ok(()))
    });
    tokio::select! {
        followed = follow => followed,
        () = caught_up.wait() => Ok(()),
    }
}

fn replay_one(city: &City, stored: &Stored) {
    let Some(partition) = stored.subject.rsplit('.').next().and_then(|p| p.parse().ok()) else {
        return;
    };
    city.replay(&Frame {
        partition,
        sequence: stored.sequence,
        published: stored.published,
        payload: &stored.payload,
    });
}

/// A partition of which nothing comes is either quiet or not read. Only the stream knows: where its
/// newest frame has been read, time goes on; where not, it stands still.
async fn probe(nats: &Nats, city: &City, shutdown: CancellationToken) -> anyhow::Result<()> {
    let stream = nats.jetstream.get_stream_no_info(PINGS).await?;
    let mut ticks = tokio::time::interval(PROBE_EVERY);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let asked = nats.clock.now();
        let quiet = city
            .partitions
            .all()
            .filter(|partition| asked.since(city.watermark(*partition)) > PROBE_EVERY / 2);
        join_all(quiet.map(|partition| probe_one(&stream, city, partition, asked))).await;
    }
    Ok(())
}

async fn probe_one<I>(stream: &Stream<I>, city: &City, partition: u32, asked: Timestamp) {
    match newest_stored(stream, partition).await {
        Ok(stored) => {
            let read = city.reading(partition).map(|reading| reading.newest()).unwrap_or_default();
            if stored.is_none_or(|stored| stored <= read) {
                city.has_read_up_to(partition, asked);
            }
        }
        Err(err) => tracing::debug!(partition, error = %err, "not known whether pings wait"),
    }
}
