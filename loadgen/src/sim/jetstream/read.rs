//! What can be asked of the simulated broker without changing anything: messages and states.

use std::sync::Arc;

use super::{
    SimJetStream,
    answer::{Message, Refused},
    consumer::ConsumerState,
    log::StreamState,
    no_consumer,
    stream::Stream,
    subject,
};

impl SimJetStream {
    /// The message of a sequence.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn get(&self, stream: &str, sequence: u64) -> Result<Option<Arc<Message>>, Refused> {
        Ok(self.stream(stream)?.log.get(sequence).cloned())
    }

    /// The last message of a subject, or of all that a filter takes.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn last(&self, stream: &str, filter: &str) -> Result<Option<Arc<Message>>, Refused> {
        let log = &self.stream(stream)?.log;
        let sequence = if filter == ">" { log.last() } else { log.last_of(filter) };
        Ok(log.get(sequence).cloned())
    }

    /// The first message at or after a sequence that a filter takes.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn next(
        &self,
        stream: &str,
        filter: &str,
        from: u64,
    ) -> Result<Option<Arc<Message>>, Refused> {
        let mut range = self.stream(stream)?.log.range(from..);
        Ok(range.find(|message| subject::matches(filter, &message.subject)).cloned())
    }

    /// The last message of every subject that a filter takes, in the order of the stream.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn last_per_subject(
        &self,
        stream: &str,
        filter: &str,
    ) -> Result<Vec<Arc<Message>>, Refused> {
        let log = &self.stream(stream)?.log;
        let last = log.last_per_subject(filter);
        Ok(last.into_iter().filter_map(|sequence| log.get(sequence).cloned()).collect())
    }

    /// What a stream holds.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn stream_state(&self, stream: &str) -> Result<StreamState, Refused> {
        Ok(self.stream(stream)?.state())
    }

    /// Where a consumer is.
    ///
    /// # Errors
    /// When there is no such consumer.
    pub fn consumer_state(
        &mut self,
        stream: &str,
        consumer: &str,
    ) -> Result<ConsumerState, Refused> {
        let (stream, _) = self.parts(stream)?;
        let reads = stream.consumers.get_mut(consumer).ok_or_else(no_consumer)?;
        Ok(reads.state(&stream.log))
    }

    /// The messages that a consumer handed out and that were not answered, in order.
    ///
    /// # Errors
    /// When there is no such consumer.
    pub fn in_hand(&self, stream: &str, consumer: &str) -> Result<Vec<u64>, Refused> {
        let reads = self.stream(stream)?.consumers.get(consumer).ok_or_else(no_consumer)?;
        Ok(reads.in_hand().collect())
    }

    /// What all streams hold together, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.streams.values().map(|stream| stream.log.bytes()).sum()
    }

    fn stream(&self, stream: &str) -> Result<&Stream, Refused> {
        self.streams.get(stream).filter(|_| !self.is_down).ok_or_else(Refused::no_stream)
    }
}
