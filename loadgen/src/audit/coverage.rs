//! What a run has gone through: every row of the rules' tables and of the saga, and how often. A row
//! that nothing went through was not tested by the run, whatever its audit says.

use std::{collections::BTreeMap, fmt};

use common::contract::v1::{self, OfferEnd, Party, TripPhase};
use serde::Serialize;

use super::{
    checks::reactions,
    evidence::Evidence,
    facts::{Bond, DriverFacts, TripFacts},
    log::{Entry, Log},
};

/// One row of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `trip`, `driver` or `saga`.
    pub table: &'static str,
    /// What happens in it.
    pub row: &'static str,
    /// How often it happened.
    pub times: u64,
}

/// The rows of all tables, those that did not happen among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
#[serde(transparent)]
pub struct Coverage(pub Vec<Row>);

impl Coverage {
    /// Counts what the log went through.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let (mut trip, mut driver, mut saga) = (Times::new(), Times::new(), Times::new());
        for entries in evidence.log.trips.values() {
            along_trip(entries, &mut trip);
        }
        withdrawn_then_requested(&evidence.log, &mut trip);
        for entries in evidence.log.drivers.values() {
            along_driver(entries, &mut driver);
        }
        reactions::walk(&evidence.log, &mut |step| {
            if !matches!(step.outcome, reactions::Outcome::Missing(_)) {
                count(&mut saga, step.reaction.name());
            }
        });
        let rows = |table, names: &[&'static str], times: &Times| -> Vec<Row> {
            let times = |row| times.get(row).copied().unwrap_or(0);
            names.iter().map(|row| Row { table, row, times: times(row) }).collect()
        };
        let saga = rows("saga", &Reaction::ALL.map(Reaction::name), &saga);
        Self(
            [rows("trip", &TRIP_ROWS, &trip), rows("driver", &DRIVER_ROWS, &driver), saga].concat(),
        )
    }

    /// Rows that happened less often than this.
    pub fn below(&self, times: u64) -> impl Iterator<Item = &Row> {
        self.0.iter().filter(move |row| row.times < times)
    }
}

/// How often each row was gone through.
type Times = BTreeMap<&'static str, u64>;

fn count(times: &mut Times, row: &'static str) {
    *times.entry(row).or_default() += 1;
}

/// The steps of the saga, each a row of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// A ride that was asked for becomes a trip.
    Request,
    /// A trip's offer reaches its driver.
    Offer,
    /// The offer came too late to be shown, and ended by itself.
    OfferNotDelivered,
    /// What ended an offer for the driver ends it for the trip.
    CloseOffer,
    /// The trip had ended the offer before.
    CloseOfferLate,
    /// An acceptance becomes an assignment.
    Assign,
    /// An acceptance that came too late sets the driver free.
    AssignRefused,
    /// A driver who is not needed is set free.
    Release,
    /// The driver was free before the release came.
    ReleaseLate,
    /// What is owed is charged.
    Charge,
}

impl Reaction {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Request,
        Self::Offer,
        Self::OfferNotDelivered,
        Self::CloseOffer,
        Self::CloseOfferLate,
        Self::Assign,
        Self::AssignRefused,
        Self::Release,
        Self::ReleaseLate,
        Self::Charge,
    ];

    /// As a table shows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "ride_requested: Request",
            Self::Offer => "trip offered: command offer, taken up by the driver",
            Self::OfferNotDelivered => "trip offered: command offer, too late",
            Self::CloseOffer => "driver ended the offer: CloseOffer",
            Self::CloseOfferLate => "driver ended the offer: the trip had before",
            Self::Assign => "driver accepted: Assign",
            Self::AssignRefused => "driver accepted: refused, command release",
            Self::Release => "trip needs the driver no more: command release",
            Self::ReleaseLate => "trip needs the driver no more: free before",
            Self::Charge => "trip completed or fee due: charge, fare_charged",
        }
    }
}

