//! What the parts of the service share: the index, the roads, and for each partition what was read
//! of it and up to when.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use common::{
    clock::Timestamp,
    contract::Malformed,
    id::DriverId,
    ping::{self, PingBatch},
    subject::Partitions,
};
use tokio::sync::watch;

use crate::{
    domain::{
        Counts,
        frames::FrameId,
        liveness::{Liveness, Patience},
        session::{Rules, Track},
        surge::{Demand, Surge},
    },
    index::{DriverIndex as _, Fix, Index, Sighting},
    roads::RoadGraph,
    tally::Tally,
};

/// A partition that this process reads, or of which nothing comes, is never so far behind.
const BEHIND: Duration = Duration::from_secs(3);
/// A heading in degrees as a byte: 256 to the circle.
const HEADINGS: u32 = 256;
const CIRCLE_DEG: u32 = 360;

/// The city as `location` knows it.
#[derive(Debug)]
pub(crate) struct City {
    pub(crate) index: Index,
    pub(crate) roads: RoadGraph,
    pub(crate) patience: Patience,
    pub(crate) partitions: Partitions,
    rules: Rules,
    lanes: Vec<Lane>,
    is_replayed: watch::Sender<bool>,
    is_answering: AtomicBool,
    demand: Mutex<Demand>,
    surge: Mutex<Surge>,
}

/// One partition. Its frames are read by one task at a time.
#[derive(Debug, Default)]
struct Lane {
    reading: Mutex<Reading>,
    /// Broker time up to which everything was read, microseconds.
    watermark_us: AtomicI64,
}

/// What was read of a partition.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    tracks: HashMap<DriverId, Track>,
    pub(crate) tally: Tally,
    /// The newest frame that was read, counted or not.
    newest: FrameId,
    /// The checkpoint that this process knows: its sequence in the stream `LOCATION`.
    pub(crate) checkpoint: u64,
    /// Which delivery comes next if nobody else gets one.
    pub(crate) next_delivery: Option<u64>,
}

