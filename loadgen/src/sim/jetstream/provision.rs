//! Making streams and consumers from the configurations that the real server gets.

use async_nats::jetstream::{
    consumer::pull,
    stream::{Config, DiscardPolicy, RetentionPolicy},
};
use common::{
    clock::Timestamp,
    stream::{CONSUMERS, streams},
    subject::Partitions,
};

use super::{
    SimJetStream,
    answer::{Refused, code},
    consumer::Consumer,
    stream::Stream,
    subject,
};

impl SimJetStream {
    /// Makes every stream and consumer of the system.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn provision(&mut self, now: Timestamp, partitions: Partitions) -> Result<(), Refused> {
        for config in streams(partitions) {
            self.create_stream(now, config)?;
        }
        for spec in CONSUMERS {
            for partition in spec.partitions(partitions) {
                self.create_consumer(now, spec.stream, &spec.config(partition))?;
            }
        }
        Ok(())
    }

    /// Makes a stream. Making it again in the same way changes nothing.
    ///
    /// # Errors
    /// When it cannot be as it should, or other streams stand in the way.
    pub fn create_stream(&mut self, now: Timestamp, config: Config) -> Result<(), Refused> {
        self.advance(now);
        check(&config)?;
        if let Some(existing) = self.streams.get(&config.name) {
            if existing.config == config {
                return Ok(());
            }
            let why = "stream name already in use with a different configuration";
            return Err(Refused::new(code::STREAM_NAME_IN_USE, why));
        }
        let overlaps = |other: &Stream| {
            let theirs = &other.config.subjects;
            config.subjects.iter().any(|mine| theirs.iter().any(|it| subject::overlap(mine, it)))
        };
        if self.streams.values().any(overlaps) {
            let why = "subjects overlap with an existing stream";
            return Err(Refused::new(code::SUBJECTS_OVERLAP, why));
        }
        self.streams.insert(config.name.clone(), Stream::new(config));
        Ok(())
    }

    /// Makes a durable pull consumer. Making it again in the same way changes nothing.
    ///
    /// # Errors
    /// When it cannot be as it should, or other consumers of a work queue stand in the way.
    pub fn create_consumer(
        &mut self,
        now: Timestamp,
        stream: &str,
        config: &pull::Config,
    ) -> Result<(), Refused> {
        self.advance(now);
        let (stream, _) = self.parts(stream)?;
        let name = config.durable_name.as_ref().or(config.name.as_ref());
        if let Some(existing) = name.and_then(|name| stream.consumers.get(name)) {
            if existing.config == *config {
                return Ok(());
            }
            return Err(Refused::not_modelled("changing a consumer"));
        }
        let consumer = Consumer::new(now, config, stream)?;
        if let Some(name) = name {
            stream.consumers.insert(name.clone(), consumer);
        }
        Ok(())
    }
}

fn check(config: &Config) -> Result<(), Refused> {
    let is_plain = config.mirror.is_none()
        && config.sources.is_none()
        && config.subject_transform.is_none()
        && config.subject_delete_marker_ttl.is_none()
        && config.first_sequence.is_none()
        && !config.allow_atomic_publish
        && !config.allow_message_counter;
    if !is_plain || config.retention == RetentionPolicy::Interest {
        return Err(Refused::not_modelled("this kind of stream"));
    }
    if config.allow_message_schedules && config.discard == DiscardPolicy::New {
        // A timer that cannot be stored when it fires would be lost.
        let why = "message scheduling cannot use discard new";
        return Err(Refused::new(code::INVALID_STREAM, why));
    }
    if config.discard_new_per_subject && config.max_messages_per_subject <= 0 {
        let why = "discard new per subject requires max msgs per subject > 0";
        return Err(Refused::new(code::INVALID_STREAM, why));
    }
    Ok(())
}
