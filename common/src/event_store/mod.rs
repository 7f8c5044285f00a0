//! The event store: loads an aggregate from its last message, decides, and appends by
//! compare-and-set. One publish is the whole transaction; what cannot be known is looked up.

mod append;
mod next;

use std::{marker::PhantomData, ops::ControlFlow};

use uuid::Uuid;

use self::{
    append::Append,
    next::{Wish, due_command, next},
};
use crate::{
    clock::Timestamp,
    contract::{Malformed, v1},
    decider::{Recorded, Recorder},
    envelope::Envelope,
    failpoint,
    id::{CommandId, EventId},
    log::{LogError, LogPort, ReadFrom},
    planted::{self, Planted},
};

/// How often a command is decided anew when others were faster or an outcome was unknown.
const ATTEMPTS_MAX: u32 = 5;

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
        let looked_at =
            if planted::is_on(Planted::OnlyLastEventCompared) { 1 } else { self.recent.len() };
        self.recent
            .iter()
            .rev()
            .take(looked_at)
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
    port: LogPort,
    aggregate: PhantomData<D>,
}

impl<D: Recorder> Clone for EventStore<D> {
    fn clone(&self) -> Self {
        Self { port: self.port.clone(), aggregate: PhantomData }
    }
}

impl<D: Recorder> From<LogError> for ExecuteError<D> {
    fn from(err: LogError) -> Self {
        Self::Unavailable(err.0)
    }
}

impl<D: Recorder> EventStore<D> {
    /// In this log. It need not be reachable yet.
    #[must_use]
    pub fn new(port: impl Into<LogPort>) -> Self {
        Self { port: port.into(), aggregate: PhantomData }
    }

    /// The log that this store uses.
    #[must_use]
    pub fn port(&self) -> &LogPort {
        &self.port
    }

    fn subject(&self, id: D::Id) -> String {
        D::SUBJECTS.history(self.port.partitions, id.into())
    }

    /// Reads the aggregate: one direct get of its last message, whatever the history's length.
    ///
    /// # Errors
    /// When the broker does not answer or the message cannot be read.
    pub async fn load(&self, id: D::Id) -> Result<Loaded<D>, ExecuteError<D>> {
        self.load_from(id, ReadFrom::Any).await
    }

    /// An ack is the leader's: whether something is stored only the leader knows.
    async fn load_from(&self, id: D::Id, from: ReadFrom) -> Result<Loaded<D>, ExecuteError<D>> {
        match self.port.log.last(D::STREAM, &self.subject(id), from).await? {
            Some(message) => {
                // What is decided on this event is ordered after it, whoever wrote it and whatever
                // clock they had.
                self.port.clock.merge_from(&message.headers);
                Ok(Loaded::from_recorded(D::decode(&message.payload)?, message.sequence))
            }
            None => Ok(Loaded::default()),
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
        let (mut loaded, mut from) = (self.load(id).await?, ReadFrom::Any);
        // What an append of unknown fate expects to be the last sequence: while it is, that append
        // may still be on its way.
        let mut in_doubt = None;
        for _ in 0..ATTEMPTS_MAX {
            let expected = Some(loaded.sequence);
            let (again, unsaid) = match self.attempt(id, command_id, cause, wish, loaded).await {
                // Time went on and the answer would be another one now, but not for what is on its
                // way: it may come true after a refusal.
                Ok(ControlFlow::Break(Outcome { event: None, .. }))
                | Err(ExecuteError::Rejected { .. })
                    if in_doubt == expected =>
                {
                    return Err(ExecuteError::Unsettled);
                }
                // An event is compared with the leader's log when it is appended. Where nothing is
                // appended, nothing is compared: a replica that lags must not have the last word.
                answer @ (Ok(ControlFlow::Break(Outcome { event: None, .. }))
                | Err(ExecuteError::Rejected { .. }))
                    if from == ReadFrom::Any =>
                {
                    (self.load_from(id, ReadFrom::Leader).await?, Some(answer))
                }
                Ok(ControlFlow::Break(outcome)) => return Ok(outcome),
                // Whatever happened, the log knows: my command is among its recent ones, or not.
                Ok(ControlFlow::Continue(())) => {
                    in_doubt = expected;
                    (self.load_from(id, ReadFrom::Leader).await?, None)
                }
                Err(err) => return Err(err),
            };
            match unsaid {
                Some(Ok(ControlFlow::Break(outcome))) if expected == Some(again.sequence) => {
                    return Ok(outcome);
                }
                Some(Err(refusal)) if expected == Some(again.sequence) => return Err(refusal),
                _ => (loaded, from) = (again, ReadFrom::Leader),
            }
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
        let now = self.port.clock.now();
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
