//! Every 2xx that a phone received is a fact in the log: the event that it promises is there, and
//! the version and status that it told are what the log has at that version.

use std::collections::{BTreeMap, HashMap};

use common::{
    contract::v1::{self, TripPhase},
    id::{DriverId, OfferId, TripId},
};
use serde_json::Value;

use super::count;
use crate::{
    audit::{
        evidence::Evidence,
        facts::{Bond, DriverFacts, pair_of},
        log::{Entry, Log, driver_id, offer_id, rider_id, trip_id},
        violation::{BookViolation, Violation},
    },
    journal::Promise,
};

pub(super) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let facts = Facts::new(&evidence.log);
    for promise in &evidence.promises {
        let (trip, missing) = facts.missing(promise);
        found.extend(missing.into_iter().map(|missing| Violation::PromiseLost {
            request: format!("{} {}", promise.method, promise.path),
            status: promise.status,
            phone: format!("{} {}", promise.role, promise.id),
            trip,
            missing,
        }));
    }
    count(evidence.promises.len())
}

/// One key makes one trip, however often it is sent, and is answered in one way.
pub(super) fn keys(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let mut made: HashMap<(uuid::Uuid, &str), TripId> = HashMap::new();
    let mut answered: HashMap<(uuid::Uuid, &str), &Promise> = HashMap::new();
    for promise in evidence.promises.iter().filter(|promise| promise.path == "/v1/trips") {
        let place = (promise.id, promise.key.as_str());
        let before = *answered.entry(place).or_insert(promise);
        if (before.status, &before.body) != (promise.status, &promise.body) {
            let told = |it: &Promise| format!("{} {}", it.status, it.body);
            found.push(
                BookViolation::KeyAnsweredTwice {
                    key: promise.key.clone(),
                    rider: promise.id,
                    first: told(before),
                    second: told(promise),
                }
                .into(),
            );
        }
        let Some(second) = id::<TripId>(&promise.response, "trip_id") else { continue };
        let first = *made.entry((promise.id, &promise.key)).or_insert(second);
        if first != second {
            let (key, rider) = (promise.key.clone(), promise.id.to_string());
            found.push(Violation::KeyMadeTwo { key, rider, first, second });
        }
    }
    count(answered.len())
}

/// The log, arranged for looking things up.
struct Facts<'a> {
    log: &'a Log,
    /// Who asked for which trip.
    asked: BTreeMap<TripId, uuid::Uuid>,
}

type Missing = (Option<TripId>, Vec<String>);

impl<'a> Facts<'a> {
    fn new(log: &'a Log) -> Self {
        let asked = log.riders.iter().filter_map(|entry| match &entry.event.kind {
            Some(v1::rider_event::Kind::RideRequested(requested)) => {
                Some((trip_id(&requested.trip_id), rider_id(&requested.rider_id).0))
            }
            _ => None,
        });
        Self { log, asked: asked.collect() }
    }

    /// What a promise says and the log does not.
    fn missing(&self, promise: &Promise) -> Missing {
        let path: Vec<&str> = promise.path.trim_start_matches("/v1/").split('/').collect();
        let (mut trip, mut missing) = match path.as_slice() {
            ["trips"] => self.missing_request(promise),
            ["trips", id, step] | ["driver", "trips", id, step] => {
                self.missing_step(promise, id.parse().ok(), step)
            }
            ["driver", "offers", id, answer] => match id.parse() {
                Ok(offer) => self.missing_answer(promise, offer, answer),
                Err(_) => (None, vec!["its offer has no id".to_owned()]),
            },
            _ => (None, Vec::new()),
        };
        for told in told_trips(&promise.response) {
            trip = trip.or(Some(told.trip));
            missing.extend(self.contradicts(&told));
        }
        missing.extend(self.contradicts_driver(promise));
        (trip, missing)
    }

    fn missing_request(&self, promise: &Promise) -> Missing {
        let Some(trip) = id::<TripId>(&promise.response, "trip_id") else {
            return (None, vec!["the answer names no trip".to_owned()]);
        };
        let missing = match self.asked.get(&trip) {
            None => Some("the log has no such request".to_owned()),
            Some(rider) if *rider != promise.id => {
                Some(format!("the log has it from rider `{rider}`"))
            }
            Some(_) => None,
        };
        (Some(trip), missing.into_iter().collect())
    }

    fn missing_step(&self, promise: &Promise, trip: Option<TripId>, step: &str) -> Missing {
        use v1::trip_event::Kind;
        let by_driver = promise.role == "driver";
        let me = DriverId(promise.id);
        let is_it = |kind: &Kind| match (kind, step) {
            (Kind::Cancelled(_), "cancel" | "no-show") => true,
            (Kind::Unassigned(event), "cancel") => by_driver && driver_id(&event.driver_id) == me,
            (Kind::Rated(event), "rating") => event.by() == rating_party(by_driver),
            (Kind::Arrived(_), "arrive")
            | (Kind::Started(_), "start")
            | (Kind::Completed(_), "complete") => true,
            _ => false,
        };
        let entries = trip.and_then(|trip| self.log.trips.get(&trip));
        let is_there = entries.is_some_and(|entries| {
            entries.iter().filter_map(|entry| entry.event.kind.as_ref()).any(is_it)
        });
        let missing = (!is_there).then(|| format!("the trip's history has no `{step}`"));
        (trip, missing.into_iter().collect())
    }

