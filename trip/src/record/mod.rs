//! The trip as the event store knows it: its [`Decider`], and how events and states read on the
//! wire (`ride/v1/trip.proto`). Reading validates: what does not convert is malformed.

mod from_wire;
mod to_wire;

use common::{
    clock::Timestamp,
    contract::{self, Malformed, v1},
    decider::{Decider, Recorded, Recorder},
    id::TripId,
    stream,
    subject::{self, AggregateSubjects},
};
use prost::Message as _;
use uuid::Uuid;

pub(crate) use from_wire::{offer_end, pin, quote, reason, stars};

use crate::domain::{self, Rejection, TimerKind, Trip, TripCommand, TripEvent};

/// The rules of a trip, for the event store.
#[derive(Debug, Clone, Copy)]
pub struct TripDecider;

impl Decider for TripDecider {
    type Id = TripId;
    type State = Trip;
    type Event = TripEvent;
    type Command = TripCommand;
    type Rejection = Rejection;
    type TimerKind = TimerKind;

    fn decide(
        state: &Trip,
        command: &TripCommand,
        now: Timestamp,
    ) -> Result<Option<TripEvent>, Rejection> {
        domain::decide(state, command, now)
    }

    fn evolve(state: Trip, event: &TripEvent, at: Timestamp) -> Trip {
        domain::evolve(state, event, at)
    }

    fn starts(event: &TripEvent) -> Option<(TimerKind, Timestamp)> {
        event.starts()
    }

    fn waits_for(state: &Trip, kind: TimerKind) -> bool {
        state.waits_for(kind)
    }

    fn on_due(kind: TimerKind) -> TripCommand {
        match kind {
            TimerKind::MatchDeadline => TripCommand::EndSearch,
            TimerKind::OfferLease => TripCommand::EndLease,
            TimerKind::PickupWatchdog => TripCommand::EndPickup,
            TimerKind::NoShowWait => TripCommand::EndWait,
            TimerKind::RideWatchdog => TripCommand::MarkStalled,
        }
    }
}

impl Recorder for TripDecider {
    const SOURCE: &'static str = "trip";
    const STREAM: &'static str = stream::TRIP;
    const SCHEMA: &'static str = "trip.proto#TripEvent";
    const SUBJECTS: AggregateSubjects = subject::TRIP;

    fn kind(event: &TripEvent) -> &'static str {
        match event {
            TripEvent::Requested { .. } => "trip.requested",
            TripEvent::Offered { .. } => "trip.offered",
            TripEvent::Assigned { .. } => "trip.assigned",
            TripEvent::OfferClosed { .. } => "trip.offer_closed",
            TripEvent::Unfulfilled => "trip.unfulfilled",
            TripEvent::Cancelled { .. } => "trip.cancelled",
            TripEvent::Unassigned { .. } => "trip.unassigned",
            TripEvent::Arrived { .. } => "trip.arrived",
            TripEvent::WaitOver => "trip.wait_over",
            TripEvent::PinRefused { .. } => "trip.pin_refused",
            TripEvent::PinUnlocked => "trip.pin_unlocked",
            TripEvent::Started { .. } => "trip.started",
            TripEvent::Completed { .. } => "trip.completed",
            TripEvent::Stalled => "trip.stalled",
            TripEvent::Rated { .. } => "trip.rated",
        }
    }

    fn correlation(id: TripId, _event: &TripEvent, _state: &Trip) -> Option<Uuid> {
        Some(id.0)
    }

    fn encode(stamp: v1::Stamp, event: &TripEvent, state: &Trip) -> Vec<u8> {
        v1::TripEvent {
            stamp: Some(stamp),
            state: Some(v1::TripState::from(state)),
            kind: Some(event.into()),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Recorded<Self>, Malformed> {
        let raw: v1::TripEvent = contract::decode("trip event", bytes)?;
        Ok(Recorded {
            stamp: contract::required("stamp", raw.stamp)?,
            event: (&contract::required("kind", raw.kind)?).try_into()?,
            state: (&contract::required("state", raw.state)?).try_into()?,
        })
    }

    fn timer_name(kind: TimerKind) -> &'static str {
        match kind {
            TimerKind::MatchDeadline => "match_deadline",
            TimerKind::OfferLease => "offer_lease",
            TimerKind::PickupWatchdog => "pickup_watchdog",
            TimerKind::NoShowWait => "no_show_wait",
            TimerKind::RideWatchdog => "ride_watchdog",
        }
    }

    fn timer_kind(name: &str) -> Option<TimerKind> {
        [
            TimerKind::MatchDeadline,
            TimerKind::OfferLease,
            TimerKind::PickupWatchdog,
            TimerKind::NoShowWait,
            TimerKind::RideWatchdog,
        ]
        .into_iter()
        .find(|kind| Self::timer_name(*kind) == name)
    }
}

#[cfg(test)]
mod tests;
