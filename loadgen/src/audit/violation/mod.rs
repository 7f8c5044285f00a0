//! Everything that the audit can find wrong: a closed list, each with the ids that lead to it.

mod books;
mod messages;
mod order;

pub use books::BookViolation;
pub use messages::MessageViolation;
pub use order::OrderViolation;

use std::fmt;

use common::id::{DriverId, OfferId, TripId};
use serde::Serialize;

/// Whose history it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// Of a trip.
    Trip(TripId),
    /// Of a driver.
    Driver(DriverId),
}

impl History {
    fn trip(self) -> Option<TripId> {
        match self {
            Self::Trip(trip) => Some(trip),
            Self::Driver(_) => None,
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trip(trip) => write!(f, "trip `{trip}`"),
            Self::Driver(driver) => write!(f, "driver `{driver}`"),
        }
    }
}

/// Where money is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Book {
    /// `fare_charged` in the log.
    Log,
    /// The rider service's ledger.
    Ledger,
    /// The payment provider's list.
    Provider,
    /// What the rider was shown.
    Receipt,
}

impl fmt::Display for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "the log",
            Self::Ledger => "the ledger",
            Self::Provider => "the provider's list",
            Self::Receipt => "the rider's receipt",
        })
    }
}

/// What is not as it was promised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(tag = "violation", rename_all = "snake_case")]
pub enum Violation {
    /// A message in the log is no event.
    #[error("message {sequence} of `{stream}` cannot be read: {why}")]
    Unreadable { stream: String, sequence: u64, why: String },
    /// A history has a gap, a repetition or a wrong start.
    #[error("{history}: version {found} follows version {after}")]
    VersionGap { history: History, after: u64, found: u64 },
    /// Something other than a rating happened after the end.
    #[error("trip `{trip}`: `{kind}` (version {version}) after its end")]
    EventAfterEnd { trip: TripId, version: u64, kind: String },
    /// An event that cannot happen in that phase.
    #[error("trip `{trip}`: `{kind}` (version {version}) while it was {phase}")]
    OutOfOrder { trip: TripId, version: u64, kind: String, phase: String },
    /// The state that an event carries is not what its history leads to.
    #[error("{history}: version {version} carries {field} = {carried}, but folding gives {folded}")]
    StateDiffers { history: History, version: u64, field: String, carried: String, folded: String },
    /// A second driver was assigned while the first still was.
    #[error("trip `{trip}` has driver `{first}` and driver `{second}` at once")]
    TwoDrivers { trip: TripId, first: DriverId, second: DriverId },
    /// One driver was assigned to a second trip while still on the first.
    #[error("driver `{driver}` is on trip `{first}` and trip `{second}` at once")]
    TwoTrips { driver: DriverId, first: TripId, second: TripId },
    /// A driver was offered or engaged by a second trip while bound by the first.
    #[error("driver `{driver}` was bound by trip `{second}` while bound by trip `{first}`")]
    EngagementsOverlap { driver: DriverId, first: TripId, second: TripId },
    /// A driver accepted what was not offered.
    #[error("driver `{driver}` accepted offer `{offer}` of trip `{trip}` without holding it")]
    AcceptedUnoffered { driver: DriverId, trip: TripId, offer: OfferId },
    /// A driver's duty ended in the middle of a trip.
    #[error("driver `{driver}` went offline while on trip `{trip}`")]
    OfflineOnTrip { driver: DriverId, trip: TripId },
    /// The driver believes in a trip that does not know this driver.
    #[error(
        "ghost ride: driver `{driver}` is bound by offer `{offer}` of trip `{trip}`, which {trip_says}"
    )]
    GhostRide { driver: DriverId, trip: TripId, offer: OfferId, trip_says: String },
    /// A trip has a driver who is not engaged by it.
    #[error("trip `{trip}` has driver `{driver}`, who is {driver_is}")]
    DriverNotEngaged { trip: TripId, driver: DriverId, driver_is: String },
    /// A trip is over and its driver is still bound.
    #[error(
        "trip `{trip}` has no use for driver `{driver}` any more, who was never released from offer `{offer}`"
    )]
    NotReleased { trip: TripId, driver: DriverId, offer: OfferId },
    /// An offer that is neither open nor ended.
    #[error(
        "offer `{offer}` of trip `{trip}` to driver `{driver}` has no end on the {side}'s side"
    )]
    OfferWithoutEnd { trip: TripId, driver: DriverId, offer: OfferId, side: String },
    /// An offer ended more than once.
    #[error("offer `{offer}` of trip `{trip}` ended {ends} times")]
    OfferEndedTwice { trip: TripId, offer: OfferId, ends: u32 },
    /// A driver was bound by an offer that the trip never made.
    #[error("driver `{driver}` knows offer `{offer}` of trip `{trip}`, which made no such offer")]
    OfferFromNowhere { trip: TripId, driver: DriverId, offer: OfferId },
    /// An offer ended differently on both sides.
    #[error(
        "offer `{offer}` of trip `{trip}`: {trip_says} for the trip, {driver_says} for driver `{driver}`"
    )]
    OfferEndsDiffer {
        trip: TripId,
        driver: DriverId,
        offer: OfferId,
        trip_says: String,
        driver_says: String,
    },
    /// A ride that nobody asked for, or that was asked for more than once.
    #[error("trip `{trip}` was requested {times} times in the rider's log")]
    RequestedTimes { trip: TripId, times: u64 },
    /// A request that no trip came of.
    #[error("the request of trip `{trip}` led to nothing")]
    RequestIgnored { trip: TripId },
    /// Money is owed and was not collected.
    #[error("{amount} is owed for trip `{trip}` ({purpose}), and {book} has no such charge")]
    ChargeMissing { trip: TripId, purpose: String, amount: String, book: Book },
    /// The same was charged again.
    #[error("trip `{trip}` ({purpose}) was charged {times} times in {book}")]
    ChargedTwice { trip: TripId, purpose: String, times: u64, book: Book },
    /// Another amount than is owed.
    #[error("trip `{trip}` ({purpose}) was charged {found} instead of {owed} in {book}")]
    ChargedWrongly { trip: TripId, purpose: String, owed: String, found: String, book: Book },
    /// Nothing was owed.
    #[error("{found} was charged for `{reference}` in {book}, for which nothing is owed")]
    ChargedForNothing { reference: String, found: String, book: Book },
    /// The fare is not the one that was quoted.
    #[error("trip `{trip}` was quoted {quoted} and costs {fare}")]
    FareNotAsQuoted { trip: TripId, quoted: String, fare: String },
    /// A charge in the ledger is not settled.
    #[error("the charge of trip `{trip}` ({purpose}) is {state} in the ledger")]
    ChargeUnsettled { trip: TripId, purpose: String, state: String },
    /// The ledger's postings do not sum to zero.
    #[error("the ledger's postings sum to {sum}, not to zero")]
    LedgerUnbalanced { sum: i64 },
    /// A phone was promised something that the log does not know.
    #[error("`{request}` was answered {status} to `{phone}`, but {missing}")]
    PromiseLost {
        request: String,
        status: u16,
        phone: String,
        trip: Option<TripId>,
        missing: String,
    },
    /// The same key made two trips.
    #[error("key `{key}` of rider `{rider}` made trip `{first}` and trip `{second}`")]
    KeyMadeTwo { key: String, rider: String, first: TripId, second: TripId },
    /// Accepted pings were not counted, or more were counted than were sent.
    #[error("{accepted} pings were accepted ({unknown} more unanswered), {counted} were counted")]
    PingsMiscounted { accepted: u64, unknown: u64, counted: u64 },
    /// In the order of events: ids, causes, timers, steps of the saga.
    #[error(transparent)]
    #[serde(untagged)]
    Order(#[from] OrderViolation),
    /// In what consumers, the dead-letter queue and the broker say.
    #[error(transparent)]
    #[serde(untagged)]
    Message(#[from] MessageViolation),
    /// In stores, views and keys.
    #[error(transparent)]
    #[serde(untagged)]
    Books(#[from] BookViolation),
}

impl Violation {
    /// The trip whose timeline shows it, if there is one.
    #[must_use]
    pub fn trip(&self) -> Option<TripId> {
        match self {
            Self::VersionGap { history, .. } | Self::StateDiffers { history, .. } => history.trip(),
            Self::Order(violation) => violation.trip(),
            Self::Books(violation) => violation.trip(),
            Self::Message(_) => None,
            Self::EventAfterEnd { trip, .. }
            | Self::OutOfOrder { trip, .. }
            | Self::TwoDrivers { trip, .. }
            | Self::AcceptedUnoffered { trip, .. }
            | Self::OfflineOnTrip { trip, .. }
            | Self::GhostRide { trip, .. }
            | Self::DriverNotEngaged { trip, .. }
            | Self::NotReleased { trip, .. }
            | Self::OfferWithoutEnd { trip, .. }
            | Self::OfferEndedTwice { trip, .. }
            | Self::OfferFromNowhere { trip, .. }
            | Self::OfferEndsDiffer { trip, .. }
            | Self::RequestedTimes { trip, .. }
            | Self::RequestIgnored { trip }
            | Self::ChargeMissing { trip, .. }
            | Self::ChargedTwice { trip, .. }
            | Self::ChargedWrongly { trip, .. }
            | Self::FareNotAsQuoted { trip, .. }
            | Self::ChargeUnsettled { trip, .. }
            | Self::TwoTrips { second: trip, .. }
            | Self::EngagementsOverlap { second: trip, .. }
            | Self::KeyMadeTwo { second: trip, .. } => Some(*trip),
            Self::PromiseLost { trip, .. } => *trip,
            Self::ChargedForNothing { reference, .. } => {
                reference.split(':').next().and_then(|trip| trip.parse().ok())
            }
            Self::Unreadable { .. }
            | Self::LedgerUnbalanced { .. }
            | Self::PingsMiscounted { .. } => None,
        }
    }
}
