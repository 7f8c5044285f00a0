//! Reads a bounded part of a stream, for people who look at it. Deciders never read this way.

use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use common::{clock::Timestamp, nats::Nats, view::Stored};
use futures_util::StreamExt as _;

/// More events than any one trip can have: offers are limited, and so are tries and ratings.
pub(crate) const EVENTS_MAX: usize = 256;
/// The next message that is known to be there comes within this time.
const NEXT_WITHIN: Duration = Duration::from_secs(5);

/// What is stored under this subject after a sequence, at most so many messages.
pub(crate) async fn read(
    nats: &Nats,
    stream: &str,
    filter: &str,
    after: u64,
    limit: usize,
) -> anyhow::Result<Vec<Stored>> {
    let stream = nats.jetstream.get_stream_no_info(stream).await?;
    let deliver_policy = match after {
        0 => DeliverPolicy::All,
        sequence => DeliverPolicy::ByStartSequence { start_sequence: sequence.saturating_add(1) },
    };
    let consumer = stream
        .create_consumer(pull::OrderedConfig {
            filter_subject: filter.to_owned(),
            deliver_policy,
            ..pull::OrderedConfig::default()
        })
        .await?;
    let there = usize::try_from(consumer.cached_info().num_pending).unwrap_or(usize::MAX);
    let mut messages = consumer.messages().await?;
    let mut read = Vec::new();
    while read.len() < there.min(limit) {
        let Some(message) = tokio::time::timeout(NEXT_WITHIN, messages.next()).await? else {
            break;
        };
        let message = message?;
        let info = message.info().map_err(anyhow::Error::from_boxed)?;
        let (sequence, published) = (info.stream_sequence, Timestamp::from(info.published));
        let (message, _) = message.split();
        read.push(Stored {
            subject: message.subject.to_string(),
            sequence,
            published,
            headers: message.headers.unwrap_or_default(),
            payload: message.payload,
        });
    }
    Ok(read)
}
