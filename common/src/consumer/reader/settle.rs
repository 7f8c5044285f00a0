//! Handles one message and carries out what the verdict says.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use async_nats::jetstream::{self, AckKind};

use super::{Reader, Source};
use crate::{
    clock::Timestamp,
    consumer::{
        Class, Delivery, Failure, Verdict, acks_first, admit,
        dead::{self, Obituary},
        patience::{Patience, with_progress, within},
        replay::Returned,
        verdict,
    },
    failpoint, metrics,
    stream::{ConsumerKind, HANDLED_BYTES_MAX, TRIES_MAX},
};

impl Reader {
    /// Handles one message and tells the broker how it went. Losing an ack only costs a repetition.
    pub(super) async fn settle<H, Fut>(&self, message: jetstream::Message, handler: &H)
    where
        H: Fn(Delivery, u32) -> Fut,
        Fut: Future<Output = Result<(), Failure>>,
    {
        let started = Instant::now();
        let seen = match delivery(&message) {
            Ok(seen) => seen,
            Err(err) => {
                tracing::warn!(consumer = self.spec.name, error = %err, "not a delivery");
                return;
            }
        };
        let (sequence, attempt, published) = (seen.sequence, seen.attempt, seen.published);
        let Some(case) = self.case(&message, seen).await else { return };
        if acks_first()
            && let Err(err) = message.ack_with(AckKind::Ack).await
        {
            tracing::debug!(sequence, error = %err, "ack not sent");
        }
        let (attempt, handled) = match admit(attempt) {
            Ok(()) => (attempt, self.handle(&message, &case, handler).await),
            // It was answered, and well. The broker has not heard of it yet, or late.
            Err(_) if self.answered.has(sequence) => (TRIES_MAX, Ok(())),
            Err(unanswered) => (TRIES_MAX, Err(unanswered)),
        };
        self.count(attempt, &handled);
        if handled.is_ok() {
            self.answered.keep(sequence);
        }
        let judged = verdict(handled, attempt, sequence, self.nats.consuming.retry_first());
        let settled = match judged {
            Verdict::Ack => self.close(&case, attempt).await.map(|()| AckKind::Ack),
            Verdict::Retry { after, err } => {
                tracing::warn!(
                    consumer = self.durable(),
                    stream = self.stream(),
                    sequence,
                    attempt,
                    duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(0),
                    error = format!("{err:#}"),
                    "not handled, trying again",
                );
                Ok(self.pause(&message, after).await)
            }
            Verdict::Bury { class, err } => {
                let given_up = GivenUp { sequence, attempt, published, class, err };
                let buried = self.bury(&message, &case, given_up);
                with_progress(&message, buried).await.map(|()| AckKind::Term)
            }
        };
        let acked = match settled {
            Ok(kind) => message.ack_with(kind).await,
            // It comes again.
            Err(err) => Err(err.into()),
        };
        if let Err(err) = acked {
            tracing::debug!(consumer = self.spec.name, sequence, error = %err, "ack not sent");
        }
    }

    fn count(&self, attempt: i64, handled: &Result<(), Failure>) {
        let consumer = ("consumer", self.spec.name);
        metrics::CONSUMER_DELIVERIES.with(&[consumer]).increment(1);
        if attempt > 1 {
            metrics::CONSUMER_REDELIVERIES.with(&[consumer]).increment(1);
        }
        if let Err(failure) = handled {
            let labels = [consumer, ("class", failure.class().name())];
            metrics::CONSUMER_FAILURES.with(&labels).increment(1);
        }
    }

    /// What a handler is given; nothing if it is no replay that anybody could make sense of.
    async fn case(&self, message: &jetstream::Message, seen: Delivery) -> Option<Case> {
        match self.source {
            Source::Partition(partition) => Some(Case::First { delivery: seen, partition }),
            Source::Replay(_) => match Returned::read(&seen) {
                Ok(returned) => Some(Case::Again(returned)),
                Err(err) => {
                    tracing::error!(subject = %message.subject, error = %err, "not a replay");
                    if let Err(err) = message.ack_with(AckKind::Term).await {
                        tracing::debug!(error = %err, "ack not sent");
                    }
                    None
                }
            },
        }
    }

