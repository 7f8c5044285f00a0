//! What is wrong after a run: the audit that also judges the city, and what only an outsider with the
//! whole log and a perfect clock can tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use common::{
    clock::Timestamp,
    contract::v1,
    envelope::Envelope,
    id::{CommandId, EventId, RiderId, TripId},
    log::Stored,
    stream::{self, CONSUMERS, ConsumerSpec, DRIVER, RIDER, TRIP},
    subject::Partitions,
};
use prost::Message as _;
use rider::store::{StoreError, outbox};
use serde::Serialize;
use uuid::Uuid;

use super::{jetstream::Message, system::World};
use crate::audit::{Books, Entry, Evidence, Log, Verdict};

/// How far a process's idea of broker time may be off: half a slow round trip.
const CLOCKS_DIFFER: Duration = Duration::from_secs(4);

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What.
    pub what: String,
    /// The trip whose story shows it.
    pub trip: Option<TripId>,
}

impl Finding {
    fn new(trip: Option<TripId>, what: impl Into<String>) -> Self {
        Self { what: what.into(), trip }
    }
}

/// Everything that was stored.
#[must_use]
pub(super) fn log(world: &Arc<World>) -> Log {
    let mut log = Log::default();
    let filters = [(TRIP, "trip.event.>"), (DRIVER, "driver.event.>"), (RIDER, "rider.event.>")];
    for (stream, filter) in filters {
        for message in all(world, stream, filter) {
            log.take(stream, stored(&message));
        }
    }
    log
}

fn all(world: &Arc<World>, stream: &'static str, filter: &str) -> Vec<Arc<Message>> {
    world.with_broker(|broker| {
        let (mut found, mut from) = (Vec::new(), 1);
        while let Ok(Some(next)) = broker.next(stream, filter, from) {
            from = next.sequence + 1;
            found.push(next);
        }
        found
    })
}

fn stored(message: &Message) -> Stored {
    Stored {
        subject: message.subject.clone(),
        sequence: message.sequence,
        published: message.published,
        headers: message.headers.clone(),
        payload: message.payload.clone(),
    }
}

/// What is still on its way, if anything is.
#[must_use]
pub(super) fn unsettled(world: &Arc<World>) -> Option<String> {
    let partitions = Partitions::new(world.options.partitions).unwrap_or_default();
    // Nobody reads pings here.
    let is_read = |spec: &&ConsumerSpec| spec.stream != stream::PINGS;
    for spec in CONSUMERS.iter().filter(is_read) {
        for partition in spec.partitions(partitions) {
            let durable = spec.durable(partition);
            let config = spec.config(partition);
            let is_done = world.with_broker(|broker| {
                let state = broker.consumer_state(spec.stream, &durable).ok()?;
                let after = state.delivered.stream + 1;
                let mut unread = config
                    .filter_subjects
                    .iter()
                    .filter_map(|filter| broker.next(spec.stream, filter, after).ok().flatten());
                Some(state.ack_pending == 0 && unread.next().is_none())
            });
            if is_done != Some(true) {
                return Some(format!("`{durable}` has messages to handle"));
            }
        }
    }
    if world.is_somebody_silent() {
        return Some("a phone is silent".to_owned());
    }
    open_trip(world).or_else(|| bound_driver(world)).or_else(|| waiting_rows(world))
}

fn open_trip(world: &Arc<World>) -> Option<String> {
    let last = world.with_broker(|broker| broker.last_per_subject(TRIP, "trip.event.>")).ok()?;
    last.iter().find_map(|message| {
        let event: v1::TripEvent = common::contract::decode("trip event", &message.payload).ok()?;
        let phase = event.state?.phase();
        (!phase.is_end()).then(|| format!("`{}` is still {}", message.subject, phase.as_str_name()))
    })
}

fn bound_driver(world: &Arc<World>) -> Option<String> {
    let last =
        world.with_broker(|broker| broker.last_per_subject(DRIVER, "driver.event.>")).ok()?;
    last.iter().find_map(|message| {
        use v1::engagement::Kind;
        let event: v1::DriverEvent =
            common::contract::decode("driver event", &message.payload).ok()?;
        let kind = event.state?.engagement?.kind?;
        let is_bound = matches!(kind, Kind::Offered(_) | Kind::Engaged(_));
        is_bound.then(|| format!("`{}` is still bound: {kind:?}", message.subject))
    })
}

fn waiting_rows(world: &Arc<World>) -> Option<String> {
    use futures_util::FutureExt as _;
    let counted = world.store.read::<_, StoreError, _>(|tx| {
        let charges = tx.number("SELECT COUNT(*) FROM charge WHERE settled_at_us IS NULL", &[])?;
        Ok((outbox::count_waiting(tx)?, charges))
    });
    match counted.now_or_never()?.ok()? {
        (0, 0) => None,
        (rows, charges) => Some(format!("{rows} events in the outbox, {charges} charges pending")),
    }
}

