//! What a command is about to make true: the next state, its place, its timers.

use std::borrow::Cow;

use uuid::Uuid;

use super::Loaded;
use crate::{
    clock::Timestamp,
    contract::{Malformed, v1},
    decider::Recorder,
    id::{CommandId, EventId},
    planted::{self, Planted},
};

/// How many commands a snapshot remembers. An older one must be harmless by state.
const RECENT_MAX: usize = 32;

/// What is to be carried out.
pub(super) enum Wish<'a, D: Recorder> {
    /// A command.
    Command(&'a D::Command),
    /// Whatever the timer stands for, as long as it runs. Looked up anew for each attempt: while
    /// others were faster, it may have become pointless.
    Timer(EventId),
}

impl<D: Recorder> Wish<'_, D> {
    pub(super) fn command(
        &self,
        loaded: &Loaded<D>,
    ) -> Result<Option<Cow<'_, D::Command>>, Malformed> {
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
pub(super) fn due_command(timer: EventId) -> CommandId {
    CommandId::step(timer, "due")
}

/// A timer's id is made of the event that it belongs to and of the time that it is due. The event
/// alone will not do: a command whose first attempt left nothing but its timer is decided anew later,
/// and what was set for the attempt that came to nothing would end the wait of the one that counts.
fn timer_id(event: EventId, aggregate: Uuid, kind: &str, due: Timestamp) -> EventId {
    if planted::is_on(Planted::TimerIdReused) {
        return EventId(Uuid::new_v5(&aggregate, kind.as_bytes()));
    }
    EventId(Uuid::new_v5(&event.0, &due.micros().to_be_bytes()))
}

/// What an append is about to make true.
pub(super) struct Next<D: Recorder> {
    pub(super) loaded: Loaded<D>,
    /// The sequence that the last message must still have.
    pub(super) expected: u64,
    pub(super) started: Option<v1::Timer>,
    pub(super) pointless: Option<v1::Timer>,
}

pub(super) fn next<D: Recorder>(
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
    let started = D::starts(event).map(|(kind, due)| {
        let (key, kind): (Uuid, _) = (id.into(), D::timer_name(kind));
        let timer = timer_id(EventId::derived(key, command_id), key, kind, due);
        v1::Timer { id: timer.to_vec(), kind: kind.to_owned(), due_us: due.micros() }
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