    async fn handle<H, Fut>(
        &self,
        message: &jetstream::Message,
        case: &Case,
        handler: &H,
    ) -> Result<(), Failure>
    where
        H: Fn(Delivery, u32) -> Fut,
        Fut: Future<Output = Result<(), Failure>>,
    {
        let (delivery, partition) = case.parts();
        let size = delivery.payload.len();
        if self.spec.kind != ConsumerKind::Pings && size > HANDLED_BYTES_MAX {
            let most = HANDLED_BYTES_MAX;
            return Err(Failure::Permanent(anyhow::anyhow!("{size} bytes, the most is {most}")));
        }
        self.nats.clock.merge_from(&delivery.headers);
        failpoint::reach("consumer.received");
        let handled = async {
            match failpoint::poison(&delivery.headers) {
                None => handler(delivery.clone(), partition).await,
                Some(poison) => Err(Failure::Transient(poison.suffer().await)),
            }
        };
        let limit = self.nats.consuming.handling_max(self.spec.kind);
        let handled = within(limit, &delivery.patience, message, handled).await;
        failpoint::reach("consumer.handled");
        handled
    }

    /// Keeps what has to be kept of a message that is handled.
    async fn close(&self, case: &Case, attempt: i64) -> anyhow::Result<()> {
        match case {
            Case::First { .. } => Ok(()),
            Case::Again(returned) => returned.handled(&self.nats, attempt).await,
        }
    }

    /// Keeps what has to be kept of a message that is given up, before it is let go.
    async fn bury(
        &self,
        message: &jetstream::Message,
        case: &Case,
        given_up: GivenUp,
    ) -> anyhow::Result<()> {
        let GivenUp { sequence, attempt, published, class, err } = given_up;
        let error = format!("{err:#}");
        match case {
            Case::First { .. } => {
                let obituary = Obituary {
                    consumer: &self.durable(),
                    stream: self.stream(),
                    sequence,
                    subject: &message.subject,
                    stored_at: published,
                    attempts: attempt,
                    class,
                    error,
                    headers: message.headers.as_ref(),
                    payload: message.payload.clone(),
                };
                dead::bury(&self.nats, &obituary).await;
                Ok(())
            }
            // There is a letter already. Its history tells that it failed once more.
            Case::Again(returned) => returned.failed(&self.nats, attempt, class, &error).await,
        }
    }

    /// A worker hands the message back for later. A lane waits in place: in its order there is
    /// nothing else to do, and a message handed back with a delay would be overtaken.
    async fn pause(&self, message: &jetstream::Message, pause: Duration) -> AckKind {
        if self.kind().is_owned() {
            with_progress(message, tokio::time::sleep(pause)).await;
            AckKind::Nak(None)
        } else {
            AckKind::Nak(Some(pause))
        }
    }
}

/// A message in hand.
enum Case {
    First { delivery: Delivery, partition: u32 },
    Again(Returned),
}

impl Case {
    fn parts(&self) -> (&Delivery, u32) {
        match self {
            Self::First { delivery, partition } => (delivery, *partition),
            Self::Again(returned) => (&returned.delivery, returned.partition),
        }
    }
}

/// How it went with a message that is given up.
struct GivenUp {
    sequence: u64,
    attempt: i64,
    published: Timestamp,
    class: Class,
    err: anyhow::Error,
}

fn delivery(message: &jetstream::Message) -> Result<Delivery, async_nats::Error> {
    let info = message.info()?;
    Ok(Delivery {
        subject: message.subject.to_string(),
        sequence: info.stream_sequence,
        published: Timestamp::from(info.published),
        attempt: info.delivered,
        delivered: info.consumer_sequence,
        pending: info.pending,
        headers: message.headers.clone().unwrap_or_default(),
        payload: message.payload.clone(),
        is_returned: false,
        patience: Patience::default(),
    })
}
