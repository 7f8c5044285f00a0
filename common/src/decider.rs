//! What an aggregate is to the event store: pure rules ([`Decider`]) and how their events read on
//! the wire ([`Recorder`]). `driver` and `trip` implement both.

use std::fmt::{Debug, Display};

use uuid::Uuid;

use crate::{
    clock::Timestamp,
    contract::{Malformed, v1},
    subject::AggregateSubjects,
};

/// The rules of one kind of aggregate. Everything here is a pure function: no clock, no chance, no
/// broker. One command makes at most one event, so that one publish is the whole transaction.
pub trait Decider: Send + Sync + Sized + 'static {
    /// Names one aggregate.
    type Id: Copy + Display + Debug + From<Uuid> + Into<Uuid> + Send + Sync;
    /// What is true; the default is "nothing happened yet".
    type State: Clone + Default + Debug + PartialEq + Send + Sync;
    /// What happened.
    type Event: Clone + Debug + Send + Sync;
    /// What somebody wants.
    type Command: Clone + Debug + Send + Sync;
    /// The fact that stands in the way.
    type Rejection: Clone + Debug + Send + Sync;
    /// The kinds of timers that events start.
    type TimerKind: Copy + Eq + Debug + Send + Sync;

    /// What happens when somebody wants this at `now` (broker time). `Ok(None)`: it is so already,
    /// there is nothing new to say.
    ///
    /// # Errors
    /// The fact that stands in the way.
    fn decide(
        state: &Self::State,
        command: &Self::Command,
        now: Timestamp,
    ) -> Result<Option<Self::Event>, Self::Rejection>;

    /// The state after an event that was decided `at` that time. Folding cannot fail.
    #[must_use]
    fn evolve(state: Self::State, event: &Self::Event, at: Timestamp) -> Self::State;

    /// The timer that an event starts, and when it is due.
    fn starts(event: &Self::Event) -> Option<(Self::TimerKind, Timestamp)>;

    /// Whether a running timer of this kind still means something in this state. The first one that
    /// does not is purged by the very publish of the event that made it pointless.
    fn waits_for(state: &Self::State, kind: Self::TimerKind) -> bool;

    /// What a timer that fired asks for.
    fn on_due(kind: Self::TimerKind) -> Self::Command;
}

/// How the events of a [`Decider`] are recorded.
pub trait Recorder: Decider {
    /// The service that alone writes these events: `ce-source`.
    const SOURCE: &'static str;
    /// The stream they are in.
    const STREAM: &'static str;
    /// The contract's message: `ce-dataschema`.
    const SCHEMA: &'static str;
    /// Their subjects.
    const SUBJECTS: AggregateSubjects;

    /// `ce-type`, such as `trip.assigned`.
    fn kind(event: &Self::Event) -> &'static str;

    /// The ride that the event belongs to, if any: `ce-correlationid`.
    fn correlation(id: Self::Id, event: &Self::Event, state: &Self::State) -> Option<Uuid>;

    /// The event, and the state it led to, as bytes.
    fn encode(stamp: v1::Stamp, event: &Self::Event, state: &Self::State) -> Vec<u8>;

    /// Reads what [`Recorder::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not such an event.
    fn decode(bytes: &[u8]) -> Result<Recorded<Self>, Malformed>;

    /// A timer kind's name on the wire.
    fn timer_name(kind: Self::TimerKind) -> &'static str;

    /// The timer kind of that name.
    fn timer_kind(name: &str) -> Option<Self::TimerKind>;
}

/// An event as it was read back.
#[derive(Debug, Clone)]
pub struct Recorded<D: Decider> {
    /// Where it stands in its history, and what the event store keeps with it.
    pub stamp: v1::Stamp,
    /// What happened.
    pub event: D::Event,
    /// What was true then.
    pub state: D::State,
}
