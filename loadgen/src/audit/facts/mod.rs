//! What is true of a trip or a driver, twice: as the last event carries it, and as the audit itself
//! folds it from the events. Only what matters is here; the services' own fold is not used.

mod driver;
mod trip;

pub(super) use driver::{Bond, DriverFacts};
pub(super) use trip::{OfferFact, TripFacts};

use common::{
    contract::v1,
    id::{OfferId, TripId},
};

use super::log::{offer_id, trip_id};

/// A difference between two states: field, carried, folded.
pub(super) type Difference = (&'static str, String, String);

fn compare<T: PartialEq + std::fmt::Debug>(
    found: &mut Vec<Difference>,
    field: &'static str,
    carried: &T,
    folded: &T,
) {
    if carried != folded {
        found.push((field, format!("{carried:?}"), format!("{folded:?}")));
    }
}

/// The ids of the pair that a driver's event is about, if it is about one.
#[must_use]
pub(super) fn pair_of(event: &v1::DriverEvent) -> Option<(TripId, OfferId)> {
    use v1::driver_event::Kind;
    let pair = |trip: &[u8], offer: &[u8]| Some((trip_id(trip), offer_id(offer)));
    if let Some(ended) = &event.ended_offer {
        return pair(&ended.trip_id, &ended.offer_id);
    }
    match event.kind.as_ref()? {
        Kind::Offered(of) => pair(&of.trip_id, &of.offer_id),
        Kind::OfferRefused(of) => pair(&of.trip_id, &of.offer_id),
        Kind::OfferAccepted(of) => pair(&of.trip_id, &of.offer_id),
        Kind::OfferDeclined(of) => pair(&of.trip_id, &of.offer_id),
        Kind::OfferLapsed(of) => pair(&of.trip_id, &of.offer_id),
        Kind::Released(of) => pair(&of.trip_id, &of.offer_id),
        Kind::WentOnline(_) | Kind::Finishing(_) | Kind::WentOffline(_) | Kind::Lost(_) => None,
    }
}