impl fmt::Display for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const TRIP_ROWS: [&str; 35] = [
    "Request: requested",
    "Request after a cancel tombstone: nothing",
    "Offer: offered",
    "Assign: assigned",
    "CloseOffer: declined",
    "CloseOffer: lapsed",
    "CloseOffer: busy",
    "CloseOffer: lost",
    "CloseOffer: offline",
    "offer lease: lease over",
    "match deadline: unfulfilled",
    "match deadline: unfulfilled, an offer ends with it",
    "Cancel by rider before the request: tombstone",
    "Cancel by rider, matching: cancelled",
    "Cancel by rider, matching: an offer ends with it",
    "Cancel by rider, assigned: free",
    "Cancel by rider, assigned: fee",
    "Cancel by rider, arrived: cancelled",
    "Cancel by driver, assigned: unassigned",
    "pickup watchdog: unassigned",
    "given back too often: cancelled",
    "Cancel by driver, arrived: cancelled",
    "Arrive: arrived",
    "Arrive, forced: arrived",
    "no-show wait: wait over",
    "NoShow: cancelled, fee",
    "Start: started",
    "Start, wrong pin: pin refused",
    "Complete: completed",
    "Rate by rider: rated",
    "Rate by driver: rated",
    "operations unlock: pin unlocked",
    "ride watchdog: stalled",
    "operations Close: completed",
    "operations Close: cancelled",
];

const DRIVER_ROWS: [&str; 15] = [
    "GoOnline: online",
    "Finish: finishing",
    "GoOffline: offline",
    "GoOffline with an offer in hand: offline, the offer ends",
    "idle and silent: offline",
    "Offer: offered",
    "Offer: refused, busy",
    "Offer: refused, offline",
    "Accept: accepted",
    "Decline: declined",
    "offer time: lapsed",
    "MarkLost: lost",
    "Release, engaged: idle",
    "Release, offered: idle",
    "Release before the offer: remembered",
];

fn along_trip(entries: &[Entry<v1::TripEvent>], times: &mut Times) {
    let mut facts = TripFacts::default();
    for entry in entries {
        if let Some(row) = trip_row(&facts, &entry.event) {
            count(times, row);
        }
        facts.fold(&entry.event);
    }
}

fn trip_row(before: &TripFacts, event: &v1::TripEvent) -> Option<&'static str> {
    use v1::trip_event::Kind;
    let has_offer = before.open_offer().is_some();
    Some(match event.kind.as_ref()? {
        Kind::Requested(_) => "Request: requested",
        Kind::Offered(_) => "Offer: offered",
        Kind::Assigned(_) => "Assign: assigned",
        Kind::OfferClosed(closed) => match closed.why() {
            OfferEnd::Declined => "CloseOffer: declined",
            OfferEnd::Lapsed => "CloseOffer: lapsed",
            OfferEnd::Busy => "CloseOffer: busy",
            OfferEnd::Lost => "CloseOffer: lost",
            OfferEnd::Offline => "CloseOffer: offline",
            OfferEnd::LeaseOver => "offer lease: lease over",
            OfferEnd::TripEnded | OfferEnd::Released | OfferEnd::Unspecified => return None,
        },
        Kind::Unfulfilled(_) if has_offer => "match deadline: unfulfilled, an offer ends with it",
        Kind::Unfulfilled(_) => "match deadline: unfulfilled",
        Kind::Cancelled(cancelled) => return cancelled_row(before, cancelled),
        Kind::Unassigned(unassigned) if unassigned.by() == Party::Driver => {
            "Cancel by driver, assigned: unassigned"
        }
        Kind::Unassigned(_) => "pickup watchdog: unassigned",
        Kind::Arrived(arrived) if arrived.forced => "Arrive, forced: arrived",
        Kind::Arrived(_) => "Arrive: arrived",
        Kind::WaitOver(_) => "no-show wait: wait over",
        Kind::PinRefused(_) => "Start, wrong pin: pin refused",
        Kind::Started(_) => "Start: started",
        Kind::Completed(completed) if completed.by() == Party::Driver => "Complete: completed",
        Kind::Completed(_) => "operations Close: completed",
        Kind::Stalled(_) => "ride watchdog: stalled",
        Kind::PinUnlocked(_) => "operations unlock: pin unlocked",
        Kind::Rated(rated) if rated.by() == Party::Driver => "Rate by driver: rated",
        Kind::Rated(_) => "Rate by rider: rated",
    })
}

