//! What somebody may want of a trip, and the facts that may stand in the way.

use common::{
    clock::Timestamp,
    geo::Point,
    id::{DriverId, OfferId, RiderId},
};

use super::{OfferEnd, Phase, Pin, Quote, Reason, Stars, Terms};

/// What somebody wants. Who asks is part of it: a trip answers only to its own rider and driver.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and short-lived")]
pub enum TripCommand {
    /// A rider asked for a ride.
    Request {
        /// Who.
        rider: RiderId,
        /// From.
        pickup: Point,
        /// To.
        dropoff: Point,
        /// What was promised.
        quote: Quote,
        /// What the rider will tell the driver.
        pin: Pin,
        /// How long to wait for what.
        terms: Terms,
        /// When.
        asked_at: Timestamp,
    },
    /// The dispatcher chose a driver.
    Offer {
        /// Whom.
        driver: DriverId,
        /// The name of the proposal.
        offer: OfferId,
        /// Estimated way to the pickup.
        pickup_eta_s: u32,
        /// Along the roads.
        pickup_distance_m: u32,
    },
    /// The driver accepted.
    Assign {
        /// Who.
        driver: DriverId,
        /// Which proposal.
        offer: OfferId,
    },
    /// The driver's side ended the offer.
    CloseOffer {
        /// Which.
        offer: OfferId,
        /// How.
        why: OfferEnd,
    },
    /// The rider does not want the ride any more.
    CancelByRider {
        /// Who asks.
        rider: RiderId,
        /// Why.
        reason: Reason,
        /// When the ride was asked for.
        asked_at: Timestamp,
    },
    /// The driver gives the trip back.
    CancelByDriver {
        /// Who asks.
        driver: DriverId,
        /// Why.
        reason: Reason,
    },
    /// The driver is at the pickup.
    Arrive {
        /// Who asks.
        driver: DriverId,
        /// Where the phone is.
        position: Point,
        /// The driver insists, however far that is.
        forced: bool,
    },
    /// The driver leaves without the rider.
    NoShow {
        /// Who asks.
        driver: DriverId,
    },
    /// The rider is in the car and told this PIN.
    Start {
        /// Who asks.
        driver: DriverId,
        /// What the rider told.
        pin: Pin,
    },
    /// The rider is at the destination.
    Complete {
        /// Who asks.
        driver: DriverId,
        /// Where the phone is.
        position: Point,
        /// What the car measured; zero = it did not.
        distance_m: u32,
    },
    /// The rider rates the driver.
    RateByRider {
        /// Who asks.
        rider: RiderId,
        /// How it was.
        stars: Stars,
    },
    /// The driver rates the rider.
    RateByDriver {
        /// Who asks.
        driver: DriverId,
        /// How it was.
        stars: Stars,
    },
    /// Operations end a ride that nobody else ends.
    Close {
        /// At its destination; else it is cancelled.
        completed: bool,
        /// Why.
        reason: Reason,
    },
    /// Operations give the driver new tries.
    UnlockPin,
    /// No driver was found in time.
    EndSearch,
    /// The open offer was not answered in time.
    EndLease,
    /// The driver is late.
    EndPickup,
    /// The rider had time enough to come.
    EndWait,
    /// The ride takes far too long.
    MarkStalled,
}

/// The fact that stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Nothing is known of this trip.
    #[error("there is no such trip")]
    UnknownTrip,
    /// Whatever is asked for so late may have had its trip long ago: that may be in the archive, and
    /// must not begin again.
    #[error("the ride was asked for too long ago, at {at}")]
    AskedTooLongAgo {
        /// When.
        at: Timestamp,
    },
    /// It is another's.
    #[error("the trip is another's")]
    NotYours,
    /// Not in this phase.
    #[error("that is not possible while the trip is {}", .phase.name())]
    WrongPhase {
        /// Where it stands.
        phase: Phase,
    },
    /// The ride is on its way.
    #[error("the ride has started")]
    Started,
    /// It is over.
    #[error("the trip is {}", .phase.name())]
    Ended {
        /// How.
        phase: Phase,
    },
    /// One offer at a time.
    #[error("offer {offer} is open")]
    OfferOpen {
        /// The open one.
        offer: OfferId,
    },
    /// That proposal went to somebody else.
    #[error("the offer was made to another driver")]
    OfferedToAnother,
    /// The trip never made it.
    #[error("there is no such offer")]
    OfferUnknown,
    /// It became an assignment.
    #[error("the offer was assigned")]
    OfferAssigned,
    /// It ended otherwise.
    #[error("the offer is closed: {}", .why.name())]
    OfferClosed {
        /// How.
        why: OfferEnd,
    },
    /// As many as a trip may make.
    #[error("the trip made as many offers as it may")]
    TooManyOffers,
    /// This driver had the choice already.
    #[error("the driver is not to be asked again")]
    DriverExcluded,
    /// The search is over, its end is only not recorded yet.
    #[error("the search is over since {at}")]
    SearchOver {
        /// Since when.
        at: Timestamp,
    },
    /// Not at the pickup.
    #[error("the pickup is {distance_m} m away")]
    TooFarFromPickup {
        /// By air.
        distance_m: u32,
    },
    /// The rider may still come.
    #[error("the rider has until {until}")]
    WaitNotOver {
        /// Until when.
        until: Timestamp,
    },
    /// Not the rider's PIN.
    #[error("the pin is wrong, {tries_left} tries left")]
    PinInvalid {
        /// Before it locks.
        tries_left: u32,
    },
    /// Too many wrong ones.
    #[error("the pin is locked")]
    PinLocked,
    /// Once each.
    #[error("the trip is rated already")]
    AlreadyRated,
    /// Too late.
    #[error("ratings closed at {at}")]
    RatingClosed {
        /// Since when.
        at: Timestamp,
    },
}
