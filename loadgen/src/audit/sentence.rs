//! Events as sentences, for timelines and for the narrated ride.

use std::time::Duration;

use common::contract::v1;

use super::log::{driver_id, offer_id};

/// The first digits of an id are enough to tell it from others on a page.
#[must_use]
pub fn short(id: impl std::fmt::Display) -> String {
    // The last digits: ids made within a second share their first ones.
    let text = id.to_string();
    let skip = text.chars().count().saturating_sub(6);
    text.chars().skip(skip).collect()
}

fn money(money: Option<&v1::Money>) -> String {
    let Some(money) = money else { return "nothing".to_owned() };
    let minor = money.amount_minor.unsigned_abs();
    let sign = if money.amount_minor < 0 { "-" } else { "" };
    format!("{sign}{}.{:02} {}", minor / 100, minor % 100, money.currency)
}

fn party(party: v1::Party) -> &'static str {
    match party {
        v1::Party::Unspecified => "somebody",
        v1::Party::Rider => "the rider",
        v1::Party::Driver => "the driver",
        v1::Party::System => "a timer",
        v1::Party::Operations => "operations",
    }
}

/// How an offer ended.
#[must_use]
pub fn offer_end(why: v1::OfferEnd) -> &'static str {
    match why {
        v1::OfferEnd::Unspecified => "for no known reason",
        v1::OfferEnd::Declined => "the driver said no",
        v1::OfferEnd::Lapsed => "the driver said nothing",
        v1::OfferEnd::Busy => "the driver was busy",
        v1::OfferEnd::Lost => "the driver fell silent",
        v1::OfferEnd::Offline => "the driver was offline",
        v1::OfferEnd::LeaseOver => "no answer came in time",
        v1::OfferEnd::TripEnded => "the trip ended",
        v1::OfferEnd::Released => "the trip withdrew it",
    }
}

fn seconds(seconds: u32) -> String {
    let all = Duration::from_secs(seconds.into()).as_secs();
    if all < 60 { format!("{all} s") } else { format!("{} min {} s", all / 60, all % 60) }
}

/// What a trip's event says.
#[must_use]
pub fn trip(event: &v1::TripEvent) -> String {
    use v1::trip_event::Kind;
    let Some(kind) = &event.kind else { return "nothing readable happened".to_owned() };
    match kind {
        Kind::Requested(it) => {
            let quote = it.quote.clone().unwrap_or_default();
            format!(
                "a ride of {} m was asked for at {}; a driver is looked for",
                quote.distance_m,
                money(quote.fare.as_ref())
            )
        }
        Kind::Offered(it) => format!(
            "driver …{} is asked (offer …{}): {} away",
            short(driver_id(&it.driver_id)),
            short(offer_id(&it.offer_id)),
            seconds(it.pickup_eta_s)
        ),
        Kind::Assigned(it) => format!(
            "driver …{} has the trip and is {} away",
            short(driver_id(&it.driver_id)),
            seconds(it.pickup_eta_s)
        ),
        Kind::OfferClosed(it) => {
            format!(
                "offer …{} came to nothing: {}",
                short(offer_id(&it.offer_id)),
                offer_end(it.why())
            )
        }
        Kind::Unfulfilled(_) => "nobody was found in time".to_owned(),
        Kind::Cancelled(it) => {
            format!("{} cancelled ({}), fee {}", party(it.by()), it.reason, money(it.fee.as_ref()))
        }
        Kind::Unassigned(it) => format!(
            "{} gave it back ({}); driver …{} is not asked again, the search goes on",
            party(it.by()),
            it.reason,
            short(driver_id(&it.driver_id))
        ),
        Kind::Arrived(it) if it.forced => "the driver says to be at the pickup".to_owned(),
        Kind::Arrived(_) => "the driver is at the pickup".to_owned(),
        Kind::WaitOver(_) => "the driver may leave without the rider".to_owned(),
        Kind::PinRefused(it) => format!("a wrong PIN was told, {} tries left", it.tries_left),
        Kind::PinUnlocked(_) => "operations gave new tries for the PIN".to_owned(),
        Kind::Started(_) => "the PIN was right, the ride begins".to_owned(),
        Kind::Completed(it) => format!(
            "{} ended the ride at the destination: {} m in {}, fare {}",
            party(it.by()),
            it.distance_m,
            seconds(it.duration_s),
            money(it.fare.as_ref())
        ),
        Kind::Stalled(_) => "the ride takes far too long, operations should look".to_owned(),
        Kind::Rated(it) => format!("{} gave {} stars", party(it.by()), it.stars),
    }
}

/// What a driver's event says.
#[must_use]
pub fn driver(event: &v1::DriverEvent) -> String {
    use v1::driver_event::Kind;
    let Some(kind) = &event.kind else { return "nothing readable happened".to_owned() };
    match kind {
        Kind::WentOnline(_) => "wants rides".to_owned(),
        Kind::Finishing(_) => "wants no ride after this one".to_owned(),
        Kind::WentOffline(it) if it.silent => "was silent for too long and is offline".to_owned(),
        Kind::WentOffline(_) => "went offline".to_owned(),
        Kind::Offered(it) => {
            let fare = it.terms.as_ref().and_then(|terms| terms.fare.as_ref());
            format!("sees offer …{} for {}", short(offer_id(&it.offer_id)), money(fare))
        }
        Kind::OfferRefused(it) => format!("could not be asked: {}", offer_end(it.why())),
        Kind::OfferAccepted(_) => "accepted and is engaged by this trip alone".to_owned(),
        Kind::OfferDeclined(it) if it.reason.is_empty() => "declined".to_owned(),
        Kind::OfferDeclined(it) => format!("declined ({})", it.reason),
        Kind::OfferLapsed(_) => "did not answer in time".to_owned(),
        Kind::Lost(it) => format!("has not been heard for {}", seconds(it.silent_s)),
        Kind::Released(it) if it.early => format!("need not answer any more ({})", it.why),
        Kind::Released(it) => format!("is free again ({})", it.why),
    }
}

/// What a rider's event says.
#[must_use]
pub fn rider(event: &v1::RiderEvent) -> String {
    use v1::rider_event::Kind;
    match &event.kind {
        None => "nothing readable happened".to_owned(),
        Some(Kind::RideRequested(it)) => {
            let fare = it.quote.as_ref().and_then(|quote| quote.fare.as_ref());
            format!("asked for a ride at {}", money(fare))
        }
        Some(Kind::FareCharged(it)) => {
            format!("paid {} ({})", money(it.amount.as_ref()), it.provider_reference)
        }
    }
}
