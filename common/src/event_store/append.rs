//! How an event reaches the log: its timer first, then itself, by compare-and-set.

use async_nats::{
    HeaderMap, HeaderValue,
    header::{
        NATS_MESSAGE_ID, NATS_SCHEDULE, NATS_SCHEDULE_NEXT, NATS_SCHEDULE_TARGET, NATS_SCHEDULER,
    },
};
use prost::Message as _;
use uuid::Uuid;

use super::{Cause, EventStore, ExecuteError, next::Next};
use crate::{
    clock::Timestamp,
    contract::v1,
    decider::Recorder,
    envelope::Envelope,
    failpoint,
    id::{CommandId, EventId},
    log::{self, AppendError},
    metrics::{self, Appended},
    planted::{self, Planted},
};

/// Tells the broker that the schedule named beside it ends with this very message.
const PURGE: &str = "purge";

/// What became of a message that was sent.
pub(super) enum Append {
    /// It is stored, at this sequence.
    Stored(u64),
    /// A time-out, error 10071 or a duplicate: only the log knows.
    Unknown(String),
}

impl<D: Recorder> EventStore<D> {
    pub(super) async fn append(
        &self,
        id: D::Id,
        command_id: CommandId,
        cause: &Cause,
        event: &D::Event,
        next: &Next<D>,
    ) -> Result<Append, ExecuteError<D>> {
        let key: Uuid = id.into();
        let envelope = Envelope {
            id: EventId::derived(key, command_id),
            kind: D::kind(event).to_owned(),
            source: D::SOURCE.to_owned(),
            time: next.loaded.at,
            subject: key,
            correlation: D::correlation(id, event, &next.loaded.state),
            causation: cause.id,
            hlc: self.port.clock.tick(),
            traceparent: cause.traceparent.clone(),
        };
        failpoint::reach("event_store.decided");
        if let Some(timer) = &next.started {
            if let Append::Unknown(why) = self.schedule(key, timer, &envelope).await? {
                return Ok(Append::Unknown(why));
            }
            failpoint::reach("event_store.timer_set");
        }
        let mut headers = envelope.to_headers(D::SCHEMA);
        if let Some(timer) = &next.pointless {
            headers.insert(NATS_SCHEDULE_NEXT, PURGE);
            headers.insert(NATS_SCHEDULER, self.schedule_subject(key, timer).as_str());
        }
        let stamp = v1::Stamp {
            version: next.loaded.version,
            at_us: next.loaded.at.micros(),
            recent: next.loaded.recent.clone(),
            timers: next.loaded.timers.clone(),
        };
        // No `Nats-Msg-Id`: with the right expectation a repeated id would be swallowed.
        if planted::is_on(Planted::DuplicateIsSuccess) {
            headers.insert(NATS_MESSAGE_ID, envelope.id.to_string());
        }
        let payload = D::encode(stamp, event, &next.loaded.state).into();
        let is_compared = !planted::is_on(Planted::NoCompareAndSet);
        let expected = is_compared.then_some(next.expected);
        let message = log::Append { subject: self.subject(id), headers, payload, expected };
        let appended = self.publish(message).await;
        let outcome = match &appended {
            Ok(Append::Stored(_)) => Appended::Stored,
            Ok(Append::Unknown(_)) => Appended::Unknown,
            Err(_) => Appended::Refused,
        };
        let labels = [("aggregate", D::SOURCE), ("outcome", outcome.label())];
        metrics::APPENDS.with(&labels).increment(1);
        appended
    }

    /// Stores the timer that an event starts, before the event: a timer whose event was refused
    /// fires into nothing, an event whose timer was lost would wait for ever.
    async fn schedule(
        &self,
        key: Uuid,
        timer: &v1::Timer,
        envelope: &Envelope,
    ) -> Result<Append, ExecuteError<D>> {
        let due = v1::Due {
            timer_id: timer.id.clone(),
            kind: timer.kind.clone(),
            aggregate_id: key.as_bytes().to_vec(),
        };
        let envelope = Envelope { kind: format!("{}.due", D::SOURCE), ..envelope.clone() };
        let mut headers: HeaderMap = envelope.to_headers("common.proto#Due");
        let at = Timestamp::from_micros(timer.due_us);
        headers.insert(NATS_SCHEDULE, HeaderValue::from(format!("@at {at}")));
        headers.insert(NATS_SCHEDULE_TARGET, D::SUBJECTS.fired(self.port.partitions, key).as_str());
        if planted::is_on(Planted::DuplicateIsSuccess) {
            headers.insert(NATS_MESSAGE_ID, envelope.id.to_string());
        }
        let (subject, payload) = (self.schedule_subject(key, timer), due.encode_to_vec().into());
        self.publish(log::Append { subject, headers, payload, expected: None }).await
    }

    fn schedule_subject(&self, key: Uuid, timer: &v1::Timer) -> String {
        let timer = Uuid::from_slice(&timer.id).unwrap_or_default();
        D::SUBJECTS.schedule(self.port.partitions, key, timer)
    }

    async fn publish(&self, message: log::Append) -> Result<Append, ExecuteError<D>> {
        match self.port.log.append(message).await {
            Ok(ack) if ack.is_duplicate && !planted::is_on(Planted::DuplicateIsSuccess) => {
                Ok(Append::Unknown("acknowledged as duplicate".to_owned()))
            }
            Ok(ack) => Ok(Append::Stored(ack.sequence)),
            Err(AppendError::Unknown(why)) => Ok(Append::Unknown(why)),
            Err(AppendError::Unavailable(why)) => Err(ExecuteError::Unavailable(why)),
        }
    }
}
