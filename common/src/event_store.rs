//! The event store: loads an aggregate from its last message, decides, and appends by
//! compare-and-set. One publish is the whole transaction; what cannot be known is looked up.

use std::{borrow::Cow, marker::PhantomData, ops::ControlFlow};

use async_nats::{
    HeaderMap, HeaderValue,
    header::{NATS_SCHEDULE, NATS_SCHEDULE_NEXT, NATS_SCHEDULE_TARGET, NATS_SCHEDULER},
    jetstream::{
        context::PublishErrorKind,
        message::PublishMessage,
        stream::{DirectGetErrorKind, LastRawMessageErrorKind, Stream},
    },
};
use prost::Message as _;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    contract::{Malformed, v1},
    decider::{Recorded, Recorder},
    envelope::Envelope,
    failpoint,
    id::{CommandId, EventId},
    nats::{self, Nats},
};

/// How often a command is decided anew when others were faster or an outcome was unknown.
const ATTEMPTS_MAX: u32 = 5;
/// How many commands a snapshot remembers. An older one must be harmless by state.
const RECENT_MAX: usize = 32;
/// Tells the broker that the schedule named beside it ends with this very message.
const PURGE: &str = "purge";

/// Why something is said: what caused it, and the trace it belongs to.
#[derive(Debug, Clone, Default)]
pub struct Cause {
    /// The id of the event or request that caused it.
    pub id: Option<Uuid>,
    /// W3C trace context, handed on as it came.
    pub traceparent: Option<String>,
}

impl From<&Envelope> for Cause {
    fn from(envelope: &Envelope) -> Self {
        Self { id: Some(envelope.id.0), traceparent: envelope.traceparent.clone() }
    }
}

/// An aggregate as its last message tells it.
#[derive(Debug, Clone)]
pub struct Loaded<D: Recorder> {
    /// What is true.
    pub state: D::State,
    /// How many events there are.
    pub version: u64,
    /// The last event's sequence in the stream; 0 when there is none.
    pub sequence: u64,
    /// When the last event was decided.
    pub at: Timestamp,
    /// The timers that run.
    pub timers: Vec<v1::Timer>,
    /// What happened last.
    pub last: Option<D::Event>,
    recent: Vec<v1::Recent>,
}

impl<D: Recorder> Default for Loaded<D> {
    fn default() -> Self {
        Self {
            state: D::State::default(),
            version: 0,
            sequence: 0,
            at: Timestamp::default(),
            timers: Vec::new(),
            last: None,
            recent: Vec::new(),
        }
    }
}

impl<D: Recorder> Loaded<D> {
    /// From an event that was read at this sequence.
    #[must_use]
    pub fn from_recorded(recorded: Recorded<D>, sequence: u64) -> Self {
        let Recorded { stamp, event, state } = recorded;
        Self {
            state,
            version: stamp.version,
            sequence,
            at: Timestamp::from_micros(stamp.at_us),
            timers: stamp.timers,
            last: Some(event),
            recent: stamp.recent,
        }
    }

    /// The version of the event that this command made, if it is remembered.
    #[must_use]
    pub fn made_by(&self, command: CommandId) -> Option<u64> {
        self.recent
            .iter()
            .rev()
            .find(|recent| recent.command == command.folded())
            .map(|recent| recent.version)
    }
}

/// What a command led to.
#[derive(Debug, Clone)]
pub struct Outcome<D: Recorder> {
    /// The aggregate afterwards.
    pub now: Loaded<D>,
    /// The event that this call stored. `None`: the command had been carried out before, or there
    /// was nothing to say.
    pub event: Option<D::Event>,
}

/// Why a command was not carried out, split by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<D: Recorder> {
    /// A rule stands in the way: an answer, not a fault.
    #[error("rejected: {rejection:?}")]
    Rejected {
        /// The fact that stands in the way.
        rejection: D::Rejection,
        /// The aggregate as it is.
        now: Box<Loaded<D>>,
    },
    /// Others were faster each time, or the outcome stayed unknown: try again later.
    #[error("not settled after {ATTEMPTS_MAX} attempts")]
    Unsettled,
    /// The broker does not answer: try again later.
    #[error("the event store cannot be reached: {0}")]
    Unavailable(String),
    /// The history cannot be read: trying again cannot help.
    #[error("the history is corrupt")]
    Corrupt(#[from] Malformed),
}

/// The histories of one kind of aggregate.
#[derive(Debug)]
pub struct EventStore<D: Recorder> {
    nats: Nats,
    stream: Stream<()>,
    aggregate: PhantomData<D>,
}

impl<D: Recorder> Clone for EventStore<D> {
    fn clone(&self) -> Self {
        Self { nats: self.nats.clone(), stream: self.stream.clone(), aggregate: PhantomData }
    }
}

enum Append {
    Stored(u64),
    /// A time-out, error 10071 or a duplicate: only the log knows.
    Unknown(String),
}

