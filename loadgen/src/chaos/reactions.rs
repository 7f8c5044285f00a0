//! Which rows of the rules' and reactions' tables a run has gone through, as the log shows them.

use std::collections::BTreeMap;

use common::contract::v1::{
    self, OfferEnd, Party, TripPhase, driver_event::Kind as DriverKind,
    rider_event::Kind as RiderKind, trip_event::Kind as TripKind,
};

use crate::audit::Log;

/// Rows that a city without operations and with patient phones goes through. Those that need
/// minutes of silence, or people at the console, are counted but not asked for.
const ASKED_FOR: [&str; 18] = [
    "trip requested",
    "trip offered to a driver",
    "trip assigned",
    "offer closed: declined",
    "offer closed: lapsed",
    "trip unfulfilled",
    "trip cancelled by its rider while matching",
    "trip cancelled by its rider after assignment",
    "trip given back by its driver",
    "driver arrived",
    "wrong pin refused",
    "ride started",
    "ride completed",
    "ride rated",
    "driver took up an offer",
    "driver refused an offer",
    "driver accepted",
    "driver released",
];

/// Every row that is counted, zero included.
const OTHERS: [&str; 16] = [
    "offer closed: busy",
    "offer closed: driver lost",
    "offer closed: driver offline",
    "offer closed: lease over",
    "trip cancelled before it was requested",
    "trip cancelled: no-show",
    "trip cancelled by its driver at the kerb",
    "trip taken from its late driver",
    "wait over",
    "ride stalled",
    "driver declined",
    "driver let an offer lapse",
    "driver lost",
    "driver went offline",
    "driver released before the offer came",
    "fare charged",
];

/// How often each row was gone through.
pub(super) fn count(log: &Log) -> BTreeMap<&'static str, u64> {
    let rows = ASKED_FOR.iter().chain(&OTHERS).map(|row| (*row, 0));
    let mut rows: BTreeMap<&'static str, u64> = rows.collect();
    let mut add = |row: Option<&'static str>| {
        if let Some(row) = row {
            *rows.entry(row).or_default() += 1;
        }
    };
    for entry in log.trips.values().flatten() {
        add(entry.event.kind.as_ref().and_then(trip));
    }
    for entry in log.drivers.values().flatten() {
        add(entry.event.kind.as_ref().map(driver));
    }
    for entry in &log.riders {
        if let Some(RiderKind::FareCharged(_)) = &entry.event.kind {
            add(Some("fare charged"));
        }
    }
    rows
}

/// Whether a run has to go through it.
pub(super) fn is_asked_for(row: &str) -> bool {
    ASKED_FOR.contains(&row)
}

fn trip(kind: &TripKind) -> Option<&'static str> {
    Some(match kind {
        TripKind::Requested(_) => "trip requested",
        TripKind::Offered(_) => "trip offered to a driver",
        TripKind::Assigned(_) => "trip assigned",
        TripKind::OfferClosed(closed) => return closed_offer(closed.why()),
        TripKind::Unfulfilled(_) => "trip unfulfilled",
        TripKind::Cancelled(cancelled) => return cancelled_trip(cancelled),
        TripKind::Unassigned(it) if it.by() == Party::Driver => "trip given back by its driver",
        TripKind::Unassigned(_) => "trip taken from its late driver",
        TripKind::Arrived(_) => "driver arrived",
        TripKind::WaitOver(_) => "wait over",
        TripKind::PinRefused(_) => "wrong pin refused",
        TripKind::PinUnlocked(_) => return None,
        TripKind::Started(_) => "ride started",
        TripKind::Completed(_) => "ride completed",
        TripKind::Stalled(_) => "ride stalled",
        TripKind::Rated(_) => "ride rated",
    })
}

fn closed_offer(why: OfferEnd) -> Option<&'static str> {
    Some(match why {
        OfferEnd::Declined => "offer closed: declined",
        OfferEnd::Lapsed => "offer closed: lapsed",
        OfferEnd::Busy => "offer closed: busy",
        OfferEnd::Lost => "offer closed: driver lost",
        OfferEnd::Offline => "offer closed: driver offline",
        OfferEnd::LeaseOver => "offer closed: lease over",
        OfferEnd::Unspecified | OfferEnd::TripEnded | OfferEnd::Released => return None,
    })
}

fn cancelled_trip(cancelled: &v1::TripCancelled) -> Option<&'static str> {
    Some(match (cancelled.by(), cancelled.phase()) {
        (Party::Rider, TripPhase::Unspecified) => "trip cancelled before it was requested",
        (Party::Rider, TripPhase::Matching) => "trip cancelled by its rider while matching",
        (Party::Rider, _) => "trip cancelled by its rider after assignment",
        (Party::Driver, _) if cancelled.reason == "no_show" => "trip cancelled: no-show",
        (Party::Driver, _) => "trip cancelled by its driver at the kerb",
        (Party::Unspecified | Party::System | Party::Operations, _) => return None,
    })
}

fn driver(kind: &DriverKind) -> &'static str {
    match kind {
        DriverKind::WentOnline(_) => "driver went online",
        DriverKind::Finishing(_) => "driver finishing",
        DriverKind::WentOffline(_) => "driver went offline",
        DriverKind::Offered(_) => "driver took up an offer",
        DriverKind::OfferRefused(_) => "driver refused an offer",
        DriverKind::OfferAccepted(_) => "driver accepted",
        DriverKind::OfferDeclined(_) => "driver declined",
        DriverKind::OfferLapsed(_) => "driver let an offer lapse",
        DriverKind::Lost(_) => "driver lost",
        DriverKind::Released(it) if it.early => "driver released before the offer came",
        DriverKind::Released(_) => "driver released",
    }
}

#[cfg(test)]
mod tests {
    use super::count;
    use crate::audit::Log;

    #[test]
    fn a_row_that_was_never_gone_through_is_shown_with_nothing() {
        let rows = count(&Log::default());
        assert_eq!(rows.len(), 34);
        assert!(rows.values().all(|times| *times == 0));
    }
}