/// All that is wrong.
pub(super) async fn find(world: &Arc<World>, log: &Log, unsettled: Option<String>) -> Vec<Finding> {
    let unsettled = unsettled
        .map(|what| Finding::new(None, format!("not settled long after the last fault: {what}")));
    let mut found = Vec::new();
    let (promises, wishes, wrong) = world.with_witness(|witness| {
        (witness.promises.clone(), witness.wishes.clone(), witness.wrong.clone())
    });
    found.extend(wrong.into_iter().map(|what| Finding::new(None, what)));
    check_wishes(log, &wishes, &mut found);
    check_event_ids(log, &mut found);
    check_timers(world, &mut found);
    let evidence = Evidence {
        log: log.clone(),
        promises,
        read_at: Some(world.sim.now()),
        books: world.store.read(Books::all).await.ok(),
        provider: Some(world.with_book(|book| book.charges().to_vec())),
        ..Evidence::default()
    };
    let violations = Verdict::of(&evidence).violations;
    found.extend(violations.iter().map(|it| Finding::new(it.trip(), it.to_string())));
    found.extend(unsettled);
    let mut seen = BTreeSet::new();
    found.retain(|finding| seen.insert(finding.clone()));
    found
}

/// Nobody gets more rides than they wanted, however often they had to ask.
fn check_wishes(log: &Log, wishes: &BTreeMap<RiderId, u64>, found: &mut Vec<Finding>) {
    let mut asked: BTreeMap<RiderId, BTreeSet<Uuid>> = BTreeMap::new();
    for entry in &log.riders {
        if let Some(v1::rider_event::Kind::RideRequested(ride)) = &entry.event.kind
            && let (Ok(rider), Ok(trip)) = (
                RiderId::try_from(ride.rider_id.as_slice()),
                TripId::try_from(ride.trip_id.as_slice()),
            )
        {
            asked.entry(rider).or_default().insert(trip.0);
        }
    }
    for (rider, trips) in asked {
        let wanted = wishes.get(&rider).copied().unwrap_or(0);
        let got = u64::try_from(trips.len()).unwrap_or(u64::MAX);
        if got > wanted {
            let what = format!("rider `{rider}` wanted {wanted} rides, {got} were requested");
            found.push(Finding::new(None, what));
        }
    }
}

/// An event's id is its command's in this history: one that is there twice was carried out twice.
fn check_event_ids(log: &Log, found: &mut Vec<Finding>) {
    let mut twice = |trip: Option<TripId>, of: String, ids: Vec<(Uuid, String)>| {
        let mut seen = BTreeSet::new();
        for (id, kind) in ids {
            if !seen.insert(id) {
                let what = format!("{of}: one command made two events (`{kind}`, id `{id}`)");
                found.push(Finding::new(trip, what));
            }
        }
    };
    fn ids<E>(entries: &[Entry<E>]) -> Vec<(Uuid, String)> {
        entries.iter().map(|entry| (entry.id, entry.kind.clone())).collect()
    }
    for (trip, entries) in &log.trips {
        twice(Some(*trip), format!("trip `{trip}`"), ids(entries));
    }
    for (driver, entries) in &log.drivers {
        twice(None, format!("driver `{driver}`"), ids(entries));
    }
}

/// No timer has an effect before its time: judged by the broker's own clock.
fn check_timers(world: &Arc<World>, found: &mut Vec<Finding>) {
    for (stream, filter) in [(TRIP, "trip.event.>"), (DRIVER, "driver.event.>")] {
        let mut running: BTreeMap<String, Vec<v1::Timer>> = BTreeMap::new();
        for message in all(world, stream, filter) {
            let (Ok(envelope), Ok(event)) = (
                Envelope::from_headers(&message.headers),
                Stamped::decode(message.payload.as_ref()),
            ) else {
                continue;
            };
            let timers = event.stamp.unwrap_or_default().timers;
            let before = running.insert(message.subject.clone(), timers).unwrap_or_default();
            let Some(timer) = before.iter().find(|timer| makes(&envelope, timer)) else { continue };
            let early = Timestamp::from_micros(timer.due_us).since(message.published);
            if early > CLOCKS_DIFFER {
                let trip = (stream == TRIP).then_some(TripId(envelope.subject));
                let (kind, by) = (&envelope.kind, early.as_secs());
                found.push(Finding::new(trip, format!("`{kind}` by its timer, {by} s early")));
            }
        }
    }
}

/// Only the stamp of an event is of interest here; trips' and drivers' have it in the same place.
#[derive(Clone, PartialEq, prost::Message)]
struct Stamped {
    #[prost(message, optional, tag = "1")]
    stamp: Option<v1::Stamp>,
}

/// Whether an event is what this timer makes: its id is derived from the timer's.
fn makes(event: &Envelope, timer: &v1::Timer) -> bool {
    let command = EventId::try_from(timer.id.as_slice()).map(|id| CommandId::step(id, "due"));
    command.is_ok_and(|command| EventId::derived(event.subject, command) == event.id)
}
