//! The words that the sentences are made of.

use std::time::Duration;

use common::{clock::Timestamp, id::OfferId, id::TripId, money::Currency, money::Money};
use uuid::Uuid;

use crate::domain::{
    Driver, DriverCommand, DriverEvent, Duty, Engagement, OFFER_TIME, OfferEnd, OfferTerms, Pair,
    Rejection, decide, evolve,
};

pub(super) const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
pub(super) const FIRST: u128 = 1;
pub(super) const SECOND: u128 = 2;

pub(super) fn pair(number: u128) -> Pair {
    Pair {
        trip: TripId(Uuid::from_u128(1000 + number)),
        offer: OfferId(Uuid::from_u128(2000 + number)),
    }
}

pub(super) fn terms() -> OfferTerms {
    OfferTerms {
        pickup_eta_s: 120,
        pickup_distance_m: 900,
        fare: Money::new(12_300, Currency::SEK),
        trip_distance_m: 4_000,
        trip_duration_s: 600,
    }
}

pub(super) fn expiry() -> Timestamp {
    START.plus(OFFER_TIME)
}

pub(super) fn online() -> DriverEvent {
    DriverEvent::WentOnline
}
pub(super) fn offered(number: u128) -> DriverEvent {
    DriverEvent::Offered { pair: pair(number), expires_at: expiry(), terms: terms() }
}
pub(super) fn accepted(number: u128) -> DriverEvent {
    DriverEvent::OfferAccepted { pair: pair(number) }
}
pub(super) fn lapsed(number: u128) -> DriverEvent {
    DriverEvent::OfferLapsed { pair: pair(number) }
}
pub(super) fn declined(number: u128) -> DriverEvent {
    DriverEvent::OfferDeclined { pair: pair(number), reason: "too_far".into() }
}
pub(super) fn refused(number: u128, why: OfferEnd) -> DriverEvent {
    DriverEvent::OfferRefused { pair: pair(number), why }
}
pub(super) fn released(number: u128, early: bool) -> DriverEvent {
    DriverEvent::Released { pair: pair(number), why: "completed".into(), early }
}
pub(super) fn went_offline(ended: Option<u128>) -> DriverEvent {
    DriverEvent::WentOffline { silent: false, ended: ended.map(pair) }
}

pub(super) fn offer(number: u128) -> DriverCommand {
    DriverCommand::Offer { pair: pair(number), terms: terms() }
}
pub(super) fn accept(number: u128) -> DriverCommand {
    DriverCommand::Accept { offer: pair(number).offer }
}
pub(super) fn decline(number: u128) -> DriverCommand {
    DriverCommand::Decline { offer: pair(number).offer, reason: "too_far".into() }
}
pub(super) fn release(number: u128) -> DriverCommand {
    DriverCommand::Release { pair: pair(number), why: "completed".into() }
}
pub(super) fn silent_for(silent_s: u32) -> DriverCommand {
    DriverCommand::MarkLost { silent_s, ends_duty: false }
}
pub(super) fn silent_for_too_long() -> DriverCommand {
    DriverCommand::MarkLost { silent_s: 300, ends_duty: true }
}

pub(super) struct Given(pub(super) Driver, pub(super) Timestamp);
pub(super) struct Then(pub(super) Driver, pub(super) Result<Option<DriverEvent>, Rejection>);

pub(super) fn given(events: &[DriverEvent]) -> Given {
    Given(
        events.iter().fold(Driver::default(), |driver, event| evolve(driver, event, START)),
        START,
    )
}

impl Given {
    pub(super) fn after(self, time: Duration) -> Self {
        Self(self.0, self.1.plus(time))
    }

    #[allow(clippy::needless_pass_by_value, reason = "so that a test reads as a sentence")]
    pub(super) fn when(self, command: DriverCommand) -> Then {
        let decision = decide(&self.0, &command, self.1);
        let driver = match &decision {
            Ok(Some(event)) => evolve(self.0, event, self.1),
            Ok(None) | Err(_) => self.0,
        };
        Then(driver, decision)
    }
}

impl Then {
    pub(super) fn then(self, event: DriverEvent) -> Driver {
        assert_eq!(self.1, Ok(Some(event)));
        self.0
    }

    pub(super) fn then_nothing(self) -> Driver {
        assert_eq!(self.1, Ok(None));
        self.0
    }

    pub(super) fn then_rejected(self, rejection: Rejection) {
        assert_eq!(self.1, Err(rejection));
    }
}

pub(super) fn is_idle(driver: &Driver) -> bool {
    matches!(driver.duty, Duty::Online(Engagement::Idle { .. }))
}