    fn missing_answer(&self, promise: &Promise, offer: OfferId, answer: &str) -> Missing {
        use v1::driver_event::Kind;
        let history = self.log.drivers.get(&DriverId(promise.id)).map_or(&[][..], Vec::as_slice);
        let about = history.iter().filter_map(|entry| {
            pair_of(&entry.event).filter(|(_, of)| *of == offer).map(|(trip, _)| (trip, entry))
        });
        let (mut trip, mut accepted, mut ended) = (None, false, false);
        for (of, entry) in about {
            trip = Some(of);
            accepted |= matches!(entry.event.kind, Some(Kind::OfferAccepted(_)));
            ended |= entry.event.ended_offer.is_some()
                || matches!(entry.event.kind, Some(Kind::Released(_)));
        }
        let missing = match answer {
            "accept" if !accepted => Some("the driver's history has no acceptance"),
            "accept" if promise.status == 200 && !self.was_assigned(trip, offer) => {
                Some("the trip was never assigned by that offer")
            }
            "decline" if !ended => Some("the offer has no end in the driver's history"),
            _ => None,
        };
        (trip, missing.map(str::to_owned).into_iter().collect())
    }

    fn was_assigned(&self, trip: Option<TripId>, offer: OfferId) -> bool {
        use v1::trip_event::Kind;
        let entries = trip.and_then(|trip| self.log.trips.get(&trip));
        entries.is_some_and(|entries| {
            entries.iter().any(|entry| {
                matches!(&entry.event.kind, Some(Kind::Assigned(by)) if offer_id(&by.offer_id) == offer)
            })
        })
    }

    /// What the log says otherwise of a trip at the version that a phone was told.
    fn contradicts(&self, told: &ToldTrip) -> Option<String> {
        let version = told.version;
        let Some(state) = at_version(self.log.trips.get(&told.trip)?, version, |e| {
            (e.event.stamp.as_ref(), e.event.state.as_ref())
        }) else {
            return Some(format!("the trip's history has no version {version}"));
        };
        let stored = status(state.phase());
        (stored != told.status)
            .then(|| format!("at version {version} the trip is {stored}, not {}", told.status))
    }

    fn contradicts_driver(&self, promise: &Promise) -> Option<String> {
        let view = &promise.response;
        let driver: DriverId = id(view, "driver_id")?;
        let duty = view.get("duty")?.as_str()?;
        let version = view.get("version")?.as_u64().filter(|version| *version > 0)?;
        let entries = self.log.drivers.get(&driver).map_or(&[][..], Vec::as_slice);
        let Some(state) =
            at_version(entries, version, |e| (e.event.stamp.as_ref(), e.event.state.as_ref()))
        else {
            return Some(format!("the driver's history has no version {version}"));
        };
        let facts = DriverFacts::carried(state);
        let stored = (duty_name(facts.duty), engagement_name(facts.bond));
        let told = (duty, view.get("engagement").and_then(Value::as_str).unwrap_or(stored.1));
        (stored != told)
            .then(|| format!("at version {version} the driver is {stored:?}, not {told:?}"))
    }
}

fn at_version<E, S>(
    entries: &[Entry<E>],
    version: u64,
    parts: impl Fn(&Entry<E>) -> (Option<&v1::Stamp>, Option<&S>),
) -> Option<&S> {
    // Versions count from 1 without a gap; where they do not, that is a violation of its own.
    let at = usize::try_from(version.checked_sub(1)?).ok()?;
    let (stamp, state) = parts(entries.get(at)?);
    state.filter(|_| stamp.is_some_and(|stamp| stamp.version == version))
}

/// What a phone was told of a trip.
struct ToldTrip {
    trip: TripId,
    version: u64,
    status: String,
}

/// The trips in an answer: the answer itself, or the trip of a driver's view.
fn told_trips(answer: &Value) -> Vec<ToldTrip> {
    let told = |value: &Value| {
        let status = value.get("status")?.as_str()?;
        Some(ToldTrip {
            trip: id(value, "trip_id")?,
            // Version 0 is a request that still waits in the outbox; `confirming` is the driver's
            // own acceptance, of which the trip knows nothing yet.
            version: value.get("version")?.as_u64().filter(|version| *version > 0)?,
            status: (status != "confirming").then(|| status.to_owned())?,
        })
    };
    [Some(answer), answer.get("trip")].into_iter().flatten().filter_map(told).collect()
}

fn id<T: From<uuid::Uuid>>(value: &Value, field: &str) -> Option<T> {
    value.get(field)?.as_str()?.parse().ok().map(|id: uuid::Uuid| T::from(id))
}

fn rating_party(by_driver: bool) -> v1::Party {
    if by_driver { v1::Party::Driver } else { v1::Party::Rider }
}

fn status(phase: TripPhase) -> &'static str {
    match phase {
        TripPhase::Unspecified => "unknown",
        TripPhase::Matching => "matching",
        TripPhase::Assigned => "assigned",
        TripPhase::Arrived => "arrived",
        TripPhase::InProgress => "in_progress",
        TripPhase::Completed => "completed",
        TripPhase::Cancelled => "cancelled",
        TripPhase::Unfulfilled => "unfulfilled",
    }
}

fn duty_name(duty: v1::Duty) -> &'static str {
    match duty {
        v1::Duty::Unspecified | v1::Duty::Offline => "offline",
        v1::Duty::Online => "online",
        v1::Duty::Finishing => "finishing",
    }
}

fn engagement_name(bond: Bond) -> &'static str {
    match bond {
        Bond::Idle => "idle",
        Bond::Offered(..) => "offered",
        Bond::Engaged(..) => "engaged",
    }
}
