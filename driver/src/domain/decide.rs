//! What happens when somebody wants something of a driver.

use std::time::Duration;

use common::{
    clock::Timestamp,
    id::OfferId,
    planted::{self, Planted},
};

use super::{
    Driver, DriverCommand, DriverEvent, Duty, Engagement, OfferEnd, OfferTerms, Pair, Rejection,
};

/// How long a driver may think about an offer.
pub const OFFER_TIME: Duration = Duration::from_secs(15);
/// How much later than that an acceptance still counts: it travelled. The timer waits as long, so
/// that until it fires the answer is yes.
pub const ACCEPT_GRACE: Duration = Duration::from_secs(1);
/// Who became idle (by going online, say) less than this ago is not sent home for a silence that
/// was mostly before it.
pub const IDLE_BEFORE_OFFLINE: Duration = Duration::from_secs(60);

type Decision = Result<Option<DriverEvent>, Rejection>;

/// What happens when somebody wants this at `now`. `Ok(None)`: there is nothing new to say.
///
/// # Errors
/// The fact that stands in the way.
pub fn decide(driver: &Driver, command: &DriverCommand, now: Timestamp) -> Decision {
    match command {
        DriverCommand::GoOnline => Ok(go_online(driver)),
        DriverCommand::Finish => Ok(finish(driver)),
        DriverCommand::GoOffline => go_offline(driver),
        DriverCommand::Offer { pair, terms } => offer(driver, *pair, terms, now),
        DriverCommand::Accept { offer } => accept(driver, *offer, now),
        DriverCommand::Decline { offer, reason } => decline(driver, *offer, reason),
        DriverCommand::Release { pair, why } => Ok(release(driver, *pair, why)),
        DriverCommand::MarkLost { silent_s, ends_duty } => {
            Ok(mark_lost(driver, *silent_s, *ends_duty, now))
        }
        DriverCommand::LapseOffer => Ok(lapse(driver, now)),
    }
}

fn go_online(driver: &Driver) -> Option<DriverEvent> {
    match driver.duty {
        Duty::Offline | Duty::Finishing(_) => Some(DriverEvent::WentOnline),
        Duty::Online(_) => None,
    }
}

/// Only a trip can be finished; without one, duty ends at once, and with it an offer in hand.
fn finish(driver: &Driver) -> Option<DriverEvent> {
    match &driver.duty {
        Duty::Online(Engagement::Engaged(_)) => Some(DriverEvent::Finishing),
        Duty::Online(Engagement::Idle { .. } | Engagement::Offered(_)) => {
            Some(went_offline(driver, false))
        }
        Duty::Offline | Duty::Finishing(_) => None,
    }
}

fn go_offline(driver: &Driver) -> Decision {
    match &driver.duty {
        Duty::Online(Engagement::Engaged(engaged)) => {
            Err(Rejection::OnTrip { trip: engaged.pair.trip })
        }
        Duty::Online(Engagement::Idle { .. } | Engagement::Offered(_)) => {
            Ok(Some(went_offline(driver, false)))
        }
        // Finishing: it comes with the end of the trip.
        Duty::Offline | Duty::Finishing(_) => Ok(None),
    }
}

fn went_offline(driver: &Driver, silent: bool) -> DriverEvent {
    DriverEvent::WentOffline { silent, ended: driver.offered().map(|offered| offered.pair) }
}

fn offer(driver: &Driver, pair: Pair, terms: &OfferTerms, now: Timestamp) -> Decision {
    if driver.pair() == Some(pair) {
        return Ok(None);
    }
    // Whoever closed it has said so: the driver's events, or the trip that released it early.
    if driver.closed.get(pair.offer).is_some() {
        return Err(Rejection::OfferClosed);
    }
    Ok(Some(match driver.duty {
        Duty::Online(Engagement::Idle { .. }) => {
            DriverEvent::Offered { pair, expires_at: now.plus(OFFER_TIME), terms: *terms }
        }
        Duty::Online(Engagement::Offered(_) | Engagement::Engaged(_)) | Duty::Finishing(_) => {
            DriverEvent::OfferRefused { pair, why: OfferEnd::Busy }
        }
        Duty::Offline => DriverEvent::OfferRefused { pair, why: OfferEnd::Offline },
    }))
}

