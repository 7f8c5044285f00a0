//! What a set of runs has seen of the rules and reactions, so that a check that never had anything to
//! look at is noticed.

use std::collections::BTreeMap;

use common::contract::v1;

use crate::audit::Log;

/// What must have been seen at least once, in the order of the design's tables.
const EXPECTED: &[&str] = &[
    "relay: rider.ride_requested",
    "relay: rider.fare_charged",
    "relay looked before it published",
    "trip: requested",
    "trip: offered",
    "trip: assigned",
    "trip: offer closed, driver declined",
    "trip: offer closed, driver lapsed",
    "trip: offer closed, driver busy",
    "trip: offer closed, driver lost",
    "trip: offer closed, driver offline",
    "trip: offer closed, lease over",
    "trip: unfulfilled",
    "trip: cancelled by rider, matching",
    "trip: cancelled by rider, assigned",
    "trip: cancelled by rider, arrived",
    "trip: cancelled by rider, before the request",
    "trip: cancelled by rider, with a fee",
    "trip: cancelled by driver",
    "trip: cancelled by system",
    "trip: cancelled by operations",
    "trip: unassigned by driver",
    "trip: unassigned by system",
    "trip: arrived",
    "trip: wait over",
    "trip: pin refused",
    "trip: pin unlocked",
    "trip: started",
    "trip: stalled",
    "trip: completed by driver",
    "trip: completed by operations",
    "trip: rated",
    "driver: went online",
    "driver: finishing",
    "driver: went offline",
    "driver: went offline, silent",
    "driver: went offline with an offer",
    "driver: offered",
    "driver: offer refused, busy",
    "driver: offer refused, offline",
    "driver: offer accepted",
    "driver: offer declined",
    "driver: offer lapsed",
    "driver: lost",
    "driver: released, unassigned",
    "driver: released, completed",
    "driver: released, cancelled",
    "driver: released, unfulfilled",
    "driver: released, lease_over",
    "driver: released, not assigned",
    "driver: released early",
    "location: mark lost",
    "provider charged",
    "provider looked up",
    "operations acted",
    "phone fed",
    "redelivery handled",
    "message retried",
    "message buried",
    "message put aside",
    "dead letter replayed",
    "mishap: Crash",
    "mishap: Pause",
    "mishap: Cut",
    "mishap: BrokerCrash",
    "mishap: FullAccount",
    "mishap: ProviderOutage",
    "mishap: Silence",
];

/// How often each rule and reaction was seen.
#[derive(Debug, Clone, Default)]
pub struct Coverage(BTreeMap<String, u64>);

impl Coverage {
    pub(super) fn of(log: &Log, seen: BTreeMap<String, u64>) -> Self {
        let mut coverage = Self(seen);
        for entry in log.trips.values().flatten() {
            coverage.trip(&entry.event);
        }
        for entry in log.drivers.values().flatten() {
            coverage.driver(&entry.event);
        }
        coverage
    }

    /// Adds what another run has seen.
    pub fn add(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            *self.0.entry(what.clone()).or_default() += times;
        }
    }

    /// What should have been seen, and how often it was.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        EXPECTED.iter().map(|what| (*what, self.0.get(*what).copied().unwrap_or(0)))
    }

    /// What was never seen.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        self.rows().filter(|(_, times)| *times == 0).map(|(what, _)| what).collect()
    }

    fn see(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    fn trip(&mut self, event: &v1::TripEvent) {
        use v1::trip_event::Kind;
        let Some(kind) = &event.kind else { return };
        match kind {
            Kind::Requested(_) => self.see("trip: requested"),
            Kind::Offered(_) => self.see("trip: offered"),
            Kind::Assigned(_) => self.see("trip: assigned"),
            Kind::OfferClosed(closed) => {
                self.see(format!("trip: offer closed, {}", end(closed.why())));
            }
            Kind::Unfulfilled(_) => self.see("trip: unfulfilled"),
            Kind::Cancelled(it) => self.cancelled(it),
            Kind::Unassigned(it) => self.see(format!("trip: unassigned by {}", party(it.by()))),
            Kind::Arrived(_) => self.see("trip: arrived"),
            Kind::WaitOver(_) => self.see("trip: wait over"),
            Kind::PinRefused(_) => self.see("trip: pin refused"),
            Kind::PinUnlocked(_) => self.see("trip: pin unlocked"),
            Kind::Started(_) => self.see("trip: started"),
            Kind::Completed(it) => self.see(format!("trip: completed by {}", party(it.by()))),
            Kind::Stalled(_) => self.see("trip: stalled"),
            Kind::Rated(_) => self.see("trip: rated"),
        }
    }

    fn cancelled(&mut self, it: &v1::TripCancelled) {
        if it.by() != v1::Party::Rider {
            self.see(format!("trip: cancelled by {}", party(it.by())));
            return;
        }
        let phase = match it.phase() {
            v1::TripPhase::Unspecified => "before the request",
            v1::TripPhase::Matching => "matching",
            v1::TripPhase::Assigned => "assigned",
            v1::TripPhase::Arrived => "arrived",
            _ => "somewhere else",
        };
        self.see(format!("trip: cancelled by rider, {phase}"));
        if it.fee.as_ref().is_some_and(|fee| fee.amount_minor > 0) {
            self.see("trip: cancelled by rider, with a fee");
        }
    }

    fn driver(&mut self, event: &v1::DriverEvent) {
        use v1::driver_event::Kind;
        let Some(kind) = &event.kind else { return };
        match kind {
            Kind::WentOnline(_) => self.see("driver: went online"),
            Kind::Finishing(_) => self.see("driver: finishing"),
            Kind::WentOffline(it) if it.silent => self.see("driver: went offline, silent"),
            Kind::WentOffline(_) if event.ended_offer.is_some() => {
                self.see("driver: went offline with an offer");
            }
            Kind::WentOffline(_) => self.see("driver: went offline"),
            Kind::Offered(_) => self.see("driver: offered"),
            Kind::OfferRefused(it) => {
                let why = end(it.why());
                let why = why.strip_prefix("driver ").unwrap_or(why);
                self.see(format!("driver: offer refused, {why}"));
            }
            Kind::OfferAccepted(_) => self.see("driver: offer accepted"),
            Kind::OfferDeclined(_) => self.see("driver: offer declined"),
            Kind::OfferLapsed(_) => self.see("driver: offer lapsed"),
            Kind::Lost(_) => self.see("driver: lost"),
            Kind::Released(it) => {
                if it.early {
                    self.see("driver: released early");
                }
                let why = it.why.split(':').next().unwrap_or_default();
                self.see(format!("driver: released, {why}"));
            }
        }
    }
}

fn party(party: v1::Party) -> &'static str {
    match party {
        v1::Party::Unspecified => "somebody",
        v1::Party::Rider => "rider",
        v1::Party::Driver => "driver",
        v1::Party::System => "system",
        v1::Party::Operations => "operations",
    }
}

fn end(why: v1::OfferEnd) -> &'static str {
    match why {
        v1::OfferEnd::Unspecified => "unspecified",
        v1::OfferEnd::Declined => "driver declined",
        v1::OfferEnd::Lapsed => "driver lapsed",
        v1::OfferEnd::Busy => "driver busy",
        v1::OfferEnd::Lost => "driver lost",
        v1::OfferEnd::Offline => "driver offline",
        v1::OfferEnd::LeaseOver => "lease over",
        v1::OfferEnd::TripEnded => "trip ended",
        v1::OfferEnd::Released => "released",
    }
}
