//! The log as the audit sees it: every event of trips, drivers and riders from the first one on,
//! decoded by the contract alone. Nothing of the services' own reading is used.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context as _;
use common::{
    clock::{Hlc, Timestamp},
    contract::{Malformed, decode, v1},
    id::{DriverId, OfferId, RiderId, TripId},
    nats::Nats,
    stream,
    view::{self, CaughtUp, Start, Stored, ViewSpec},
};
use prost::Message;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How many commands a stamp remembers: part of the contract.
const RECENT_MAX: usize = 32;
/// A log that cannot be read within this is no evidence.
const READ_MAX: Duration = Duration::from_secs(120);

/// One event, and what the broker and its envelope say of it.
#[derive(Debug, Clone)]
pub struct Entry<E> {
    /// Its place in the stream: a total order over all histories in it.
    pub sequence: u64,
    /// Where it was published.
    pub subject: String,
    /// `ce-type`.
    pub kind: String,
    /// `ce-id`.
    pub id: Uuid,
    /// `ce-source`: who wrote it.
    pub source: String,
    /// `ce-time`: broker time of the decision.
    pub at: Timestamp,
    /// `ce-causationid`: what caused it.
    pub cause: Option<Uuid>,
    /// `ce-hlc`: when, as causes order it.
    pub hlc: Hlc,
    /// The aggregate that the envelope names.
    pub of: Uuid,
    /// The command that made it and what it remembers of earlier ones; a rider's event has neither.
    pub memory: Memory,
    /// What happened.
    pub event: E,
}

/// What an event's stamp remembers of commands. The list itself is most of a message, so only what it
/// says is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// The command that made the event, folded.
    pub command: u64,
    /// Whether it names the last 32 commands of its history, itself the last, with their versions.
    pub is_whole: bool,
}

/// A message that is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// In which stream.
    pub stream: String,
    /// At which place.
    pub sequence: u64,
    /// Why.
    pub why: String,
}

/// All that was stored.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// Trips' histories.
    pub trips: BTreeMap<TripId, Vec<Entry<v1::TripEvent>>>,
    /// Drivers' histories.
    pub drivers: BTreeMap<DriverId, Vec<Entry<v1::DriverEvent>>>,
    /// What riders asked and paid.
    pub riders: Vec<Entry<v1::RiderEvent>>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
    /// What was made to be unreadable, and is not an event: stream and sequence.
    pub(super) ignored: BTreeSet<(String, u64)>,
    /// How far each stream was read.
    positions: BTreeMap<&'static str, u64>,
}

/// An id in a message; a wrong one is the nil id, which belongs to nothing.
#[must_use]
pub(super) fn key(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).unwrap_or_default()
}

/// A trip's id in a message.
#[must_use]
pub(super) fn trip_id(bytes: &[u8]) -> TripId {
    TripId(key(bytes))
}

/// A driver's id in a message.
#[must_use]
pub(super) fn driver_id(bytes: &[u8]) -> DriverId {
    DriverId(key(bytes))
}

/// An offer's id in a message.
#[must_use]
pub(super) fn offer_id(bytes: &[u8]) -> OfferId {
    OfferId(key(bytes))
}

/// A rider's id in a message.
#[must_use]
pub(super) fn rider_id(bytes: &[u8]) -> RiderId {
    RiderId(key(bytes))
}

impl Log {
    /// Reads everything that was stored since the last reading, and says how many events that were.
    ///
    /// # Errors
    /// When the broker cannot be read in time.
    pub async fn read(&mut self, nats: &Nats) -> anyhow::Result<usize> {
        let before = self.len();
        for (stream, filter) in [
            (stream::TRIP, "trip.event.>"),
            (stream::DRIVER, "driver.event.>"),
            (stream::RIDER, "rider.event.>"),
        ] {
            let after = self.positions.get(stream).copied().unwrap_or_default();
            let spec = ViewSpec { stream, filter: filter.to_owned(), start: Start::After(after) };
            let reading = Box::pin(read_all(nats, spec, |stored| self.take(stream, stored)));
            tokio::time::timeout(READ_MAX, reading)
                .await
                .with_context(|| format!("stream `{stream}` not read within {READ_MAX:?}"))??;
        }
        Ok(self.len() - before)
    }

