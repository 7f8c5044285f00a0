//! given(history).when(command).then…: the small language of these tests.

use std::time::Duration;

use common::{
    clock::Timestamp,
    geo::Point,
    id::{DriverId, OfferId, RiderId},
    money::{Currency, Money},
};
use uuid::Uuid;

use crate::domain::{
    OfferEnd, Party, Phase, Pin, Quote, Reason, Rejection, Stars, Terms, Trip, TripCommand,
    TripEvent, decide, evolve,
};

pub(crate) const RIDER: RiderId = RiderId(Uuid::from_u128(1));
pub(crate) const OTHER_RIDER: RiderId = RiderId(Uuid::from_u128(2));
pub(crate) const ANNA: DriverId = DriverId(Uuid::from_u128(11));
pub(crate) const BELA: DriverId = DriverId(Uuid::from_u128(12));
pub(crate) const CEM: DriverId = DriverId(Uuid::from_u128(13));
pub(crate) const TO_ANNA: OfferId = OfferId(Uuid::from_u128(101));
pub(crate) const TO_BELA: OfferId = OfferId(Uuid::from_u128(102));
pub(crate) const TO_CEM: OfferId = OfferId(Uuid::from_u128(103));
pub(crate) const ETA_S: u32 = 240;

/// A history, and the time of the last thing in it.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) trip: Trip,
    pub(crate) now: Timestamp,
}

pub(crate) struct When {
    before: Trip,
    decision: Result<Option<TripEvent>, Rejection>,
    now: Timestamp,
}

/// Each thing happened a second after the one before it.
pub(crate) fn given(history: &[TripEvent]) -> Given {
    let mut given = Given { trip: Trip::Unknown, now: at(0) };
    for event in history {
        given.now = given.now.plus(SECOND);
        given.trip = evolve(given.trip, event, given.now);
    }
    given
}

const SECOND: Duration = Duration::from_secs(1);

impl Given {
    pub(crate) fn after(mut self, time: Duration) -> Self {
        self.now = self.now.plus(time);
        self
    }

    #[allow(clippy::needless_pass_by_value, reason = "reads as a sentence")]
    pub(crate) fn when(self, command: TripCommand) -> When {
        let decision = decide(&self.trip, &command, self.now);
        When { before: self.trip, decision, now: self.now }
    }
}

impl When {
    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "reads as a sentence")]
    pub(crate) fn then(self, event: TripEvent) -> Trip {
        assert_eq!(self.decision, Ok(Some(event.clone())));
        evolve(self.before, &event, self.now)
    }

    #[track_caller]
    pub(crate) fn then_nothing(self) {
        assert_eq!(self.decision, Ok(None));
    }

    #[track_caller]
    pub(crate) fn then_rejected(self, rejection: Rejection) {
        assert_eq!(self.decision, Err(rejection));
    }

    /// What happened, where a test needs only a part of it.
    #[track_caller]
    pub(crate) fn event(self) -> TripEvent {
        self.decision.unwrap().unwrap()
    }
}

pub(crate) fn at(second: u64) -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000).plus(Duration::from_secs(second))
}

pub(crate) fn money(amount_minor: i64) -> Money {
    Money::new(amount_minor, Currency::SEK)
}

pub(crate) fn reason(text: &str) -> Reason {
    text.parse().unwrap()
}

pub(crate) fn pin(text: &str) -> Pin {
    text.parse().unwrap()
}

pub(crate) fn stars(count: u32) -> Stars {
    count.try_into().unwrap()
}

pub(crate) fn pickup() -> Point {
    Point::new(57.7, 11.97).unwrap()
}

/// So far north of the pickup.
pub(crate) fn away(metres: f64) -> Point {
    Point::new(57.7 + metres / 111_195.0, 11.97).unwrap()
}

pub(crate) fn dropoff() -> Point {
    Point::new(57.72, 12.0).unwrap()
}

pub(crate) fn quote() -> Quote {
    Quote {
        fare_id: vec![7; 16],
        product: "standard".into(),
        fare: money(12_500),
        distance_m: 3_500,
        duration_s: 600,
        surge_percent: 100,
        cancellation_fee: money(4_000),
    }
}

// Commands.

pub(crate) fn request() -> TripCommand {
    TripCommand::Request {
        rider: RIDER,
        pickup: pickup(),
        dropoff: dropoff(),
        quote: quote(),
        pin: pin("0417"),
        terms: Terms::STANDARD,
        asked_at: at(0),
    }
}

