//! The driver aggregate as the event store knows it: its rules, and how its events are recorded.

#[cfg(test)]
mod tests;
mod wire;

use common::{
    clock::Timestamp,
    contract::{self, Malformed, v1},
    decider::{Decider, Recorded, Recorder},
    id::{CommandId, DriverId},
    stream,
    subject::{self, AggregateSubjects},
};
use prost::Message as _;
use uuid::Uuid;

use crate::domain::{self, ACCEPT_GRACE, Driver, DriverCommand, DriverEvent, Rejection};

/// The driver aggregate as the event store knows it.
#[derive(Debug)]
pub struct DriverDecider;

/// The one timer that a driver has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverTimer {
    /// The time to answer the offer in hand.
    OfferLapse,
}

const OFFER_LAPSE: &str = "offer_lapse";

impl Decider for DriverDecider {
    type Id = DriverId;
    type State = Driver;
    type Event = DriverEvent;
    type Command = DriverCommand;
    type Rejection = Rejection;
    type TimerKind = DriverTimer;

    fn decide(
        state: &Driver,
        command: &DriverCommand,
        now: Timestamp,
    ) -> Result<Option<DriverEvent>, Rejection> {
        domain::decide(state, command, now)
    }

    fn evolve(state: Driver, event: &DriverEvent, at: Timestamp) -> Driver {
        domain::evolve(state, event, at)
    }

    fn starts(event: &DriverEvent) -> Option<(DriverTimer, Timestamp)> {
        match event {
            DriverEvent::Offered { expires_at, .. } => {
                Some((DriverTimer::OfferLapse, expires_at.plus(ACCEPT_GRACE)))
            }
            DriverEvent::WentOnline
            | DriverEvent::Finishing
            | DriverEvent::WentOffline { .. }
            | DriverEvent::OfferRefused { .. }
            | DriverEvent::OfferAccepted { .. }
            | DriverEvent::OfferDeclined { .. }
            | DriverEvent::OfferLapsed { .. }
            | DriverEvent::Lost { .. }
            | DriverEvent::Released { .. } => None,
        }
    }

    fn waits_for(state: &Driver, kind: DriverTimer) -> bool {
        match kind {
            DriverTimer::OfferLapse => state.offered().is_some(),
        }
    }

    fn on_due(kind: DriverTimer) -> DriverCommand {
        match kind {
            DriverTimer::OfferLapse => DriverCommand::LapseOffer,
        }
    }
}

impl Recorder for DriverDecider {
    const SOURCE: &'static str = "driver";
    const STREAM: &'static str = stream::DRIVER;
    const SCHEMA: &'static str = "driver.proto#DriverEvent";
    const SUBJECTS: AggregateSubjects = subject::DRIVER;

    fn kind(event: &DriverEvent) -> &'static str {
        match event {
            DriverEvent::WentOnline => "driver.went_online",
            DriverEvent::Finishing => "driver.finishing",
            DriverEvent::WentOffline { .. } => "driver.went_offline",
            DriverEvent::Offered { .. } => "driver.offered",
            DriverEvent::OfferRefused { .. } => "driver.offer_refused",
            DriverEvent::OfferAccepted { .. } => "driver.offer_accepted",
            DriverEvent::OfferDeclined { .. } => "driver.offer_declined",
            DriverEvent::OfferLapsed { .. } => "driver.offer_lapsed",
            DriverEvent::Lost { .. } => "driver.lost",
            DriverEvent::Released { .. } => "driver.released",
        }
    }

    fn correlation(_: DriverId, event: &DriverEvent, _: &Driver) -> Option<Uuid> {
        event.trip().map(Uuid::from)
    }

    fn encode(stamp: v1::Stamp, event: &DriverEvent, state: &Driver) -> Vec<u8> {
        v1::DriverEvent {
            stamp: Some(stamp),
            state: Some(state.into()),
            ended_offer: event.ended_offer().map(|(pair, why)| v1::EndedOffer {
                trip_id: pair.trip.to_vec(),
                offer_id: pair.offer.to_vec(),
                why: wire::offer_end(why).into(),
            }),
            kind: Some(wire::kind(event)),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Recorded<Self>, Malformed> {
        let mut message: v1::DriverEvent = contract::decode("driver event", bytes)?;
        let stamp = contract::required("stamp", message.stamp.take())?;
        let state = contract::required("state", message.state.as_ref())?.try_into()?;
        let event = DriverEvent::try_from(&message)?;
        Ok(Recorded { stamp, event, state })
    }

    fn timer_name(kind: DriverTimer) -> &'static str {
        match kind {
            DriverTimer::OfferLapse => OFFER_LAPSE,
        }
    }

    fn timer_kind(name: &str) -> Option<DriverTimer> {
        (name == OFFER_LAPSE).then_some(DriverTimer::OfferLapse)
    }
}

/// A durable command as it came: to whom, under which id, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressed {
    pub driver: DriverId,
    pub id: CommandId,
    pub command: DriverCommand,
}

impl TryFrom<&v1::DriverCommand> for Addressed {
    type Error = Malformed;

    fn try_from(message: &v1::DriverCommand) -> Result<Self, Malformed> {
        use v1::driver_command::Kind;
        let command = match contract::required("kind", message.kind.as_ref())? {
            Kind::Offer(offer) => DriverCommand::Offer {
                pair: wire::pair(&offer.trip_id, &offer.offer_id)?,
                terms: wire::terms(offer.terms.as_ref())?,
            },
            Kind::Release(release) => DriverCommand::Release {
                pair: wire::pair(&release.trip_id, &release.offer_id)?,
                why: release.why.clone(),
            },
            Kind::MarkLost(lost) => {
                DriverCommand::MarkLost { silent_s: lost.silent_s, ends_duty: lost.ends_duty }
            }
        };
        Ok(Self {
            driver: contract::id("driver_id", &message.driver_id)?,
            id: contract::id("command_id", &message.command_id)?,
            command,
        })
    }
}
