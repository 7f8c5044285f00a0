//! Trips that ended long ago leave the log for an archive of files: first written and synced, then
//! removed, and only what everybody has read. Any number of replicas may do it at the same time.

mod member;
mod read;
mod segment;

use std::{path::PathBuf, time::Duration};

use async_nats::jetstream::stream::DirectGetErrorKind;
use common::{
    clock::Timestamp,
    decider::Recorder as _,
    id::TripId,
    log::Stored,
    metrics,
    nats::Nats,
    scan::{Scan, ScanSpec},
    stream, subject,
    trim::{self, Past},
    view::Start,
};
use tokio_util::sync::CancellationToken;

pub use self::read::{ArchiveError, Contents, Member, contents, merged};
use self::segment::Writer;
use crate::record::TripDecider;

/// How often ended trips are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);
/// Trips that are written with one sync. Their histories are in memory meanwhile.
const BATCH: usize = 256;
/// Trips that one look finds at most; the next one follows at once.
const FOUND_MAX: usize = 10_000;
/// More events than any one trip can have: offers are limited, and so are tries and ratings.
const EVENTS_MAX: usize = 1_024;
const DAYS: u64 = 24 * 60 * 60;
/// The default, and the least.
const AFTER_DAYS: u64 = stream::FACTS_KEPT_MIN.as_secs() / DAYS;

/// Whether and when ended trips leave the log.
#[derive(Debug, Clone, clap::Args)]
pub struct ArchiveConfig {
    /// Where histories of ended trips are written before they are removed from the log. Without it
    /// none is ever removed.
    #[arg(long, env = "ARCHIVE_DIR")]
    pub archive_dir: Option<PathBuf>,
    /// How many days after its end a trip leaves the log.
    #[arg(
        long,
        env = "ARCHIVE_AFTER_DAYS",
        default_value_t = AFTER_DAYS,
        value_parser = clap::value_parser!(u64).range(AFTER_DAYS..)
    )]
    pub archive_after_days: u64,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self { archive_dir: None, archive_after_days: AFTER_DAYS }
    }
}

/// Archives until shutdown, where it is told where to.
///
/// # Errors
/// Never: what fails is done the next time. The signature lets it stand in a `try_join!`.
pub(crate) async fn run(
    nats: &Nats,
    config: ArchiveConfig,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Some(dir) = config.archive_dir else {
        tracing::info!("ARCHIVE_DIR is not set: trips that ended stay in the log for ever");
        return Ok(());
    };
    let after = Duration::from_secs(config.archive_after_days.saturating_mul(DAYS));
    let mut archiver = Archiver::new(nats, dir, after);
    let mut every = tokio::time::interval(LOOK_EVERY);
    while shutdown.run_until_cancelled(every.tick()).await.is_some() {
        let archived = shutdown.run_until_cancelled(Box::pin(archiver.archive())).await;
        match archived {
            None => break,
            Some(Ok(0)) => {}
            Some(Ok(trips)) => tracing::info!(trips, "{trips} trips left the log for the archive"),
            Some(Err(err)) => tracing::warn!(error = format!("{err:#}"), "not archived"),
        }
    }
    Ok(())
}

/// Moves trips from the log to the archive.
#[derive(Debug)]
pub struct Archiver {
    nats: Nats,
    after: Duration,
    /// Not there while it writes, and after a failure that it did not survive.
    writer: Option<Writer>,
    dir: PathBuf,
}

/// A trip's events as they are in the log.
#[derive(Debug, Clone)]
pub struct History {
    trip: TripId,
    events: Vec<Stored>,
}

/// Histories that are in the archive, and on its disk. Only these may be removed from the log.
#[derive(Debug)]
pub struct Synced(Vec<Place>);

/// Where a history was in the log.
#[derive(Debug)]
struct Place {
    trip: TripId,
    last: u64,
}

impl Archiver {
    /// Into this directory, so long after their end. What is asked of a trip later than that is
    /// refused: see [`common::stream::FACTS_KEPT_MIN`] for how long it must be in the log.
    #[must_use]
    pub fn new(nats: &Nats, dir: PathBuf, after: Duration) -> Self {
        Self { nats: nats.clone(), after, writer: Some(Writer::new(dir.clone())), dir }
    }

    /// Archives whatever has ended long enough ago, and says how many trips.
    ///
    /// # Errors
    /// When the broker or the disk fails. What was not done is done the next time.
    pub async fn archive(&mut self) -> anyhow::Result<usize> {
        let mut archived = 0;
        loop {
            let past = self.past().await?;
            let found = self.find(past).await?;
            for trips in found.chunks(BATCH) {
                let synced = self.write(self.read(trips).await?).await?;
                archived += synced.0.len();
                self.remove(past, &synced).await?;
            }
            if found.len() < FOUND_MAX {
                // What old timers fired: whoever was to hear of it has.
                let due = format!("{}.>", subject::TRIP.due);
                trim::remove(&self.nats, stream::TRIP, &due, past.end).await?;
                return Ok(archived);
            }
        }
    }

