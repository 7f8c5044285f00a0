//! The outbox and the log, both ways: every row is one event, every event was a row, and a rider's
//! events are in the order of their rows.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use common::{contract::v1, id::RiderId};
use uuid::Uuid;

use super::count;
use crate::audit::{
    books::OutboxRow,
    evidence::Evidence,
    log::Entry,
    timeline::rider_trip,
    violation::{BookViolation, Violation},
};

/// Rows that the broker has are kept this long at least.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

pub(super) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let Some(books) = &evidence.books else { return 0 };
    let riders = &evidence.log.riders;
    let events: HashMap<Uuid, &Entry<v1::RiderEvent>> =
        riders.iter().map(|entry| (entry.id, entry)).collect();
    let mut after: BTreeMap<RiderId, u64> = BTreeMap::new();
    for row in &books.outbox {
        let Some(entry) = events.get(&row.event) else {
            let (row, event, kind) = (row.row, row.event, row.kind.clone());
            found.push(BookViolation::RowWithoutEvent { row, event, kind }.into());
            continue;
        };
        compare(row, entry, found);
        let after = after.entry(row.rider).or_default();
        if entry.sequence <= *after {
            let (rider, sequence, after) = (row.rider.0, entry.sequence, *after);
            let row = row.row;
            found.push(BookViolation::RowsOutOfOrder { rider, row, sequence, after }.into());
        }
        *after = entry.sequence;
    }
    let rows: HashSet<Uuid> = books.outbox.iter().map(|row| row.event).collect();
    let is_kept = |entry: &&Entry<v1::RiderEvent>| {
        let is_old = evidence.read_at.is_some_and(|now| now.since(entry.at) >= KEPT_FOR);
        let is_earlier =
            rider_trip(&entry.event).is_some_and(|trip| evidence.earlier.contains(&trip));
        !is_old && !is_earlier
    };
    for entry in riders.iter().filter(is_kept).filter(|entry| !rows.contains(&entry.id)) {
        let (sequence, event, kind) = (entry.sequence, entry.id, entry.kind.clone());
        found.push(BookViolation::EventWithoutRow { sequence, event, kind }.into());
    }
    count(books.outbox.len() + riders.len())
}

fn compare(row: &OutboxRow, entry: &Entry<v1::RiderEvent>, found: &mut Vec<Violation>) {
    let fields = [
        ("kind", row.kind == entry.kind),
        ("rider", row.rider.0 == entry.of),
        ("content", row.says == entry.event),
        ("sequence", row.published == Some(entry.sequence)),
    ];
    for (field, is_same) in fields {
        if !is_same {
            let (event, sequence, field) = (row.event, entry.sequence, field.to_owned());
            let row = row.row;
            found.push(BookViolation::RowDiffers { row, sequence, event, field }.into());
        }
    }
}
