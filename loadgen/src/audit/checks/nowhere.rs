//! Nothing from nowhere: what only people do, a phone of the journals has tried to do. Asked only
//! where the journals are of all phones that there are.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use common::{
    contract::v1::{self, Party},
    id::{DriverId, RiderId, TripId},
    stream,
};
use uuid::Uuid;

use super::count;
use crate::audit::{
    evidence::Evidence,
    facts::{TripFacts, pair_of},
    log::{Entry, offer_id, rider_id},
    violation::{BookViolation, Violation},
};

pub(super) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    if !evidence.is_whole_city {
        return 0;
    }
    let tried: HashSet<(Uuid, &str)> =
        evidence.attempts.iter().map(|attempt| (attempt.id, attempt.path.as_str())).collect();
    let mut looked_at = requests(evidence, found);
    for (trip, entries) in &evidence.log.trips {
        if evidence.earlier.contains(trip) {
            continue;
        }
        let mut facts = TripFacts::default();
        for entry in entries {
            let act = trip_act(*trip, &facts, &entry.event);
            facts.fold(&entry.event);
            let Some(act) = act else { continue };
            looked_at += 1;
            act.check(stream::TRIP, entry, &tried, found);
        }
    }
    for (driver, entries) in &evidence.log.drivers {
        for entry in entries {
            let Some(act) = driver_act(*driver, evidence, &entry.event) else { continue };
            looked_at += 1;
            act.check(stream::DRIVER, entry, &tried, found);
        }
    }
    looked_at
}

/// Every trip comes of a key of its rider, and of one that no other trip came of.
fn requests(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let mut keys: BTreeMap<Uuid, BTreeSet<&str>> = BTreeMap::new();
    for attempt in evidence.attempts.iter().filter(|attempt| attempt.path == "/v1/trips") {
        keys.entry(attempt.id).or_default().insert(&attempt.key);
    }
    let mut trips: BTreeMap<RiderId, Vec<TripId>> = BTreeMap::new();
    for (trip, entry) in evidence.log.requests() {
        if let Some(v1::rider_event::Kind::RideRequested(asked)) = &entry.event.kind
            && !evidence.earlier.contains(&trip)
        {
            trips.entry(rider_id(&asked.rider_id)).or_default().push(trip);
        }
    }
    let rows = evidence.books.iter().flat_map(|books| &books.keys);
    let by_key: BTreeMap<TripId, &str> =
        rows.filter_map(|row| Some((row.trip?, row.key.as_str()))).collect();
    let mut looked_at = 0;
    for (rider, mut trips) in trips {
        trips.dedup();
        let sent = keys.remove(&rider.0).unwrap_or_default();
        looked_at += count(trips.len());
        let is_unsent = |trip: &&TripId| by_key.get(trip).is_some_and(|key| !sent.contains(key));
        // Where the books do not say which key it was, there must at least be enough of them.
        let unasked = trips.iter().find(is_unsent).or_else(|| trips.get(sent.len())).copied();
        if let Some(trip) = unasked {
            let (rider, asked, trips) = (rider.0, count(sent.len()), count(trips.len()));
            found.push(BookViolation::NotAskedFor { trip, rider, asked, trips }.into());
        }
    }
    looked_at
}

/// What only a person does.
struct Act {
    role: &'static str,
    id: Uuid,
    /// Any of these requests leads to it.
    paths: Vec<String>,
}

impl Act {
    fn check<E>(
        &self,
        stream: &str,
        entry: &Entry<E>,
        tried: &HashSet<(Uuid, &str)>,
        found: &mut Vec<Violation>,
    ) {
        if self.paths.iter().any(|path| tried.contains(&(self.id, path.as_str()))) {
            return;
        }
        found.push(
            BookViolation::NotAttempted {
                stream: stream.to_owned(),
                sequence: entry.sequence,
                kind: entry.kind.clone(),
                phone: format!("{} `{}`", self.role, self.id),
                path: self.paths.join("` or `"),
            }
            .into(),
        );
    }
}

fn trip_act(trip: TripId, before: &TripFacts, event: &v1::TripEvent) -> Option<Act> {
    use v1::trip_event::Kind;
    let rider = |step: &str| {
        let id = before.rider?.0;
        Some(Act { role: "rider", id, paths: vec![format!("/v1/trips/{trip}/{step}")] })
    };
    let driver = |steps: &[&str]| {
        let (DriverId(id), _) = before.driver?;
        let paths = steps.iter().map(|step| format!("/v1/driver/trips/{trip}/{step}"));
        Some(Act { role: "driver", id, paths: paths.collect() })
    };
    match event.kind.as_ref()? {
        Kind::Cancelled(it) if it.by() == Party::Rider => rider("cancel"),
        Kind::Cancelled(it) if it.by() == Party::Driver => driver(&["cancel", "no-show"]),
        Kind::Unassigned(it) if it.by() == Party::Driver => driver(&["cancel"]),
        Kind::Arrived(_) => driver(&["arrive"]),
        Kind::Started(_) | Kind::PinRefused(_) => driver(&["start"]),
        Kind::Completed(it) if it.by() == Party::Driver => driver(&["complete"]),
        Kind::Rated(it) if it.by() == Party::Rider => rider("rating"),
        _ => None,
    }
}

fn driver_act(driver: DriverId, evidence: &Evidence, event: &v1::DriverEvent) -> Option<Act> {
    use v1::driver_event::Kind;
    let (offer, answer) = match event.kind.as_ref()? {
        Kind::OfferAccepted(accepted) => (offer_id(&accepted.offer_id), "accept"),
        Kind::OfferDeclined(declined) => (offer_id(&declined.offer_id), "decline"),
        _ => return None,
    };
    let (trip, _) = pair_of(event)?;
    let path = format!("/v1/driver/offers/{offer}/{answer}");
    let is_of_this_run = !evidence.earlier.contains(&trip);
    is_of_this_run.then(|| Act { role: "driver", id: driver.0, paths: vec![path] })
}
