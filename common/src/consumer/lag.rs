//! How far consumers are behind, and how many dead letters wait for somebody: asked of the broker by
//! one service for all, so that it is known of those that do not run, too.

use std::{collections::BTreeMap, time::Duration};

use futures_util::TryStreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::{
    dead_letters::{self, Filter},
    metrics,
    nats::Nats,
    stream::{CONSUMERS, ConsumerSpec, DLQ, REPLAY, ReplaySpec},
};

/// How often the broker is asked.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a consumer has before it.
#[derive(Debug, Clone, Copy, Default)]
struct Lag {
    pending: u64,
    in_hand: usize,
    redelivered: usize,
}

/// Shows consumers' lag and the depth of the dead-letter queue as metrics until shutdown.
///
/// # Errors
/// Never; the signature lets it stand beside a service's other parts in a `try_join!`.
pub async fn watch(nats: &Nats, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    let mut counted_at = None;
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let look = Box::pin(look(nats, &mut counted_at));
        if let Some(Err(err)) = shutdown.run_until_cancelled(look).await {
            tracing::debug!(error = format!("{err:#}"), "lag not known");
        }
    }
    Ok(())
}

async fn look(nats: &Nats, counted_at: &mut Option<u64>) -> anyhow::Result<()> {
    for (consumer, lag) in lags(nats).await? {
        let labels = [("consumer", consumer)];
        metrics::CONSUMER_PENDING.with(&labels).set(count(lag.pending));
        metrics::CONSUMER_IN_HAND.with(&labels).set(count(lag.in_hand));
        metrics::CONSUMER_REDELIVERED.with(&labels).set(count(lag.redelivered));
    }
    // Letters are only counted again when something was written about them.
    let dlq = nats.jetstream.get_stream(DLQ).await?;
    let last = dlq.cached_info().state.last_sequence;
    if *counted_at != Some(last) {
        let letters = dead_letters::list(nats, &Filter::default(), 0, usize::MAX).await?.items;
        let open = letters.iter().filter(|letter| letter.state.is_open()).count();
        metrics::DLQ_DEPTH.with(&metrics::NO_LABELS).set(count(open));
        *counted_at = Some(last);
    }
    Ok(())
}

/// The lag of every consumer, all its partitions together, by its name.
async fn lags(nats: &Nats) -> anyhow::Result<BTreeMap<String, Lag>> {
    let mut streams: Vec<&str> = CONSUMERS.iter().map(|spec| spec.stream).collect();
    streams.push(REPLAY);
    streams.sort_unstable();
    streams.dedup();
    let mut lags: BTreeMap<String, Lag> = BTreeMap::new();
    for stream in streams {
        let held = nats.jetstream.get_stream_no_info(stream).await?;
        let mut consumers = held.consumers();
        while let Some(info) = consumers.try_next().await? {
            let Some(name) = name(&info.name) else { continue };
            let lag = lags.entry(name).or_default();
            lag.pending += info.num_pending;
            lag.in_hand += info.num_ack_pending;
            lag.redelivered += info.num_redelivered;
        }
    }
    Ok(lags)
}

/// The name of a consumer of ours; nobody else's lag is shown.
fn name(durable: &str) -> Option<String> {
    let of_ours = ConsumerSpec::of_durable(durable).map(|(spec, _)| spec.name.to_owned());
    of_ours.or_else(|| ReplaySpec::of_durable(durable).map(|replays| replays.durable()))
}

fn count<T: TryInto<u32>>(number: T) -> f64 {
    f64::from(number.try_into().unwrap_or(u32::MAX))
}
