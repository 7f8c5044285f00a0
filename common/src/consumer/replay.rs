//! Dead letters that come back to the consumer that gave them up: they are handed to the same
//! handler as the messages that they were, and what becomes of them is recorded.

use super::{Class, Delivery, Patience, dead};
use crate::{
    contract::Malformed,
    dead_letters::resolution::{Order, Origin, Outcome, Resolution, record, required},
    nats::Nats,
    stream::ConsumerSpec,
};

/// A dead letter on its way back.
#[derive(Debug, Clone)]
pub(super) struct Returned {
    /// The message that it was.
    pub(super) delivery: Delivery,
    /// The partition that it was read in.
    pub(super) partition: u32,
    origin: Origin,
    order: Order,
    letter: u64,
    replay: u64,
}

impl Returned {
    /// Reads what the replayer published.
    pub(super) fn read(seen: &Delivery) -> Result<Self, Malformed> {
        let headers = &seen.headers;
        let origin = Origin::read(headers)?;
        let letter = seen.subject.rsplit('.').next().and_then(|letter| letter.parse().ok());
        let partition = ConsumerSpec::of_durable(&origin.consumer).map(|(_, partition)| partition);
        let delivery = Delivery {
            subject: required(headers, dead::SUBJECT)?,
            sequence: origin.sequence,
            published: required(headers, dead::STORED_AT)?,
            headers: dead::original_headers(headers),
            is_returned: true,
            patience: Patience::default(),
            ..seen.clone()
        };
        Ok(Self {
            delivery,
            partition: partition.ok_or_else(|| Malformed::missing("consumer"))?,
            order: Order::read(headers)?,
            letter: letter.ok_or_else(|| Malformed::missing("letter"))?,
            origin,
            replay: seen.sequence,
        })
    }

    /// Records that its consumer has handled it.
    pub(super) async fn handled(&self, nats: &Nats, attempts: i64) -> anyhow::Result<()> {
        self.record(nats, Outcome::Handled, attempts, None).await
    }

    /// Records that its consumer gave it up once more.
    pub(super) async fn failed(
        &self,
        nats: &Nats,
        attempts: i64,
        class: Class,
        error: &str,
    ) -> anyhow::Result<()> {
        self.record(nats, Outcome::Failed, attempts, Some((class, error))).await
    }

    async fn record(
        &self,
        nats: &Nats,
        outcome: Outcome,
        attempts: i64,
        why: Option<(Class, &str)>,
    ) -> anyhow::Result<()> {
        let resolution = Resolution {
            letter: self.letter,
            outcome,
            order: self.order.clone(),
            resolved_at: nats.clock.now(),
            replay: Some(self.replay),
            class: why.map(|(class, _)| class),
            error: why.map(|(_, error)| error.to_owned()),
            attempts: Some(attempts),
        };
        if record(nats, &self.origin, &resolution).await? {
            let (consumer, sequence) = (&self.origin.consumer, self.origin.sequence);
            tracing::info!(consumer, sequence, letter = self.letter, "dead letter {outcome}");
        }
        Ok(())
    }
}