/// A frame as the stream has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) partition: u32,
    pub(crate) sequence: u64,
    pub(crate) published: Timestamp,
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    fn id(&self) -> FrameId {
        FrameId { sequence: self.sequence, stored_at: self.published }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl City {
    pub(crate) fn new(
        partitions: Partitions,
        roads: RoadGraph,
        rules: Rules,
        patience: Patience,
    ) -> Self {
        Self {
            index: Index::new(partitions),
            roads,
            patience,
            partitions,
            rules,
            lanes: partitions.all().map(|_| Lane::default()).collect(),
            is_replayed: watch::Sender::new(false),
            is_answering: AtomicBool::new(false),
            demand: Mutex::default(),
            surge: Mutex::default(),
        }
    }

    fn lane(&self, partition: u32) -> Option<&Lane> {
        self.lanes.get(usize::try_from(partition).ok()?)
    }

    /// What was read of a partition. Held for as long as a frame takes, and never across an await.
    pub(crate) fn reading(&self, partition: u32) -> Option<MutexGuard<'_, Reading>> {
        self.lane(partition).map(|lane| locked(&lane.reading))
    }

    pub(crate) fn demand(&self) -> MutexGuard<'_, Demand> {
        locked(&self.demand)
    }

    pub(crate) fn surge(&self) -> MutexGuard<'_, Surge> {
        locked(&self.surge)
    }

    /// Everything of this partition that was stored up to then has been read.
    pub(crate) fn has_read_up_to(&self, partition: u32, at: Timestamp) {
        if let Some(lane) = self.lane(partition) {
            lane.watermark_us.fetch_max(at.micros(), Ordering::AcqRel);
        }
    }

    /// Up to when a partition was read. It stands still while the reader lags.
    pub(crate) fn watermark(&self, partition: u32) -> Timestamp {
        let us = self.lane(partition).map_or(0, |lane| lane.watermark_us.load(Ordering::Acquire));
        Timestamp::from_micros(us)
    }

    pub(crate) fn set_replayed(&self) {
        self.is_replayed.send_replace(true);
    }

    /// Whether the recent past was read after the start.
    pub(crate) fn is_replayed(&self) -> bool {
        *self.is_replayed.borrow()
    }

    pub(crate) fn set_answering(&self) {
        self.is_answering.store(true, Ordering::Release);
    }

    /// Whether questions are taken.
    pub(crate) fn is_answering(&self) -> bool {
        self.is_answering.load(Ordering::Acquire)
    }

    /// Waits until the recent past was read.
    pub(crate) async fn replayed(&self) {
        let mut seen = self.is_replayed.subscribe();
        // It fails only when the sender is gone, and the sender is `self`.
        drop(seen.wait_for(|is_replayed| *is_replayed).await);
    }

    /// How far behind the reading of a partition is, if it is near enough to now that its drivers'
    /// liveness can be judged. A partition that another replica reads soon is not: only that one
    /// speaks for its drivers.
    pub(crate) fn lag(&self, partition: u32, now: Timestamp) -> Option<Duration> {
        let lag = now.since(self.watermark(partition));
        (self.is_replayed() && lag <= self.patience.live).then_some(lag)
    }

    /// A number of drivers among all, from the number among those that this replica speaks for:
    /// drivers are spread over the partitions by chance, so these are a fair sample.
    pub(crate) fn among_all(&self, counted: usize, now: Timestamp) -> u32 {
        let here = self.partitions.all().filter(|p| self.lag(*p, now).is_some()).count();
        let all = usize::try_from(self.partitions.count()).unwrap_or(usize::MAX);
        let scaled = counted.saturating_mul(all).checked_div(here).unwrap_or(0);
        u32::try_from(scaled).unwrap_or(u32::MAX)
    }

    /// Whether a partition has not been read for a moment, as one that another replica reads.
    pub(crate) fn is_behind(&self, partition: u32, now: Timestamp) -> bool {
        now.since(self.watermark(partition)) > BEHIND
    }

    pub(crate) fn liveness(&self, seen: &Sighting) -> Liveness {
        self.patience.liveness(seen.heard_at, self.watermark(seen.partition))
    }

    /// Free, heard just now, and of a partition that this replica speaks for.
    pub(crate) fn is_offerable(&self, seen: &Sighting, now: Timestamp) -> bool {
        seen.activity == crate::index::Activity::Idle
            && self.liveness(seen) == Liveness::Live
            && self.lag(seen.partition, now).is_some()
    }

    /// All partitions' counts: pings, malformed frames, frames that came again. Of a partition that
    /// another replica reads, what that one stored counts if it is more.
    pub(crate) fn counts(&self, elsewhere: &HashMap<u32, Tally>) -> (Counts, u64, u64) {
        self.partitions
            .all()
            .filter_map(|partition| Some((partition, self.reading(partition)?)))
            .fold(
                (Counts::default(), 0, 0),
                |(mut counts, malformed, again), (partition, reading)| {
                    let own = &reading.tally;
                    let other = elsewhere
                        .get(&partition)
                        .filter(|other| own.frames.newest() < other.frames.newest());
                    let tally = other.unwrap_or(own);
                    counts += tally.counts;
                    (counts, malformed + tally.malformed_frames, again + tally.redelivered_frames)
                },
            )
    }

    /// Reads a frame: classes its pings, moves the index, counts, once. A frame that was read
    /// before does nothing, so it does not matter how often it comes.
    pub(crate) fn read(&self, frame: &Frame<'_>) -> Result<(), Malformed> {
        let batches = self.decode(frame);
        let Some(mut reading) = self.reading(frame.partition) else {
            return Err(Malformed::new("partition", frame.partition));
        };
        if !reading.tally.frames.take(frame.id()) {
            reading.tally.redelivered_frames += 1;
            return Ok(());
        }
        let read = match batches {
            Ok(batches) => {
                let counts = self.apply(&mut reading, frame.id(), &batches);
                reading.tally.counts += counts;
                Ok(())
            }
            Err(malformed) => {
                reading.tally.malformed_frames += 1;
                Err(malformed)
            }
        };
        drop(reading);
        self.has_read_up_to(frame.partition, frame.published);
        read
    }

    /// Reads a frame of the time before this process: as [`City::read`], but what an earlier process
    /// counted is not counted again. A malformed one is left to the consumer, which buries it.
    pub(crate) fn replay(&self, frame: &Frame<'_>) {
        let Ok(batches) = self.decode(frame) else { return };
        let Some(mut reading) = self.reading(frame.partition) else { return };
        if frame.id() <= reading.newest {
            return;
        }
        let counts = self.apply(&mut reading, frame.id(), &batches);
        if reading.tally.frames.take(frame.id()) {
            reading.tally.counts += counts;
        }
        drop(reading);
        self.has_read_up_to(frame.partition, frame.published);
    }

    /// All or nothing: a frame is counted whole, or it is malformed.
    fn decode(&self, frame: &Frame<'_>) -> Result<Vec<PingBatch>, Malformed> {
        let batches = ping::decode(frame.payload)?;
        let is_stray =
            |batch: &&PingBatch| self.partitions.ping_of(batch.driver) != frame.partition;
        match batches.iter().find(is_stray) {
            None => Ok(batches),
            Some(stray) => {
                let why = format!("{} is not of partition {}", stray.driver, frame.partition);
                Err(Malformed::new("driver id", why))
            }
        }
    }

    fn apply(&self, reading: &mut Reading, frame: FrameId, batches: &[PingBatch]) -> Counts {
        reading.newest = reading.newest.max(frame);
        let mut sum = Counts::default();
        for batch in batches {
            let track = reading.tracks.entry(batch.driver).or_default();
            let (counts, newest) = track.read(batch, &self.rules);
            sum += counts;
            if let Some(ping) = newest {
                let fix = Fix {
                    position: ping.position.into(),
                    heard_at: batch.received_at,
                    heading: ping.heading_deg.map(heading_byte),
                };
                self.index.moved(batch.driver, fix);
            }
        }
        sum
    }
}

impl Reading {
    /// Takes over what is stored, unless more than that was counted here.
    pub(crate) fn take_over(&mut self, stored: Tally, checkpoint: u64) {
        self.checkpoint = checkpoint;
        if self.tally.frames.newest() < stored.frames.newest() {
            self.tally = stored;
        }
    }

    /// The newest frame that was read.
    pub(crate) fn newest(&self) -> FrameId {
        self.newest.max(self.tally.frames.newest())
    }

    /// What is known of a driver's pings.
    pub(crate) fn track(&self, driver: DriverId) -> Option<&Track> {
        self.tracks.get(&driver)
    }
}

fn heading_byte(degrees: u16) -> u8 {
    u8::try_from(u32::from(degrees) * HEADINGS / CIRCLE_DEG % HEADINGS).unwrap_or(0)
}

/// A heading byte in degrees.
pub(crate) fn heading_degrees(byte: u8) -> u32 {
    u32::from(byte) * CIRCLE_DEG / HEADINGS
}
