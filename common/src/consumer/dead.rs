//! Dead letters: the full copy that is kept of a message which could not be handled, and the headers
//! that say why.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_TTL,
    jetstream::{context::PublishError, message::PublishMessage},
};
use bytes::Bytes;

use super::{reader::REOPEN_AFTER, verdict::Class};
use crate::{
    clock::Timestamp,
    failpoint, metrics,
    nats::{self, Nats},
    subject,
};

/// The subject it had.
pub const SUBJECT: &str = "dlq-subject";
/// The consumer that could not handle it.
pub const CONSUMER: &str = "dlq-consumer";
/// The stream it is in.
pub const STREAM: &str = "dlq-stream";
/// Its sequence there.
pub const SEQUENCE: &str = "dlq-sequence";
/// How often it was tried.
pub const ATTEMPTS: &str = "dlq-attempts";
/// When it was stored there: the first try came after this.
pub const STORED_AT: &str = "dlq-stored-at";
/// When it was given up: the last try came before this.
pub const FAILED_AT: &str = "dlq-failed-at";
/// From when on it means nothing any more; only where it was sent with a time to live.
pub const EXPIRES_AT: &str = "dlq-expires-at";
/// Why, in one word: a [`Class`].
pub const CLASS: &str = "dlq-class";
/// Why.
pub const ERROR: &str = "dlq-error";

/// What all these headers begin with.
const PREFIX: &str = "dlq-";
/// The longest pause between two tries to store a copy.
const PAUSE_MAX: Duration = Duration::from_secs(16);

/// A message that is given up, and why.
#[derive(Debug, Clone)]
pub(super) struct Obituary<'a> {
    pub(super) consumer: &'a str,
    pub(super) stream: &'a str,
    pub(super) sequence: u64,
    pub(super) subject: &'a str,
    pub(super) stored_at: Timestamp,
    pub(super) attempts: i64,
    pub(super) class: Class,
    pub(super) error: String,
    pub(super) headers: Option<&'a HeaderMap>,
    pub(super) payload: Bytes,
}

/// Stores a full copy on the DLQ; once, however often it is tried. It does not end before the copy
/// is stored, and the message is not let go before it ends.
pub(super) async fn bury(nats: &Nats, obituary: &Obituary<'_>) {
    tracing::error!(
        consumer = obituary.consumer,
        stream = obituary.stream,
        sequence = obituary.sequence,
        attempt = obituary.attempts,
        class = obituary.class.name(),
        error = obituary.error,
        "message goes to the dead-letter queue",
    );
    let consumer = obituary.consumer.to_owned();
    metrics::CONSUMER_DEAD_LETTERS.with(&[("consumer", consumer)]).increment(1);
    failpoint::reach("consumer.burying");
    let mut pause = REOPEN_AFTER;
    while let Err(err) = store(nats, obituary).await {
        let subject = obituary.letter();
        tracing::warn!(subject, error = %err, "no copy on the dead-letter queue yet");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    failpoint::reach("consumer.buried");
}

/// Tries once to store the copy. That it is there already is as good.
async fn store(nats: &Nats, obituary: &Obituary<'_>) -> Result<(), PublishError> {
    let copy = PublishMessage::build()
        .payload(obituary.payload.clone())
        .headers(obituary.headers(nats.clock.now()))
        .expected_last_subject_sequence(0);
    let published = match nats.jetstream.send_publish(obituary.letter(), copy).await {
        Ok(ack) => ack.await.map(|_| ()),
        Err(err) => Err(err),
    };
    published.or_else(|err| if nats::is_wrong_sequence(&err) { Ok(()) } else { Err(err) })
}

impl Obituary<'_> {
    fn letter(&self) -> String {
        subject::dead_letter(self.consumer, self.stream, self.sequence)
    }

    fn headers(&self, now: Timestamp) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in self.headers.into_iter().flat_map(HeaderMap::iter) {
            // The broker's own instructions (schedules, expectations) must not act a second time.
            if !AsRef::<str>::as_ref(name).starts_with("Nats-") {
                for value in values {
                    headers.append(name.clone(), value.clone());
                }
            }
        }
        if let Some(expires_at) = self.expires_at() {
            headers.insert(EXPIRES_AT, expires_at.to_string());
        }
        headers.insert(SUBJECT, self.subject);
        headers.insert(CONSUMER, self.consumer);
        headers.insert(STREAM, self.stream);
        headers.insert(SEQUENCE, self.sequence.to_string());
        headers.insert(ATTEMPTS, self.attempts.to_string());
        headers.insert(STORED_AT, self.stored_at.to_string());
        headers.insert(FAILED_AT, now.to_string());
        headers.insert(CLASS, self.class.name());
        headers.insert(ERROR, one_line(&self.error));
        headers
    }

    fn expires_at(&self) -> Option<Timestamp> {
        let seconds = self.headers?.get(NATS_MESSAGE_TTL)?.as_str().trim_end_matches('s');
        Some(self.stored_at.plus(Duration::from_secs(seconds.parse().ok()?)))
    }
}

/// A header is one line.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// The headers that a dead letter had before it died.
#[must_use]
pub fn original_headers(letter: &HeaderMap) -> HeaderMap {
    let mut original = HeaderMap::new();
    for (name, values) in letter.iter() {
        let text: &str = name.as_ref();
        if !text.starts_with(PREFIX) && !text.starts_with("Nats-") {
            for value in values {
                original.append(name.clone(), value.clone());
            }
        }
    }
    original
}