impl<D: Recorder> EventStore<D> {
    /// Opens the stream. It need not be reachable yet.
    ///
    /// # Errors
    /// When the stream's name is not one.
    pub async fn open(nats: &Nats) -> Result<Self, ExecuteError<D>> {
        let stream = nats
            .jetstream
            .get_stream_no_info(D::STREAM)
            .await
            .map_err(|err| ExecuteError::Unavailable(err.to_string()))?;
        Ok(Self { nats: nats.clone(), stream, aggregate: PhantomData })
    }

    /// The connection that this store uses.
    #[must_use]
    pub fn nats(&self) -> &Nats {
        &self.nats
    }

    fn subject(&self, id: D::Id) -> String {
        D::SUBJECTS.history(self.nats.partitions, id.into())
    }

    /// Reads the aggregate: one direct get of its last message, whatever the history's length.
    ///
    /// # Errors
    /// When the broker does not answer or the message cannot be read.
    pub async fn load(&self, id: D::Id) -> Result<Loaded<D>, ExecuteError<D>> {
        match self.stream.direct_get_last_for_subject(self.subject(id)).await {
            Ok(message) => {
                Ok(Loaded::from_recorded(D::decode(&message.payload)?, message.sequence))
            }
            Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(Loaded::default()),
            Err(err) => Err(ExecuteError::Unavailable(err.to_string())),
        }
    }

    /// Like [`Self::load`], but from the stream's leader: a replica may lag behind an ack.
    async fn load_from_leader(&self, id: D::Id) -> Result<Loaded<D>, ExecuteError<D>> {
        match self.stream.get_last_raw_message_by_subject(&self.subject(id)).await {
            Ok(message) => {
                Ok(Loaded::from_recorded(D::decode(&message.payload)?, message.sequence))
            }
            Err(err) if matches!(err.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                Ok(Loaded::default())
            }
            Err(err) => Err(ExecuteError::Unavailable(err.to_string())),
        }
    }

    /// Carries out a command, once: however often it comes and whatever crashes in between, it
    /// makes at most one event.
    ///
    /// # Errors
    /// When a rule stands in the way, or the outcome could not be settled.
    pub async fn execute(
        &self,
        id: D::Id,
        command_id: CommandId,
        cause: &Cause,
        command: &D::Command,
    ) -> Result<Outcome<D>, ExecuteError<D>> {
        self.settle(id, command_id, cause, &Wish::Command(command)).await
    }

    async fn settle(
        &self,
        id: D::Id,
        command_id: CommandId,
        cause: &Cause,
        wish: &Wish<'_, D>,
    ) -> Result<Outcome<D>, ExecuteError<D>> {
        let mut loaded = self.load(id).await?;
        // What an append of unknown fate expects to be the last sequence: while it is, that append
        // may still be on its way.
        let mut in_doubt = None;
        for _ in 0..ATTEMPTS_MAX {
            let expected = Some(loaded.sequence);
            match self.attempt(id, command_id, cause, wish, loaded).await {
                // Time went on and the answer would be another one now, but not for what is on its
                // way: it may come true after a refusal.
                Ok(ControlFlow::Break(Outcome { event: None, .. }))
                | Err(ExecuteError::Rejected { .. })
                    if in_doubt == expected =>
                {
                    return Err(ExecuteError::Unsettled);
                }
                Ok(ControlFlow::Break(outcome)) => return Ok(outcome),
                // Whatever happened, the log knows: my command is among its recent ones, or not.
                Ok(ControlFlow::Continue(())) => loaded = self.load_from_leader(id).await?,
                Err(err) => return Err(err),
            }
            in_doubt = expected;
        }
        Err(ExecuteError::Unsettled)
    }