fn cancelled_row(before: &TripFacts, event: &v1::TripCancelled) -> Option<&'static str> {
    let is_free = event.fee.as_ref().is_none_or(|fee| fee.amount_minor == 0);
    Some(match (event.by(), before.phase) {
        (Party::Rider, TripPhase::Unspecified) => "Cancel by rider before the request: tombstone",
        (Party::Rider, TripPhase::Matching) if before.open_offer().is_some() => {
            "Cancel by rider, matching: an offer ends with it"
        }
        (Party::Rider, TripPhase::Matching) => "Cancel by rider, matching: cancelled",
        (Party::Rider, TripPhase::Assigned) if is_free => "Cancel by rider, assigned: free",
        (Party::Rider, TripPhase::Assigned) => "Cancel by rider, assigned: fee",
        (Party::Rider, TripPhase::Arrived) => "Cancel by rider, arrived: cancelled",
        (Party::Driver | Party::System, TripPhase::Assigned) => "given back too often: cancelled",
        (Party::Driver, TripPhase::Arrived) if event.reason == "no_show" => {
            "NoShow: cancelled, fee"
        }
        (Party::Driver, TripPhase::Arrived) => "Cancel by driver, arrived: cancelled",
        (Party::Operations, _) => "operations Close: cancelled",
        _ => return None,
    })
}

/// A trip that begins with its cancellation, and of which the request came after all.
fn withdrawn_then_requested(log: &Log, times: &mut Times) {
    for (trip, _) in log.requests() {
        let first = log.trips.get(&trip).and_then(|entries| entries.first());
        let kind = first.and_then(|entry| entry.event.kind.as_ref());
        if matches!(kind, Some(v1::trip_event::Kind::Cancelled(_))) {
            count(times, "Request after a cancel tombstone: nothing");
        }
    }
}

fn along_driver(entries: &[Entry<v1::DriverEvent>], times: &mut Times) {
    let mut facts = DriverFacts::default();
    for entry in entries {
        if let Some(row) = driver_row(&facts, &entry.event) {
            count(times, row);
        }
        facts.fold(&entry.event);
    }
}

fn driver_row(before: &DriverFacts, event: &v1::DriverEvent) -> Option<&'static str> {
    use v1::driver_event::Kind;
    Some(match event.kind.as_ref()? {
        Kind::WentOnline(_) => "GoOnline: online",
        Kind::Finishing(_) => "Finish: finishing",
        Kind::WentOffline(offline) if offline.silent => "idle and silent: offline",
        Kind::WentOffline(_) if event.ended_offer.is_some() => {
            "GoOffline with an offer in hand: offline, the offer ends"
        }
        Kind::WentOffline(_) => "GoOffline: offline",
        Kind::Offered(_) => "Offer: offered",
        Kind::OfferRefused(refused) if refused.why() == OfferEnd::Offline => {
            "Offer: refused, offline"
        }
        Kind::OfferRefused(_) => "Offer: refused, busy",
        Kind::OfferAccepted(_) => "Accept: accepted",
        Kind::OfferDeclined(_) => "Decline: declined",
        Kind::OfferLapsed(_) => "offer time: lapsed",
        Kind::Lost(_) => "MarkLost: lost",
        Kind::Released(released) if released.early => "Release before the offer: remembered",
        Kind::Released(_) if matches!(before.bond, Bond::Offered(..)) => "Release, offered: idle",
        Kind::Released(_) => "Release, engaged: idle",
    })
}

#[cfg(test)]
mod tests {
    use super::{Coverage, DRIVER_ROWS, Reaction, TRIP_ROWS};
    use crate::audit::tests::a_ride;

    #[test]
    fn a_ride_goes_through_its_rows_and_through_no_other() {
        let coverage = Coverage::of(&a_ride());
        let times = |table: &str, row: &str| {
            let is_it = |it: &&super::Row| it.table == table && it.row == row;
            coverage.0.iter().find(is_it).unwrap().times
        };
        assert_eq!((times("trip", "Offer: offered"), times("driver", "Offer: offered")), (2, 2));
        let closed = ["CloseOffer: declined", "CloseOffer: lapsed", "Complete: completed"];
        assert_eq!(closed.map(|row| times("trip", row)), [1, 0, 1]);
        let steps = [Reaction::Offer, Reaction::Charge, Reaction::Release, Reaction::AssignRefused];
        assert_eq!(steps.map(|step| times("saga", step.name())), [2, 1, 1, 0]);
        assert!(coverage.below(1).count() > 0);
    }

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let coverage = Coverage::of(&a_ride());
        let mut names: Vec<(&str, &str)> =
            coverage.0.iter().map(|row| (row.table, row.row)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TRIP_ROWS.len() + DRIVER_ROWS.len() + Reaction::ALL.len());
    }
}
