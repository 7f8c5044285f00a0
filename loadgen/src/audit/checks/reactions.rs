//! The saga's table, row by row: every event that asks for a reaction had it, once, or had become
//! moot by then. The ids of commands and events are derived, so a reaction is looked up by its name
//! and not guessed from what is similar.

use std::collections::{BTreeMap, HashSet};

use common::{
    contract::v1::{self, OfferEnd, OfferStatus},
    id::{CommandId, DriverId, EventId, OfferId, TripId},
    stream,
};
use uuid::Uuid;

use crate::audit::{
    coverage::Reaction,
    evidence::Evidence,
    facts::{OfferFact, TripFacts, pair_of},
    log::{Entry, Log, driver_id, offer_id, trip_id},
    violation::{OrderViolation, Violation},
};

pub(super) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let mut steps = 0;
    walk(&evidence.log, &mut |step| {
        steps += 1;
        if let Outcome::Missing(missing) = step.outcome {
            let (stream, kind) = (step.stream.to_owned(), step.kind.to_owned());
            let (reaction, sequence, trip) = (step.reaction, step.sequence, step.trip);
            found.push(
                OrderViolation::ReactionMissing { reaction, stream, sequence, kind, trip, missing }
                    .into(),
            );
        }
    });
    steps
}

/// How a reaction went.
pub(in crate::audit) enum Outcome {
    /// Its event is in the log, or it was not needed any more.
    Taken,
    /// What is not there.
    Missing(String),
}

/// An event that asks for a reaction, and how that went.
pub(in crate::audit) struct Step<'a> {
    pub(in crate::audit) reaction: Reaction,
    pub(in crate::audit) outcome: Outcome,
    stream: &'static str,
    sequence: u64,
    kind: &'a str,
    trip: Option<TripId>,
}

/// Says of every event that asks for a reaction how that went.
pub(in crate::audit) fn walk(log: &Log, say: &mut impl FnMut(Step<'_>)) {
    let saga = Saga::new(log);
    for (trip, entry) in log.requests() {
        say(step(stream::RIDER, entry, Some(trip), saga.requested(trip, entry)));
    }
    for (trip, entries) in &log.trips {
        let mut facts = TripFacts::default();
        for entry in entries {
            let before = facts.clone();
            facts.fold(&entry.event);
            for taken in saga.of_trip(*trip, &before, entry) {
                say(step(stream::TRIP, entry, Some(*trip), taken));
            }
        }
    }
    for (driver, entries) in &log.drivers {
        for entry in entries {
            for taken in saga.of_driver(*driver, entry) {
                let trip = pair_of(&entry.event).map(|(trip, _)| trip);
                say(step(stream::DRIVER, entry, trip, taken));
            }
        }
    }
}

type Taken = (Reaction, Outcome);

fn step<'a, E>(
    stream: &'static str,
    entry: &'a Entry<E>,
    trip: Option<TripId>,
    (reaction, outcome): Taken,
) -> Step<'a> {
    Step { reaction, outcome, stream, sequence: entry.sequence, kind: &entry.kind, trip }
}

fn missing(reaction: Reaction, why: impl Into<String>) -> Taken {
    (reaction, Outcome::Missing(why.into()))
}

/// The log, arranged for looking reactions up.
struct Saga<'a> {
    log: &'a Log,
    /// All events' ids.
    made: HashSet<Uuid>,
    /// Every offer as its trip has it at the end.
    offers: BTreeMap<OfferId, OfferFact>,
    /// Offers that ended for the driver, by whatever event.
    ended: HashSet<(DriverId, OfferId)>,
    /// What was charged.
    charged: HashSet<(TripId, i32)>,
}

impl<'a> Saga<'a> {
    fn new(log: &'a Log) -> Self {
        let trips = log.trips.values().flatten().map(|entry| entry.id);
        let drivers = log.drivers.values().flatten().map(|entry| entry.id);
        let last = log.trips.values().filter_map(|entries| entries.last()?.event.state.as_ref());
        let offers = last.flat_map(|state| TripFacts::carried(state).offers);
        let ends = log.drivers.iter().flat_map(|(driver, entries)| {
            let ends = entries.iter().filter(|entry| ends_offer(&entry.event));
            ends.filter_map(|entry| Some((*driver, pair_of(&entry.event)?.1)))
        });
        let charged = log.riders.iter().filter_map(|entry| match &entry.event.kind {
            Some(v1::rider_event::Kind::FareCharged(it)) => {
                Some((trip_id(&it.trip_id), it.purpose))
            }
            _ => None,
        });
        Self {
            log,
            made: trips.chain(drivers).collect(),
            offers: offers.map(|offer| (offer.offer, offer)).collect(),
            ended: ends.collect(),
            charged: charged.collect(),
        }
    }

    /// Whether that step, caused by that event, made an event of that aggregate.
    fn led_to(&self, cause: Uuid, step: &str, aggregate: Uuid) -> bool {
        let command = CommandId::step(EventId(cause), step);
        self.made.contains(&EventId::derived(aggregate, command).0)
    }

    fn requested(&self, trip: TripId, entry: &Entry<v1::RiderEvent>) -> Taken {
        let is_withdrawn = || {
            let first = self.log.trips.get(&trip).and_then(|entries| entries.first());
            let kind = first.and_then(|entry| entry.event.kind.as_ref());
            matches!(kind, Some(v1::trip_event::Kind::Cancelled(_)))
        };
        if self.led_to(entry.id, "request", trip.0) || is_withdrawn() {
            (Reaction::Request, Outcome::Taken)
        } else {
            missing(Reaction::Request, format!("trip `{trip}` was not requested by it"))
        }
    }

