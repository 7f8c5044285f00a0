//! Carries the outbox to the broker: riders in parallel, one event of a rider at a time, each with the
//! sequence that the one before it got. Nobody else writes these subjects, so when the outcome of a
//! publish is unknown the last message of the subject tells: it is this event, or it is not there.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_nats::jetstream::{message::PublishMessage, stream::LastRawMessageErrorKind};
use common::{
    envelope::{Envelope, header},
    failpoint,
    id::RiderId,
    nats::Nats,
    stream,
};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::store::{
    Store, StoreError,
    outbox::{self, Waiting},
};

/// Riders whose events are on their way at the same time.
const IN_FLIGHT_MAX: usize = 256;
/// Rows that one look at the outbox takes; more than fit in flight, so that a look is never in vain.
const HEADS_MAX: u32 = 512;
/// A row that nobody announced waits this long at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The first pause after an unknown outcome; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// The longest pause while the broker is away.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// What is in flight at shutdown may take this long. What does not make it is found again.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Rows that the broker has are kept this long, to look something up.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// `ce-source` and the contract's message.
const SOURCE: &str = "rider";
const SCHEMA: &str = "rider.proto#RiderEvent";

/// Tells the relay that the outbox has something.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    /// After a commit that put something in the outbox.
    pub fn ring(&self) {
        self.0.notify_one();
    }
}

/// The relay.
#[derive(Debug, Clone)]
pub struct Relay {
    nats: Nats,
    store: Store,
    bell: Bell,
}

/// Why an event may not be on the broker yet.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error("the broker is not connected")]
    Disconnected,
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    #[error("the stream cannot be read: {0}")]
    Unreadable(String),
}

impl Relay {
    /// Between this store and this broker.
    #[must_use]
    pub fn new(nats: Nats, store: Store, bell: Bell) -> Self {
        Self { nats, store, bell }
    }

    /// Carries events until shutdown.
    ///
    /// # Errors
    /// When the store fails for good.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut in_flight: JoinSet<RiderId> = JoinSet::new();
        let mut busy: HashSet<RiderId> = HashSet::new();
        loop {
            if in_flight.len() < IN_FLIGHT_MAX {
                let heads = self.store.read(|tx| outbox::heads(tx, HEADS_MAX)).await;
                for head in heads.unwrap_or_else(|err: StoreError| {
                    tracing::error!(error = %err, "the outbox cannot be read");
                    Vec::new()
                }) {
                    if in_flight.len() < IN_FLIGHT_MAX && busy.insert(head.key) {
                        in_flight.spawn(self.clone().carry(head));
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.bell.0.notified() => {}
                _ = look.tick() => {}
                Some(carried) = in_flight.join_next() => {
                    busy.remove(&carried?);
                }
            }
            while let Some(carried) = in_flight.try_join_next() {
                busy.remove(&carried?);
            }
        }
        let drained = async { while in_flight.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
            tracing::info!("events left in the outbox for the next start");
        }
        Ok(())
    }

    /// Brings one event to the broker, however long it takes, and records where it is.
    async fn carry(self, row: Waiting) -> RiderId {
        let sequence = self.deliver(&row).await;
        let (id, key) = (row.id, row.key);
        let old = outbox_horizon(&self.nats);
        let recorded = self
            .store
            .write(move |tx| {
                outbox::published(tx, id, sequence)?;
                outbox::prune(tx, old)
            })
            .await;
        failpoint::reach("relay.recorded");
        match recorded {
            Ok(()) => tracing::debug!(rider.id = %key, sequence, "published {}", row.kind),
            // It is on the broker; the next look finds it there by its id.
            Err(StoreError::Closed) => {}
            Err(err) => tracing::error!(rider.id = %key, sequence, error = %err, "not recorded"),
        }
        key
    }

    async fn deliver(&self, row: &Waiting) -> u64 {
        let mut expected = Some(row.after);
        let mut pause = RETRY_FIRST;
        loop {
            match self.attempt(row, expected).await {
                Ok(sequence) => return sequence,
                Err(why) => {
                    tracing::debug!(rider.id = %row.key, error = %why, "not published yet");
                    // The next attempt looks before it publishes.
                    expected = None;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn attempt(&self, row: &Waiting, expected: Option<u64>) -> Result<u64, NotYet> {
        // The client would keep the message and send it some time after its time-out.
        if !self.nats.is_connected() {
            return Err(NotYet::Disconnected);
        }
        let subject = self.nats.partitions.rider_event(row.key);
        let expected = match expected {
            Some(expected) => expected,
            None => match self.last_of(&subject).await? {
                Some((sequence, event)) if event == row.event.to_string() => return Ok(sequence),
                Some((sequence, _)) => sequence,
                None => 0,
            },
        };
        failpoint::reach("relay.publishing");
        let message = PublishMessage::build()
            .payload(row.payload.clone().into())
            .headers(self.envelope(row).to_headers(SCHEMA))
            .expected_last_subject_sequence(expected);
        let unknown = |err: &dyn std::fmt::Display| NotYet::Unknown(err.to_string());
        let ack = self.nats.jetstream.send_publish(subject, message).await;
        let ack = ack.map_err(|err| unknown(&err))?.await.map_err(|err| unknown(&err))?;
        if ack.duplicate {
            return Err(NotYet::Unknown("acknowledged as a duplicate".into()));
        }
        failpoint::reach("relay.published");
        Ok(ack.sequence)
    }

    /// Sequence and id of the last event of a subject, from the stream's leader: a replica may lag.
    async fn last_of(&self, subject: &str) -> Result<Option<(u64, String)>, NotYet> {
        let unreadable = |err: &dyn std::fmt::Display| NotYet::Unreadable(err.to_string());
        let stream = self.nats.jetstream.get_stream_no_info(stream::RIDER).await;
        let stream = stream.map_err(|err| unreadable(&err))?;
        match stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => {
                let event = message.headers.get(header::ID).map(|id| id.to_string());
                Ok(Some((message.sequence, event.unwrap_or_default())))
            }
            Err(err) if matches!(err.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(err) => Err(unreadable(&err)),
        }
    }

    fn envelope(&self, row: &Waiting) -> Envelope {
        Envelope {
            id: row.event,
            kind: row.kind.clone(),
            source: SOURCE.to_owned(),
            time: row.at,
            subject: row.key.0,
            correlation: Some(row.correlation),
            causation: row.cause.id,
            hlc: self.nats.clock.tick(),
            traceparent: row.cause.traceparent.clone(),
        }
    }
}

fn outbox_horizon(nats: &Nats) -> common::clock::Timestamp {
    let kept_for = i64::try_from(KEPT_FOR.as_micros()).unwrap_or(i64::MAX);
    common::clock::Timestamp::from_micros(nats.clock.now().micros().saturating_sub(kept_for))
}
