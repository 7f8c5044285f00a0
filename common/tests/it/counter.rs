//! The smallest aggregate: it counts to a limit, and a timer may end it. It lives where trips live,
//! because every aggregate needs a stream that the system has.

use common::{
    clock::Timestamp,
    contract::{Malformed, v1},
    decider::{Decider, Recorded, Recorder},
    id::TripId,
    stream,
    subject::{AggregateSubjects, TRIP},
};
use prost::Message as _;
use std::time::Duration;
use uuid::Uuid;

pub(crate) const LIMIT: u32 = 3;

#[derive(Debug)]
pub(crate) struct Counter;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Count {
    #[prost(uint32, tag = "1")]
    pub(crate) count: u32,
    #[prost(bool, tag = "2")]
    pub(crate) waits: bool,
    #[prost(bool, tag = "3")]
    pub(crate) is_over: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    Add,
    /// Adds one and starts a timer that is due after so long.
    AddAndWait(Duration),
    /// Adds one and makes the timer pointless.
    AddAndGoOn,
    /// Adds one, unless it is later than that.
    AddBefore(Timestamp),
    TimeOver,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Added,
    WaitStarted(Timestamp),
    WentOn,
    TimedOut,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rejection {
    Full,
    Late,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait;

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(message, optional, tag = "1")]
    stamp: Option<v1::Stamp>,
    #[prost(message, optional, tag = "2")]
    state: Option<Count>,
    #[prost(uint32, tag = "3")]
    kind: u32,
    #[prost(int64, tag = "4")]
    due_us: i64,
}

impl Decider for Counter {
    type Id = TripId;
    type State = Count;
    type Event = Event;
    type Command = Command;
    type Rejection = Rejection;
    type TimerKind = Wait;

    fn decide(
        state: &Count,
        command: &Command,
        now: Timestamp,
    ) -> Result<Option<Event>, Rejection> {
        match command {
            Command::TimeOver => Ok((!state.is_over).then_some(Event::TimedOut)),
            _ if state.count >= LIMIT => Err(Rejection::Full),
            Command::AddBefore(deadline) if *deadline < now => Err(Rejection::Late),
            Command::Add | Command::AddBefore(_) => Ok(Some(Event::Added)),
            Command::AddAndWait(span) => Ok(Some(Event::WaitStarted(now.plus(*span)))),
            Command::AddAndGoOn => Ok(Some(Event::WentOn)),
        }
    }

    fn evolve(state: Count, event: &Event, _at: Timestamp) -> Count {
        let count = state.count + 1;
        match event {
            Event::Added => Count { count, ..state },
            Event::WaitStarted(_) => Count { count, waits: true, ..state },
            Event::WentOn => Count { count, waits: false, ..state },
            Event::TimedOut => Count { waits: false, is_over: true, ..state },
        }
    }

    fn starts(event: &Event) -> Option<(Wait, Timestamp)> {
        match event {
            Event::WaitStarted(due) => Some((Wait, *due)),
            _ => None,
        }
    }

    fn waits_for(state: &Count, Wait: Wait) -> bool {
        state.waits
    }

    fn on_due(Wait: Wait) -> Command {
        Command::TimeOver
    }
}

impl Recorder for Counter {
    const SOURCE: &'static str = "trip";
    const STREAM: &'static str = stream::TRIP;
    const SCHEMA: &'static str = "test#Counter";
    const SUBJECTS: AggregateSubjects = TRIP;

    fn kind(event: &Event) -> &'static str {
        match event {
            Event::Added => "counter.added",
            Event::WaitStarted(_) => "counter.wait_started",
            Event::WentOn => "counter.went_on",
            Event::TimedOut => "counter.timed_out",
        }
    }

    fn correlation(id: TripId, _: &Event, _: &Count) -> Option<Uuid> {
        Some(id.0)
    }

    fn encode(stamp: v1::Stamp, event: &Event, state: &Count) -> Vec<u8> {
        let (kind, due_us) = match event {
            Event::Added => (1, 0),
            Event::WaitStarted(due) => (2, due.micros()),
            Event::WentOn => (3, 0),
            Event::TimedOut => (4, 0),
        };
        Wire { stamp: Some(stamp), state: Some(state.clone()), kind, due_us }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Recorded<Self>, Malformed> {
        let wire = Wire::decode(bytes).map_err(|err| Malformed::new("counter", err))?;
        let event = match wire.kind {
            1 => Event::Added,
            2 => Event::WaitStarted(Timestamp::from_micros(wire.due_us)),
            3 => Event::WentOn,
            4 => Event::TimedOut,
            other => return Err(Malformed::new("counter", other)),
        };
        Ok(Recorded { stamp: wire.stamp.unwrap(), event, state: wire.state.unwrap() })
    }

    fn timer_name(Wait: Wait) -> &'static str {
        "wait"
    }

    fn timer_kind(name: &str) -> Option<Wait> {
        (name == "wait").then_some(Wait)
    }
}
