//! How one row of the outbox gets onto the broker, once. Only this service writes these subjects, each
//! event after the one before it is recorded. So when the outcome of a publish is unknown, the last
//! message of the subject and then the row tell: the message is this event; or the row is recorded,
//! because a replica that took over was faster; or the event is not there, and the compare-and-set on
//! that message keeps it from being there twice.

use common::{
    clock::Timestamp,
    envelope::{Envelope, header},
    failpoint,
    log::{Append, LogError, LogPort, ReadFrom},
    stream,
};

use crate::store::{
    Store, StoreError,
    outbox::{self, Waiting},
};

/// `ce-source` and the contract's message.
const SOURCE: &str = "rider";
const SCHEMA: &str = "rider.proto#RiderEvent";

/// Publishes rows of the outbox.
#[derive(Debug, Clone)]
pub struct Publisher {
    port: LogPort,
    store: Store,
}

/// Why an event may not be on the broker yet.
#[derive(Debug, thiserror::Error)]
pub enum NotYet {
    /// Nothing was sent.
    #[error("the broker is not connected")]
    Disconnected,
    /// It may be stored.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// Nothing was sent.
    #[error(transparent)]
    Unreadable(#[from] LogError),
    /// Nothing was sent.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Publisher {
    /// From this store to this log.
    #[must_use]
    pub fn new(port: impl Into<LogPort>, store: Store) -> Self {
        Self { port: port.into(), store }
    }

    /// Broker time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.port.clock.now()
    }

    /// Tries once to bring an event to the broker behind the message of sequence `expected`;
    /// `None` after an attempt of unknown outcome: then the log is read first. Answers with the
    /// event's sequence, or with nothing when another replica brought it there and recorded that.
    ///
    /// # Errors
    /// When it may not be there yet.
    pub async fn attempt(
        &self,
        row: &Waiting,
        expected: Option<u64>,
    ) -> Result<Option<u64>, NotYet> {
        // The client would keep the message and send it some time after its time-out.
        if !self.port.log.is_reachable() {
            return Err(NotYet::Disconnected);
        }
        let subject = self.port.partitions.rider_event(row.key);
        let expected = match expected {
            Some(expected) => expected,
            None => match self.last_of(&subject).await? {
                Some((sequence, event)) if event == row.event.to_string() => {
                    return Ok(Some(sequence));
                }
                last => {
                    // After the read: what is recorded by now may have been followed by others.
                    let id = row.id;
                    if !self.store.read(move |tx| outbox::is_waiting(tx, id)).await? {
                        return Ok(None);
                    }
                    last.map_or(0, |(sequence, _)| sequence)
                }
            },
        };
        failpoint::reach("relay.publishing");
        let ack = self
            .port
            .log
            .append(Append {
                subject,
                headers: self.envelope(row).to_headers(SCHEMA),
                payload: row.payload.clone().into(),
                expected: Some(expected),
            })
            .await
            .map_err(|err| NotYet::Unknown(err.to_string()))?;
        if ack.is_duplicate {
            return Err(NotYet::Unknown("acknowledged as a duplicate".into()));
        }
        failpoint::reach("relay.published");
        Ok(Some(ack.sequence))
    }

    /// Sequence and id of the last event of a subject, from the stream's leader: a replica may lag.
    async fn last_of(&self, subject: &str) -> Result<Option<(u64, String)>, NotYet> {
        let last = self.port.log.last(stream::RIDER, subject, ReadFrom::Leader).await?;
        Ok(last.map(|message| {
            let event = message.headers.get(header::ID).map(|id| id.to_string());
            (message.sequence, event.unwrap_or_default())
        }))
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
            hlc: self.port.clock.tick(),
            traceparent: row.cause.traceparent.clone(),
        }
    }
}