pub(crate) fn offer(driver: DriverId, offer: OfferId) -> TripCommand {
    TripCommand::Offer { driver, offer, pickup_eta_s: ETA_S, pickup_distance_m: 900 }
}

pub(crate) fn assign(driver: DriverId, offer: OfferId) -> TripCommand {
    TripCommand::Assign { driver, offer }
}

pub(crate) fn close_offer(offer: OfferId, why: OfferEnd) -> TripCommand {
    TripCommand::CloseOffer { offer, why }
}

pub(crate) fn rider_cancels() -> TripCommand {
    let reason = reason("wait_too_long");
    TripCommand::CancelByRider { rider: RIDER, reason, asked_at: at(0) }
}

pub(crate) fn driver_cancels(driver: DriverId) -> TripCommand {
    TripCommand::CancelByDriver { driver, reason: reason("vehicle_problem") }
}

pub(crate) fn arrive(driver: DriverId, position: Point, forced: bool) -> TripCommand {
    TripCommand::Arrive { driver, position, forced }
}

pub(crate) fn start(text: &str) -> TripCommand {
    TripCommand::Start { driver: ANNA, pin: pin(text) }
}

pub(crate) fn complete(driver: DriverId) -> TripCommand {
    TripCommand::Complete { driver, position: dropoff(), distance_m: 3_600 }
}

pub(crate) fn close(completed: bool) -> TripCommand {
    TripCommand::Close { completed, reason: reason("phone died") }
}

// Events.

pub(crate) fn requested() -> TripEvent {
    given(&[]).after(SECOND).when(request()).event()
}

pub(crate) fn offered(driver: DriverId, offer: OfferId) -> TripEvent {
    TripEvent::Offered {
        offer,
        driver,
        pickup_eta_s: ETA_S,
        pickup_distance_m: 900,
        lease_until: at(32),
    }
}

pub(crate) fn closed(driver: DriverId, offer: OfferId, why: OfferEnd) -> TripEvent {
    TripEvent::OfferClosed { offer, driver, why }
}

pub(crate) fn assigned(driver: DriverId, offer: OfferId) -> TripEvent {
    TripEvent::Assigned { offer, driver, pickup_eta_s: ETA_S, watchdog: at(3 + 2 * 240 + 300) }
}

pub(crate) fn unassigned(driver: DriverId, offer: OfferId) -> TripEvent {
    TripEvent::Unassigned {
        by: Party::Driver,
        reason: reason("vehicle_problem"),
        driver,
        offer,
        match_deadline: at(124),
    }
}

pub(crate) fn arrived() -> TripEvent {
    TripEvent::Arrived { position: pickup(), forced: false, wait_until: at(304) }
}

pub(crate) fn started() -> TripEvent {
    TripEvent::Started { watchdog: at(5 + 3 * 600 + 30 * 60) }
}

pub(crate) fn completed() -> TripEvent {
    TripEvent::Completed {
        position: Some(dropoff()),
        distance_m: 3_600,
        duration_s: 0,
        fare: money(12_500),
        by: Party::Driver,
    }
}

pub(crate) fn cancelled(by: Party, why: &str, phase: Phase, fee: i64) -> TripEvent {
    TripEvent::Cancelled { by, reason: reason(why), phase: Some(phase), fee: money(fee) }
}

// Histories.

pub(crate) fn matching() -> Vec<TripEvent> {
    vec![requested()]
}

pub(crate) fn on_offer() -> Vec<TripEvent> {
    vec![requested(), offered(ANNA, TO_ANNA)]
}

pub(crate) fn on_the_way() -> Vec<TripEvent> {
    vec![requested(), offered(ANNA, TO_ANNA), assigned(ANNA, TO_ANNA)]
}

pub(crate) fn at_the_pickup() -> Vec<TripEvent> {
    [on_the_way(), vec![arrived()]].concat()
}

pub(crate) fn on_the_road() -> Vec<TripEvent> {
    [at_the_pickup(), vec![started()]].concat()
}

pub(crate) fn at_the_destination() -> Vec<TripEvent> {
    [on_the_road(), vec![completed()]].concat()
}

/// Anna, Béla and Cem each had the trip; two gave it back, Cem is on the way.
pub(crate) fn given_back_twice() -> Vec<TripEvent> {
    [
        on_the_way(),
        vec![
            unassigned(ANNA, TO_ANNA),
            offered(BELA, TO_BELA),
            assigned(BELA, TO_BELA),
            unassigned(BELA, TO_BELA),
            offered(CEM, TO_CEM),
            assigned(CEM, TO_CEM),
        ],
    ]
    .concat()
}