    /// Takes in one stored message.
    pub fn take(&mut self, stream: &'static str, stored: Stored) {
        let sequence = stored.sequence;
        self.positions.insert(stream, sequence);
        if self.ignored.contains(&(stream.to_owned(), sequence)) {
            return;
        }
        let taken = match stream {
            stream::TRIP => self.take_trip(stored),
            stream::DRIVER => self.take_driver(stored),
            _ => self.take_rider(stored),
        };
        if let Err(err) = taken {
            let (stream, why) = (stream.to_owned(), err.to_string());
            self.unreadable.push(Unreadable { stream, sequence, why });
        }
    }

    fn take_trip(&mut self, stored: Stored) -> Result<(), Malformed> {
        let (of, mut entry) = entry::<v1::TripEvent>("trip event", stored)?;
        let history = self.trips.entry(TripId(of)).or_default();
        entry.memory = remembered(history, &mut entry.event.stamp);
        history.push(entry);
        Ok(())
    }

    fn take_driver(&mut self, stored: Stored) -> Result<(), Malformed> {
        let (of, mut entry) = entry::<v1::DriverEvent>("driver event", stored)?;
        let history = self.drivers.entry(DriverId(of)).or_default();
        entry.memory = remembered(history, &mut entry.event.stamp);
        history.push(entry);
        Ok(())
    }

    fn take_rider(&mut self, stored: Stored) -> Result<(), Malformed> {
        let (_, entry) = entry::<v1::RiderEvent>("rider event", stored)?;
        self.riders.push(entry);
        Ok(())
    }

    /// Every ride that was asked for, and the event that says so.
    pub fn requests(&self) -> impl Iterator<Item = (TripId, &Entry<v1::RiderEvent>)> {
        self.riders.iter().filter_map(|entry| match &entry.event.kind {
            Some(v1::rider_event::Kind::RideRequested(it)) => Some((trip_id(&it.trip_id), entry)),
            _ => None,
        })
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let trips: usize = self.trips.values().map(Vec::len).sum();
        let drivers: usize = self.drivers.values().map(Vec::len).sum();
        trips + drivers + self.riders.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Compares what a stamp remembers with the history before it, and forgets it.
fn remembered<E>(history: &[Entry<E>], stamp: &mut Option<v1::Stamp>) -> Memory {
    let Some(stamp) = stamp else { return Memory::default() };
    let recent = std::mem::take(&mut stamp.recent);
    let command = recent.last().map_or(0, |last| last.command);
    let known = history.iter().rev().map(|entry| entry.memory.command);
    let wanted = std::iter::once(command).chain(known).zip((1..=stamp.version).rev());
    let found = recent.iter().rev().map(|recent| (recent.command, recent.version));
    Memory { command, is_whole: wanted.take(RECENT_MAX).eq(found) }
}

fn entry<E: Message + Default>(
    what: &'static str,
    stored: Stored,
) -> Result<(Uuid, Entry<E>), Malformed> {
    let envelope = stored.envelope()?;
    // The subject decides whose history it is; the envelope must agree.
    let of: Uuid = stored
        .subject
        .rsplit('.')
        .next()
        .and_then(|key| key.parse().ok())
        .ok_or_else(|| Malformed::new("subject", &stored.subject))?;
    let event = decode(what, &stored.payload)?;
    Ok((
        of,
        Entry {
            sequence: stored.sequence,
            subject: stored.subject,
            kind: envelope.kind,
            id: envelope.id.0,
            source: envelope.source,
            at: envelope.time,
            cause: envelope.causation,
            hlc: envelope.hlc,
            of: envelope.subject,
            memory: Memory::default(),
            event,
        },
    ))
}

pub(super) async fn read_all(
    nats: &Nats,
    spec: ViewSpec,
    mut take: impl FnMut(Stored),
) -> anyhow::Result<()> {
    let (caught_up, done) = (CaughtUp::default(), CancellationToken::new());
    let follow = view::follow(nats, spec, &caught_up, done.clone(), |stored| {
        take(stored);
        std::future::ready(Ok(()))
    });
    let stop = async {
        caught_up.wait().await;
        done.cancel();
        Ok::<_, anyhow::Error>(())
    };
    tokio::try_join!(follow, stop)?;
    Ok(())
}
