//! Dead letters: the full copy that is kept of a message which could not be handled, and the headers
//! that say why.

use async_nats::{
    HeaderMap,
    jetstream::{self, message::PublishMessage},
};

use super::{BACKOFF_FIRST, REOPEN_AFTER, Reader};
use crate::{failpoint, nats, subject};

/// The subject it had.
pub const SUBJECT: &str = "dlq-subject";
/// The consumer that could not handle it.
pub const CONSUMER: &str = "dlq-consumer";
/// The stream it is in.
pub const STREAM: &str = "dlq-stream";
/// How often it was tried.
pub const ATTEMPTS: &str = "dlq-attempts";
/// When it was given up.
pub const FAILED_AT: &str = "dlq-failed-at";
/// Why.
pub const ERROR: &str = "dlq-error";

impl Reader {
    /// Stores a full copy on the DLQ; once, however often it is tried. The message is not let go
    /// before the copy is stored.
    pub(super) async fn bury(
        &self,
        message: &jetstream::Message,
        sequence: u64,
        attempt: i64,
        err: &anyhow::Error,
    ) {
        let durable = self.spec.durable(self.partition);
        tracing::error!(
            consumer = durable,
            stream = self.spec.stream,
            sequence,
            attempt,
            error = format!("{err:#}"),
            "message goes to the dead-letter queue",
        );
        failpoint::reach("consumer.burying");
        let subject = subject::dead_letter(&durable, self.spec.stream, sequence);
        let mut pause = REOPEN_AFTER;
        loop {
            let copy = PublishMessage::build()
                .payload(message.payload.clone())
                .headers(self.obituary(message, attempt, err))
                .expected_last_subject_sequence(0);
            let published = match self.nats.jetstream.send_publish(subject.clone(), copy).await {
                Ok(ack) => ack.await.map(|_| ()),
                Err(err) => Err(err),
            };
            match published {
                Ok(()) => {
                    failpoint::reach("consumer.buried");
                    return;
                }
                Err(err) if nats::is_wrong_sequence(&err) => return,
                Err(err) => {
                    tracing::warn!(subject, error = %err, "no copy on the dead-letter queue yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF_FIRST * 16);
                }
            }
        }
    }

    fn obituary(
        &self,
        message: &jetstream::Message,
        attempt: i64,
        err: &anyhow::Error,
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
            // The broker's own instructions (schedules, expectations) must not act a second time.
            if !AsRef::<str>::as_ref(name).starts_with("Nats-") {
                for value in values {
                    headers.append(name.clone(), value.clone());
                }
            }
        }
        headers.insert(SUBJECT, message.subject.as_str());
        headers.insert(CONSUMER, self.spec.durable(self.partition));
        headers.insert(STREAM, self.spec.stream);
        headers.insert(ATTEMPTS, attempt.to_string());
        headers.insert(FAILED_AT, self.nats.clock.now().to_string());
        // A header is one line.
        headers.insert(ERROR, format!("{err:#}").replace(['\r', '\n'], " "));
        headers
    }
}