    fn of_trip(
        &self,
        trip: TripId,
        before: &TripFacts,
        entry: &Entry<v1::TripEvent>,
    ) -> impl Iterator<Item = Taken> {
        let offered = match &entry.event.kind {
            Some(v1::trip_event::Kind::Offered(offered)) => {
                Some(self.offered(entry.id, driver_id(&offered.driver_id), &offered.offer_id))
            }
            _ => None,
        };
        let freed = freed(before, &entry.event);
        let released = freed.map(|(driver, offer)| self.released(entry.id, driver, offer));
        offered.into_iter().chain(released).chain(self.charged(trip, &entry.event))
    }

    fn offered(&self, cause: Uuid, driver: DriverId, offer: &[u8]) -> Taken {
        if self.led_to(cause, "offer", driver.0) {
            return (Reaction::Offer, Outcome::Taken);
        }
        let offer = offer_id(offer);
        match self.offers.get(&offer).map(|fact| fact.status) {
            // The driver's side is told by a release, which is a step of its own.
            Some(OfferStatus::Closed) => (Reaction::OfferNotDelivered, Outcome::Taken),
            // It may be on its way until its lease is over, which is looked at as a timer.
            Some(OfferStatus::Open) => (Reaction::OfferNotDelivered, Outcome::Taken),
            _ => {
                let why = format!("driver `{driver}` was assigned and never had offer `{offer}`");
                missing(Reaction::Offer, why)
            }
        }
    }

    fn released(&self, cause: Uuid, driver: DriverId, offer: OfferId) -> Taken {
        if self.led_to(cause, "release", driver.0) {
            (Reaction::Release, Outcome::Taken)
        } else if self.ended.contains(&(driver, offer)) {
            (Reaction::ReleaseLate, Outcome::Taken)
        } else {
            missing(Reaction::Release, format!("driver `{driver}` still has offer `{offer}`"))
        }
    }

    fn charged(&self, trip: TripId, event: &v1::TripEvent) -> Option<Taken> {
        use v1::{ChargePurpose, trip_event::Kind};
        let (purpose, money) = match event.kind.as_ref()? {
            Kind::Completed(completed) => (ChargePurpose::Fare, completed.fare.as_ref()?),
            Kind::Cancelled(cancelled) => (ChargePurpose::CancellationFee, cancelled.fee.as_ref()?),
            _ => return None,
        };
        (money.amount_minor > 0).then(|| {
            if self.charged.contains(&(trip, purpose.into())) {
                (Reaction::Charge, Outcome::Taken)
            } else {
                missing(Reaction::Charge, format!("{} is owed", money.amount_minor))
            }
        })
    }

    fn of_driver(
        &self,
        driver: DriverId,
        entry: &Entry<v1::DriverEvent>,
    ) -> impl Iterator<Item = Taken> {
        let closed = entry.event.ended_offer.as_ref().map(|ended| self.closed(entry.id, ended));
        let assigned = match &entry.event.kind {
            Some(v1::driver_event::Kind::OfferAccepted(accepted)) => {
                Some(self.accepted(entry.id, driver, accepted))
            }
            _ => None,
        };
        closed.into_iter().chain(assigned)
    }

    fn closed(&self, cause: Uuid, ended: &v1::EndedOffer) -> Taken {
        let (trip, offer) = (trip_id(&ended.trip_id), offer_id(&ended.offer_id));
        if self.led_to(cause, "close_offer", trip.0) {
            return (Reaction::CloseOffer, Outcome::Taken);
        }
        match self.offers.get(&offer).map(|fact| fact.status) {
            Some(OfferStatus::Closed | OfferStatus::Assigned) => {
                (Reaction::CloseOfferLate, Outcome::Taken)
            }
            Some(_) => missing(Reaction::CloseOffer, format!("trip `{trip}` has it still open")),
            None => missing(Reaction::CloseOffer, format!("trip `{trip}` made no such offer")),
        }
    }

    fn accepted(&self, cause: Uuid, driver: DriverId, of: &v1::DriverOfferAccepted) -> Taken {
        let (trip, offer) = (trip_id(&of.trip_id), offer_id(&of.offer_id));
        if self.led_to(cause, "assign", trip.0) {
            (Reaction::Assign, Outcome::Taken)
        } else if self.led_to(cause, "release", driver.0) || self.ended.contains(&(driver, offer)) {
            (Reaction::AssignRefused, Outcome::Taken)
        } else {
            missing(Reaction::Assign, format!("neither assigned nor set free by trip `{trip}`"))
        }
    }
}

/// The driver and the offer that this event of a trip sets free.
fn freed(before: &TripFacts, event: &v1::TripEvent) -> Option<(DriverId, OfferId)> {
    use v1::trip_event::Kind;
    let open = || before.open_offer().map(|offer| (offer.driver, offer.offer));
    match event.kind.as_ref()? {
        Kind::OfferClosed(closed) => {
            let by_trip = matches!(
                closed.why(),
                OfferEnd::LeaseOver | OfferEnd::TripEnded | OfferEnd::Released
            );
            by_trip.then(|| (driver_id(&closed.driver_id), offer_id(&closed.offer_id)))
        }
        Kind::Unassigned(it) => Some((driver_id(&it.driver_id), offer_id(&it.offer_id))),
        Kind::Completed(_) => before.driver,
        Kind::Cancelled(_) => before.driver.or_else(open),
        Kind::Unfulfilled(_) => open(),
        _ => None,
    }
}

fn ends_offer(event: &v1::DriverEvent) -> bool {
    event.ended_offer.is_some() || matches!(event.kind, Some(v1::driver_event::Kind::Released(_)))
}