    /// The part of the log that may be archived.
    ///
    /// # Errors
    /// When the broker cannot be asked.
    pub async fn past(&self) -> anyhow::Result<Past> {
        let age_us = i64::try_from(self.after.as_micros()).unwrap_or(i64::MAX);
        let until = self.nats.clock.now().micros().saturating_sub(age_us);
        trim::past(&self.nats, stream::TRIP, Timestamp::from_micros(until)).await
    }

    /// Trips of this replica's partitions to which nothing can happen any more, and all of whose
    /// events are past.
    ///
    /// # Errors
    /// When the broker cannot be asked.
    pub async fn find(&self, past: Past) -> anyhow::Result<Vec<TripId>> {
        let (share, partitions) = (self.nats.consuming.share, self.nats.partitions);
        let filters = vec![subject::TRIP.events()];
        let spec =
            ScanSpec { stream: stream::TRIP, filters, start: Start::After(0), headers_only: false };
        let (now, mut found) = (self.nats.clock.now(), Vec::new());
        let mut scan = Scan::open(&self.nats, spec).await?;
        while let Some(stored) = scan.next().await?.filter(|stored| stored.sequence < past.end) {
            let (Ok(key), Ok(recorded)) = (stored.key(), TripDecider::decode(&stored.payload))
            else {
                // It stays, for people to look at.
                continue;
            };
            let is_settled = recorded.state.settled_at().is_some_and(|at| at <= now);
            if is_settled && share.is_own(partitions.of(&key.to_string())) {
                found.push(TripId(key));
            }
            if found.len() == FOUND_MAX {
                break;
            }
        }
        // An ending, and ratings: a trip is found more than once.
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The whole histories of these trips.
    ///
    /// # Errors
    /// When the broker cannot be asked.
    pub async fn read(&self, trips: &[TripId]) -> anyhow::Result<Vec<History>> {
        let mut histories = Vec::with_capacity(trips.len());
        for trip in trips {
            let events = self.events(*trip).await?;
            // Another replica was faster.
            if !events.is_empty() {
                histories.push(History { trip: *trip, events });
            }
        }
        Ok(histories)
    }

    async fn events(&self, trip: TripId) -> anyhow::Result<Vec<Stored>> {
        let stream = self.nats.admin.get_stream_no_info(stream::TRIP).await?;
        let subject = self.nats.partitions.trip_event(trip);
        let (mut events, mut from) = (Vec::new(), 1);
        while events.len() < EVENTS_MAX {
            let message = match stream.direct_get_next_for_subject(&subject, Some(from)).await {
                Ok(message) => message,
                Err(err) if err.kind() == DirectGetErrorKind::NotFound => break,
                Err(err) => return Err(err.into()),
            };
            from = message.sequence + 1;
            events.push(Stored {
                subject: message.subject.to_string(),
                sequence: message.sequence,
                published: message.time.into(),
                headers: message.headers,
                payload: message.payload,
            });
        }
        Ok(events)
    }

    /// Writes histories to the archive. When it returns, the disk has them.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub async fn write(&mut self, histories: Vec<History>) -> anyhow::Result<Synced> {
        let mut places = Vec::with_capacity(histories.len());
        for history in &histories {
            let last = history.events.last().map_or(0, |event| event.sequence);
            places.push(Place { trip: history.trip, last });
        }
        if places.is_empty() {
            return Ok(Synced(places));
        }
        let day: String = self.nats.clock.now().to_string().chars().take(10).collect();
        let mut writer = self.writer.take().unwrap_or_else(|| Writer::new(self.dir.clone()));
        let written = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            for History { trip, events } in &histories {
                bytes.extend(member::pack(*trip, events)?);
            }
            writer.append(&day, &bytes)?;
            Ok::<_, std::io::Error>(writer)
        });
        self.writer = Some(written.await??);
        let count = u64::try_from(places.len()).unwrap_or(u64::MAX);
        metrics::ARCHIVED.with(&[("aggregate", TripDecider::SOURCE)]).increment(count);
        Ok(Synced(places))
    }

    /// Removes what is archived from the log. What was stored since stays.
    ///
    /// # Errors
    /// When the broker does not confirm it. The trip is then found, and archived, again.
    pub async fn remove(&self, past: Past, synced: &Synced) -> anyhow::Result<()> {
        let partitions = self.nats.partitions;
        for Place { trip, last } in &synced.0 {
            // The events go last: as long as they are there the trip is found again.
            let timers = subject::TRIP.schedules(partitions, trip.0);
            trim::remove(&self.nats, stream::TRIP, &timers, past.end).await?;
            let events = partitions.trip_event(*trip);
            trim::remove(&self.nats, stream::TRIP, &events, last + 1).await?;
        }
        Ok(())
    }
}