    async fn attempt(
        &self,
        id: D::Id,
        command_id: CommandId,
        cause: &Cause,
        wish: &Wish<'_, D>,
        loaded: Loaded<D>,
    ) -> Result<ControlFlow<Outcome<D>>, ExecuteError<D>> {
        if loaded.made_by(command_id).is_some() {
            return Ok(ControlFlow::Break(Outcome { now: loaded, event: None }));
        }
        let now = self.nats.clock.now();
        let Some(command) = wish.command(&loaded)? else {
            return Ok(ControlFlow::Break(Outcome { now: loaded, event: None }));
        };
        let event = match D::decide(&loaded.state, &command, now) {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(ControlFlow::Break(Outcome { now: loaded, event: None })),
            Err(rejection) => {
                return Err(ExecuteError::Rejected { rejection, now: Box::new(loaded) });
            }
        };
        let next = next::<D>(id, command_id, loaded, &event, now);
        match self.append(id, command_id, cause, &event, &next).await? {
            Append::Stored(sequence) => {
                failpoint::reach("event_store.stored");
                let now = Loaded { sequence, last: Some(event.clone()), ..next.loaded };
                Ok(ControlFlow::Break(Outcome { now, event: Some(event) }))
            }
            Append::Unknown(why) => {
                tracing::debug!(aggregate.id = %id, why, "append not certain, reading the log");
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    async fn append(
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
            hlc: self.nats.clock.tick(),
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
        let message = PublishMessage::build()
            .payload(D::encode(stamp, event, &next.loaded.state).into())
            .headers(headers)
            .expected_last_subject_sequence(next.expected);
        self.publish(self.subject(id), message).await
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
        headers.insert(NATS_SCHEDULE_TARGET, D::SUBJECTS.fired(self.nats.partitions, key).as_str());
        let message = PublishMessage::build().payload(due.encode_to_vec().into()).headers(headers);
        self.publish(self.schedule_subject(key, timer), message).await
    }

    fn schedule_subject(&self, key: Uuid, timer: &v1::Timer) -> String {
        let timer = Uuid::from_slice(&timer.id).unwrap_or_default();
        D::SUBJECTS.schedule(self.nats.partitions, key, timer)
    }

    async fn publish(
        &self,
        subject: String,
        message: PublishMessage,
    ) -> Result<Append, ExecuteError<D>> {
        let unavailable = |err: async_nats::jetstream::context::PublishError| match err.kind() {
            _ if nats::is_wrong_sequence(&err) => Ok(Append::Unknown(err.to_string())),
            PublishErrorKind::TimedOut
            | PublishErrorKind::BrokenPipe
            | PublishErrorKind::WrongLastSequence => Ok(Append::Unknown(err.to_string())),
            PublishErrorKind::StreamNotFound
            | PublishErrorKind::WrongLastMessageId
            | PublishErrorKind::MaxAckPending
            | PublishErrorKind::MaxPayloadExceeded
            | PublishErrorKind::Other => Err(ExecuteError::Unavailable(err.to_string())),
        };
        let ack = match self.nats.jetstream.send_publish(subject, message).await {
            Ok(ack) => ack.await,
            Err(err) => return unavailable(err),
        };
        match ack {
            Ok(ack) if ack.duplicate => Ok(Append::Unknown("acknowledged as duplicate".to_owned())),
            Ok(ack) => Ok(Append::Stored(ack.sequence)),
            Err(err) => unavailable(err),
        }
    }

    /// Carries out what a timer that fired asks for, if the snapshot still names that timer.
    /// `None`: it had become pointless, or was carried out before.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn fire(
        &self,
        id: D::Id,
        timer_id: EventId,
        cause: &Cause,
    ) -> Result<Option<Outcome<D>>, ExecuteError<D>> {
        let wish = Wish::Timer(timer_id);
        let outcome = self.settle(id, due_command(timer_id), cause, &wish).await?;
        Ok(outcome.event.is_some().then_some(outcome))
    }
}

/// What is to be carried out.
enum Wish<'a, D: Recorder> {
    /// A command.
    Command(&'a D::Command),
    /// Whatever the timer stands for, as long as it runs. Looked up anew for each attempt: while
    /// others were faster, it may have become pointless.
    Timer(EventId),
}

impl<D: Recorder> Wish<'_, D> {
    fn command(&self, loaded: &Loaded<D>) -> Result<Option<Cow<'_, D::Command>>, Malformed> {
        let timer_id = match self {
            Self::Command(command) => return Ok(Some(Cow::Borrowed(*command))),
            Self::Timer(timer_id) => timer_id,
        };
        let running = loaded.timers.iter().find(|timer| timer.id == timer_id.0.as_bytes());
        let Some(timer) = running else { return Ok(None) };
        let kind =
            D::timer_kind(&timer.kind).ok_or_else(|| Malformed::new("timer kind", &timer.kind))?;
        Ok(Some(Cow::Owned(D::on_due(kind))))
    }
}

/// The command that a timer stands for: the same, whoever finds it overdue.
fn due_command(timer: EventId) -> CommandId {
    CommandId::step(timer, "due")
}

/// What an append is about to make true.
struct Next<D: Recorder> {
    loaded: Loaded<D>,
    /// The sequence that the last message must still have.
    expected: u64,
    started: Option<v1::Timer>,
    pointless: Option<v1::Timer>,
}

fn next<D: Recorder>(
    id: D::Id,
    command_id: CommandId,
    loaded: Loaded<D>,
    event: &D::Event,
    at: Timestamp,
) -> Next<D> {
    let version = loaded.version + 1;
    let state = D::evolve(loaded.state, event, at);
    let has_fired = |timer: &v1::Timer| {
        EventId::try_from(timer.id.as_slice()).is_ok_and(|timer| due_command(timer) == command_id)
    };
    let (mut timers, pointless): (Vec<_>, Vec<_>) =
        loaded.timers.into_iter().filter(|timer| !has_fired(timer)).partition(|timer| {
            D::timer_kind(&timer.kind).is_some_and(|kind| D::waits_for(&state, kind))
        });
    let started = D::starts(event).map(|(kind, due)| v1::Timer {
        id: EventId::derived(id.into(), command_id).to_vec(),
        kind: D::timer_name(kind).to_owned(),
        due_us: due.micros(),
    });
    timers.extend(started.clone());
    let mut recent = loaded.recent;
    recent.push(v1::Recent { command: command_id.folded(), version });
    let forgotten = recent.len().saturating_sub(RECENT_MAX);
    recent.drain(..forgotten);
    Next {
        expected: loaded.sequence,
        started,
        pointless: pointless.into_iter().next(),
        loaded: Loaded { state, version, sequence: 0, at, timers, last: None, recent },
    }
}
