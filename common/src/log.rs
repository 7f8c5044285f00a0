//! The port to the log: what the services' rules of writing need of JetStream, and nothing else. The
//! broker implements it, and so does the simulated log, so that the same code runs on both.

use std::{fmt::Debug, sync::Arc};

use async_nats::{
    HeaderMap,
    jetstream::{
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
        stream::{DirectGetErrorKind, LastRawMessageErrorKind},
    },
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::{
    clock::{Clock, Timestamp},
    contract::Malformed,
    envelope::Envelope,
    nats::{self, Nats},
    subject::Partitions,
};

/// A message that is to be stored.
#[derive(Debug, Clone)]
pub struct Append {
    /// Its subject.
    pub subject: String,
    /// Its headers, schedules and the like among them.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
    /// The sequence that the last message of the subject must have; 0 = there is none. `None`: it
    /// is stored whatever was stored before.
    pub expected: Option<u64>,
}

/// The log says that a message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// A message of the same id was stored before; this one was not.
    pub is_duplicate: bool,
}

/// Why it is not certain that a message is stored, split by what the caller does next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// A time-out or another last sequence: only the log knows.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The log does not take it now.
    #[error("the log cannot be written: {0}")]
    Unavailable(String),
}

/// The log cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the log cannot be read: {0}")]
pub struct LogError(pub String);

/// Who may answer a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// Any replica: it may lag behind an ack.
    Any,
    /// The stream's leader, which acknowledges.
    Leader,
}

/// A stored message.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the broker stored it.
    pub published: Timestamp,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
}

impl Stored {
    /// The message's envelope.
    ///
    /// # Errors
    /// When it has none that can be read.
    pub fn envelope(&self) -> Result<Envelope, Malformed> {
        Envelope::from_headers(&self.headers)
    }

    /// The key that the subject ends with, such as a trip's id.
    ///
    /// # Errors
    /// When that is no id.
    pub fn key(&self) -> Result<Uuid, Malformed> {
        let key = self.subject.rsplit('.').next().unwrap_or_default();
        key.parse().map_err(|err| Malformed::new("subject", err))
    }
}

/// A log of messages, in streams by subject.
pub trait Log: Debug + Send + Sync {
    /// Stores a message and waits until the log says so.
    fn append(&self, message: Append) -> BoxFuture<'_, Result<Ack, AppendError>>;

    /// The last message of a subject, if there is one.
    fn last<'a>(
        &'a self,
        stream: &'static str,
        subject: &'a str,
        from: ReadFrom,
    ) -> BoxFuture<'a, Result<Option<Stored>, LogError>>;

    /// Whether the log can be reached now. What is appended while it cannot may be stored long
    /// after the caller gave up.
    fn is_reachable(&self) -> bool;
}

/// A service's access to the log; cheap to clone.
#[derive(Debug, Clone)]
pub struct LogPort {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Broker time.
    pub clock: Clock,
    /// How the deployment is partitioned.
    pub partitions: Partitions,
}

impl From<&Nats> for LogPort {
    fn from(nats: &Nats) -> Self {
        let (clock, partitions) = (nats.clock.clone(), nats.partitions);
        Self { log: Arc::new(nats.clone()), clock, partitions }
    }
}

impl From<PublishError> for AppendError {
    fn from(err: PublishError) -> Self {
        match err.kind() {
            _ if nats::is_wrong_sequence(&err) => Self::Unknown(err.to_string()),
            PublishErrorKind::TimedOut
            | PublishErrorKind::BrokenPipe
            | PublishErrorKind::WrongLastSequence => Self::Unknown(err.to_string()),
            PublishErrorKind::StreamNotFound
            | PublishErrorKind::WrongLastMessageId
            | PublishErrorKind::MaxAckPending
            | PublishErrorKind::MaxPayloadExceeded
            | PublishErrorKind::Other => Self::Unavailable(err.to_string()),
        }
    }
}

impl Log for Nats {
    fn append(&self, message: Append) -> BoxFuture<'_, Result<Ack, AppendError>> {
        let Append { subject, headers, payload, expected } = message;
        let mut message = PublishMessage::build().payload(payload).headers(headers);
        if let Some(expected) = expected {
            message = message.expected_last_subject_sequence(expected);
        }
        Box::pin(async move {
            let ack = self.jetstream.send_publish(subject, message).await?.await?;
            Ok(Ack { sequence: ack.sequence, is_duplicate: ack.duplicate })
        })
    }

    fn last<'a>(
        &'a self,
        stream: &'static str,
        subject: &'a str,
        from: ReadFrom,
    ) -> BoxFuture<'a, Result<Option<Stored>, LogError>> {
        Box::pin(async move {
            let unreadable = |err: &dyn std::fmt::Display| LogError(err.to_string());
            let stream = self.jetstream.get_stream_no_info(stream).await;
            let stream = stream.map_err(|err| unreadable(&err))?;
            let message = match from {
                ReadFrom::Any => match stream.direct_get_last_for_subject(subject).await {
                    Ok(message) => message,
                    Err(err) if err.kind() == DirectGetErrorKind::NotFound => return Ok(None),
                    Err(err) => return Err(unreadable(&err)),
                },
                ReadFrom::Leader => match stream.get_last_raw_message_by_subject(subject).await {
                    Ok(message) => message,
                    Err(err) if matches!(err.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                        return Ok(None);
                    }
                    Err(err) => return Err(unreadable(&err)),
                },
            };
            Ok(Some(Stored {
                subject: message.subject.to_string(),
                sequence: message.sequence,
                published: message.time.into(),
                headers: message.headers,
                payload: message.payload,
            }))
        })
    }

    fn is_reachable(&self) -> bool {
        self.is_connected()
    }
}
