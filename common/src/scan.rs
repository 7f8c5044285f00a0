//! Reads what a stream holds now, once and in order: for people who look at it and for work that is
//! done now and then. Deciders never read this way.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use futures_util::StreamExt as _;

use crate::{
    nats::Nats,
    view::{self, Start, Stored},
};

/// The next message that is known to be there comes within this time.
const NEXT_WITHIN: Duration = Duration::from_secs(5);

/// What to read.
#[derive(Debug, Clone)]
pub struct ScanSpec {
    /// The stream.
    pub stream: &'static str,
    /// Which of its subjects.
    pub filters: Vec<String>,
    /// From where.
    pub start: Start,
    /// Whether payloads are of no interest. They are empty then.
    pub headers_only: bool,
}

/// What is left to read.
pub struct Scan {
    messages: pull::Ordered,
    end: u64,
    is_over: bool,
}

impl Scan {
    /// Begins. What is stored from now on is not read.
    ///
    /// # Errors
    /// When the broker cannot be asked.
    pub async fn open(nats: &Nats, spec: ScanSpec) -> anyhow::Result<Self> {
        let stream = nats.jetstream.get_stream(spec.stream).await?;
        let end = stream.cached_info().state.last_sequence;
        let consumer = stream
            .create_consumer(pull::OrderedConfig {
                filter_subjects: spec.filters,
                deliver_policy: view::policy(spec.start),
                headers_only: spec.headers_only,
                ..pull::OrderedConfig::default()
            })
            .await?;
        let is_over = consumer.cached_info().num_pending == 0;
        Ok(Self { messages: consumer.messages().await?, end, is_over })
    }

    /// The next message, if there is one.
    ///
    /// # Errors
    /// When the broker cannot be asked, or does not answer.
    pub async fn next(&mut self) -> anyhow::Result<Option<Stored>> {
        if self.is_over {
            return Ok(None);
        }
        let next = tokio::time::timeout(NEXT_WITHIN, self.messages.next()).await?;
        let Some(message) = next.transpose()? else { return Ok(None) };
        let (stored, pending) = view::stored(message).map_err(anyhow::Error::from_boxed)?;
        self.is_over = pending == 0 || stored.sequence >= self.end;
        Ok((stored.sequence <= self.end).then_some(stored))
    }

    /// All that is left, at most so many messages.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn collect(mut self, limit: usize) -> anyhow::Result<Vec<Stored>> {
        let mut all = Vec::new();
        while all.len() < limit {
            let Some(stored) = self.next().await? else { break };
            all.push(stored);
        }
        Ok(all)
    }
}
