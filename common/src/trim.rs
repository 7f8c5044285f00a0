//! Makes room in streams that have no limit of their own: what is old and has been handled by
//! everybody may go. What "old" means, and what must be kept, is their owner's to say.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::Timestamp,
    log::{Log as _, ReadFrom},
    metrics,
    nats::Nats,
    scan::{Scan, ScanSpec},
    stream,
    view::Start,
};

/// The part of a stream that is old and that no durable consumer has to read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// It ends before this sequence.
    pub end: u64,
}

/// What a stream stored up to `until` and all its durable consumers are done with. One that lags, or
/// is away, keeps what it has not read.
///
/// # Errors
/// When the broker cannot be asked.
pub async fn past(nats: &Nats, stream: &'static str, until: Timestamp) -> anyhow::Result<Past> {
    let handled = handled_before(nats, stream).await?;
    // Before the look at what is newer: what comes in between is newer, too.
    let last = nats.admin.get_stream(stream).await?.cached_info().state.last_sequence;
    let spec = ScanSpec {
        stream,
        filters: Vec::new(),
        start: Start::Since(until.plus(Duration::from_micros(1))),
        headers_only: true,
    };
    let newer = Scan::open(nats, spec).await?.next().await?;
    let first_newer = newer.map_or(last + 1, |stored| stored.sequence);
    Ok(Past { end: handled.min(first_newer) })
}

/// The first sequence that one of the stream's durable consumers has still to read or to
/// acknowledge.
async fn handled_before(nats: &Nats, stream: &'static str) -> anyhow::Result<u64> {
    let on_stream = nats.admin.get_stream_no_info(stream).await?;
    let mut before = u64::MAX;
    for spec in stream::CONSUMERS.into_iter().filter(|spec| spec.stream == stream) {
        for partition in spec.partitions(nats.partitions) {
            let info = on_stream.consumer_info(spec.durable(partition)).await?;
            if info.num_pending > 0 || info.num_ack_pending > 0 {
                before = before.min(info.ack_floor.stream_sequence + 1);
            }
        }
    }
    Ok(before)
}

/// Removes the messages of these subjects that were stored before that sequence, and says how many
/// there were. Doing it twice changes nothing; what is newer stays.
///
/// # Errors
/// When the broker does not confirm it: it may have been done.
pub async fn remove(
    nats: &Nats,
    stream: &'static str,
    filter: &str,
    before: u64,
) -> anyhow::Result<u64> {
    if before <= 1 {
        // To the broker no sequence means all.
        return Ok(0);
    }
    let on_stream = nats.admin.get_stream_no_info(stream).await?;
    let purged = on_stream.purge().filter(filter).sequence(before).await?.purged;
    metrics::TRIMMED.with(&[("stream", stream)]).increment(purged);
    Ok(purged)
}

/// Of every history whose events are on these subjects keeps the last event, which carries the
/// state, and removes the others that are past. Says how many.
///
/// # Errors
/// When the broker cannot be asked. What is done is done; the next time goes on.
pub async fn keep_last(
    nats: &Nats,
    stream: &'static str,
    events: String,
    past: Past,
) -> anyhow::Result<u64> {
    let mut old: BTreeMap<String, u64> = BTreeMap::new();
    let spec =
        ScanSpec { stream, filters: vec![events], start: Start::After(0), headers_only: true };
    let mut scan = Scan::open(nats, spec).await?;
    while let Some(stored) = scan.next().await?.filter(|stored| stored.sequence < past.end) {
        *old.entry(stored.subject).or_default() += 1;
    }
    let mut removed = 0;
    for (subject, count) in old {
        let Some(last) = nats.last(stream, &subject, ReadFrom::Leader).await? else { continue };
        let kept = u64::from(last.sequence < past.end);
        if count > kept {
            removed += remove(nats, stream, &subject, last.sequence.min(past.end)).await?;
        }
    }
    Ok(removed)
}
