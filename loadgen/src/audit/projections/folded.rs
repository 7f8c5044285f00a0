//! What projections should show, from the log alone.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    clock::Timestamp,
    contract::v1::{self, TripPhase},
    id::TripId,
};
use prost::Message as _;

use crate::{
    audit::{
        books::Books,
        facts::{Bond, DriverFacts, TripFacts},
        log::{Log, driver_id},
    },
    journal::fingerprint,
};

/// By key, in words.
pub(super) type Shown = BTreeMap<String, String>;

/// What the rider's store has of every trip.
pub(super) fn of_books(books: &Books, earlier: &BTreeSet<TripId>) -> Shown {
    let rows = books.trips.iter().filter(|row| !earlier.contains(&row.trip));
    rows.map(|row| {
        let snapshot = row.snapshot.as_ref();
        let known = snapshot.and_then(|it| Some(trip(it.version, it.sequence, it.state.as_ref()?)));
        let known = known.unwrap_or_else(|| "not known".to_owned());
        (row.trip.to_string(), format!("{known}, {}", ended(row.has_ended)))
    })
    .collect()
}

/// What it should have: the last event of every trip that was asked for.
pub(super) fn riders_trips(log: &Log, earlier: &BTreeSet<TripId>) -> Shown {
    let asked = log.requests().map(|(trip, _)| trip).filter(|trip| !earlier.contains(trip));
    asked
        .map(|asked| {
            let last = log.trips.get(&asked).and_then(|entries| entries.last());
            let known = last.and_then(|entry| {
                let state = entry.event.state.as_ref()?;
                let version = entry.event.stamp.as_ref()?.version;
                let is_over = TripFacts::carried(state).is_over();
                Some(format!("{}, {}", trip(version, entry.sequence, state), ended(is_over)))
            });
            (asked.to_string(), known.unwrap_or_else(|| "not known".to_owned()))
        })
        .collect()
}

fn trip(version: u64, sequence: u64, state: &v1::TripState) -> String {
    let hash = fingerprint(&state.encode_to_vec());
    let hash = hash.get(..16).unwrap_or_default();
    format!("version {version} at {sequence}: {} {hash}", state.phase().as_str_name())
}

fn ended(has_ended: bool) -> &'static str {
    if has_ended { "ended" } else { "open" }
}

/// What every driver earned: of every completed ride the trip, the fare and the end.
pub(super) fn earnings(log: &Log) -> Shown {
    let mut rides: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (trip, entries) in &log.trips {
        let Some(state) = entries.last().and_then(|last| last.event.state.as_ref()) else {
            continue;
        };
        if state.phase() == TripPhase::Completed {
            let fare = state.fare.clone().unwrap_or_default();
            let ended_at = Timestamp::from_micros(state.ended_at_us);
            let line = ride(&trip.to_string(), fare.amount_minor, &fare.currency, ended_at);
            rides.entry(driver_id(&state.driver_id).to_string()).or_default().push(line);
        }
    }
    rides.into_iter().map(|(driver, lines)| (driver, joined(lines))).collect()
}

pub(super) fn ride(trip: &str, minor: i64, currency: &str, ended_at: Timestamp) -> String {
    format!("{trip} {minor} {currency} {ended_at}")
}

pub(super) fn joined(mut lines: Vec<String>) -> String {
    lines.sort();
    lines.join(", ")
}

/// What the watch over the invariants should have counted.
pub(super) fn invariants(log: &Log) -> Shown {
    let trips = log.trips.values().filter_map(|entries| entries.last()?.event.state.as_ref());
    let on_trips = trips.filter(|state| TripFacts::carried(state).on_board().is_some()).count();
    let drivers = log.drivers.values().filter_map(|entries| entries.last()?.event.state.as_ref());
    let engaged = drivers
        .filter(|state| matches!(DriverFacts::carried(state).bond, Bond::Engaged(..)))
        .count();
    let events = |count: usize| count.to_string();
    [
        ("broken", "{}".to_owned()),
        ("trip events", events(log.trips.values().map(Vec::len).sum())),
        ("driver events", events(log.drivers.values().map(Vec::len).sum())),
        ("drivers on trips", on_trips.to_string()),
        ("drivers engaged", engaged.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// What every driver does, as far as dispatch cares.
pub(super) fn activities(log: &Log) -> Shown {
    let last = log.drivers.iter().filter_map(|(driver, entries)| {
        Some((driver, DriverFacts::carried(entries.last()?.event.state.as_ref()?)))
    });
    last.map(|(driver, facts)| {
        let activity = match (facts.duty, facts.bond) {
            (v1::Duty::Online | v1::Duty::Finishing, Bond::Engaged(..)) => 3,
            (v1::Duty::Online, Bond::Offered(..)) => 2,
            (v1::Duty::Online, Bond::Idle) => 1,
            _ => 0,
        };
        (driver.to_string(), super::ask::activity(activity))
    })
    .collect()
}