fn accept(driver: &Driver, offer: OfferId, now: Timestamp) -> Decision {
    if let Some(offered) = driver.offered().filter(|offered| offered.pair.offer == offer) {
        return if offered.expires_at.plus(ACCEPT_GRACE) < now {
            Err(Rejection::OfferLapsed)
        } else {
            Ok(Some(DriverEvent::OfferAccepted { pair: offered.pair }))
        };
    }
    // The phone retried. The offer is accepted already, so there is nothing new to say.
    if is_engaged_by(driver, offer) {
        return Ok(None);
    }
    Err(match driver.closed.get(offer) {
        Some(OfferEnd::Lapsed) => Rejection::OfferLapsed,
        Some(
            OfferEnd::Declined
            | OfferEnd::Busy
            | OfferEnd::Lost
            | OfferEnd::Offline
            | OfferEnd::Released,
        ) => Rejection::OfferWithdrawn,
        None => Rejection::OfferUnknown,
    })
}

fn decline(driver: &Driver, offer: OfferId, reason: &str) -> Decision {
    if let Some(offered) = driver.offered().filter(|offered| offered.pair.offer == offer) {
        return Ok(Some(DriverEvent::OfferDeclined {
            pair: offered.pair,
            reason: reason.to_owned(),
        }));
    }
    match driver.engaged().filter(|engaged| engaged.pair.offer == offer) {
        Some(engaged) => Err(Rejection::OnTrip { trip: engaged.pair.trip }),
        // However it ended, the driver does not have it.
        None if driver.closed.get(offer).is_some() => Ok(None),
        None => Err(Rejection::OfferUnknown),
    }
}

/// The timer fires a grace period after the expiry, so this holds whenever the right one fires; one
/// that raced with a decline and the next offer must not end that one.
fn lapse(driver: &Driver, now: Timestamp) -> Option<DriverEvent> {
    let over = driver.offered().filter(|offered| offered.expires_at <= now)?;
    Some(DriverEvent::OfferLapsed { pair: over.pair })
}

fn release(driver: &Driver, pair: Pair, why: &str) -> Option<DriverEvent> {
    let released = |early| DriverEvent::Released { pair, why: why.to_owned(), early };
    match driver.pair() {
        Some(held) if planted::is_on(Planted::DriverFreedByFlag) => {
            Some(DriverEvent::Released { pair: held, why: why.to_owned(), early: false })
        }
        Some(held) if held == pair => Some(released(false)),
        // The same offer with another trip: somebody is wrong, and it is not known who.
        Some(held) if held.offer == pair.offer => None,
        Some(_) | None if driver.closed.get(pair.offer).is_some() => None,
        Some(_) | None => Some(released(true)),
    }
}

/// How long is too long only `location` can say: the silence is measured in its partition's time.
fn mark_lost(
    driver: &Driver,
    silent_s: u32,
    ends_duty: bool,
    now: Timestamp,
) -> Option<DriverEvent> {
    match &driver.duty {
        Duty::Online(Engagement::Offered(offered)) => {
            Some(DriverEvent::Lost { pair: offered.pair, silent_s })
        }
        Duty::Online(Engagement::Idle { since }) => {
            let has_idled = now.since(*since) >= IDLE_BEFORE_OFFLINE;
            (ends_duty && has_idled).then(|| went_offline(driver, true))
        }
        // A phone in a tunnel is still on its trip; the trip has watchdogs of its own.
        Duty::Online(Engagement::Engaged(_)) | Duty::Finishing(_) | Duty::Offline => None,
    }
}

fn is_engaged_by(driver: &Driver, offer: OfferId) -> bool {
    driver.engaged().is_some_and(|engaged| engaged.pair.offer == offer)
}
