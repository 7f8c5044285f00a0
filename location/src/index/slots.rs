//! One 64-byte slot per driver, written in place with atomics, in chunks that are never moved: a
//! reader needs a slot's number and nothing else, and waits for nobody.

use std::sync::{
    OnceLock,
    atomic::{
        AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use common::{clock::Timestamp, id::DriverId};
use h3o::CellIndex;
use uuid::Uuid;

use super::{
    Activity, Fix,
    honeycomb::Circle,
    place::{E7, Metric},
};

/// Slots in a chunk: 256 KiB.
const CHUNK_SLOTS: usize = 4096;
/// Chunks at most: 16.7 million drivers, 1 GiB.
const CHUNKS_MAX: usize = 4096;
/// `activity`: the low two bits say what the driver does, this one that the cells list it.
const LISTED: u8 = 4;
const ACTIVITY: u8 = 3;

/// What is known of a driver. Each word is whole by itself; two words may be of two pings in a row,
/// which matters to nobody who asks where a car is.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Slot {
    /// [`E7`], packed.
    position: AtomicU64,
    heard_at_us: AtomicI64,
    /// The cell of the position, 0 before there is one. Written by the owner of the driver's
    /// partition only, under the slot's listing lock.
    home: AtomicU64,
    /// Centre of `home`, and its inscribed circle: radius and cosine of the latitude, two `f32`.
    /// Read and written by the owner only.
    centre: AtomicU64,
    circle: AtomicU64,
    /// Set once, before the slot's number is known to anybody.
    id: [AtomicU64; 2],
    partition: AtomicU16,
    heading: AtomicU8,
    activity: AtomicU8,
    since_s: AtomicU32,
}

impl Slot {
    fn empty() -> Self {
        Self {
            position: AtomicU64::new(E7::NOWHERE.pack()),
            heard_at_us: AtomicI64::new(0),
            home: AtomicU64::new(0),
            centre: AtomicU64::new(0),
            circle: AtomicU64::new(0),
            id: [AtomicU64::new(0), AtomicU64::new(0)],
            partition: AtomicU16::new(0),
            heading: AtomicU8::new(0),
            activity: AtomicU8::new(0),
            since_s: AtomicU32::new(0),
        }
    }

    pub(super) fn driver(&self) -> DriverId {
        let [high, low] = &self.id;
        DriverId(Uuid::from_u64_pair(high.load(Relaxed), low.load(Relaxed)))
    }

    pub(super) fn partition(&self) -> u32 {
        u32::from(self.partition.load(Relaxed))
    }

    pub(super) fn position(&self) -> E7 {
        E7::unpack(self.position.load(Acquire))
    }

    pub(super) fn heard_at(&self) -> Timestamp {
        Timestamp::from_micros(self.heard_at_us.load(Relaxed))
    }

    pub(super) fn heading(&self) -> u8 {
        self.heading.load(Relaxed)
    }

    pub(super) fn activity(&self) -> Activity {
        Activity::from_bits(self.activity.load(Acquire) & ACTIVITY)
    }

    /// Since when the driver does what it does, to the second.
    pub(super) fn since(&self) -> Timestamp {
        Timestamp::from_micros(i64::from(self.since_s.load(Relaxed)) * 1_000_000)
    }

    pub(super) fn put(&self, fix: &Fix) {
        self.heard_at_us.store(fix.heard_at.micros(), Relaxed);
        if let Some(heading) = fix.heading {
            self.heading.store(heading, Relaxed);
        }
        self.position.store(fix.position.pack(), Release);
    }

    /// Whether this place is in the inscribed circle of the home cell, which saves asking H3.
    pub(super) fn is_at_home(&self, place: E7) -> bool {
        let (radius_m, east) = unpack_pair(self.circle.load(Relaxed));
        let metric = Metric::squeezed(E7::unpack(self.centre.load(Relaxed)), f64::from(east));
        metric.squared_m(place) < f64::from(radius_m * radius_m)
    }

    pub(super) fn draw_circle(&self, circle: Circle) {
        self.centre.store(circle.centre.pack(), Relaxed);
        self.circle.store(pack_pair(circle.radius_m, circle.east), Relaxed);
    }

    /// The cell of the position.
    pub(super) fn home(&self) -> Option<CellIndex> {
        CellIndex::try_from(self.home.load(Acquire)).ok()
    }

    pub(super) fn set_home(&self, cell: CellIndex) {
        self.home.store(cell.into(), Release);
    }

    pub(super) fn is_listed(&self) -> bool {
        self.activity.load(Relaxed) & LISTED != 0
    }

    pub(super) fn set_activity(&self, activity: Activity, is_listed: bool) {
        self.activity.store(activity.bits() | if is_listed { LISTED } else { 0 }, Release);
    }

    pub(super) fn set_since(&self, since: Timestamp) {
        self.since_s.store(u32::try_from(since.micros() / 1_000_000).unwrap_or(0), Relaxed);
    }
}

/// Two short floats in a word. Rounding them costs centimetres, which the circle's margin covers.
#[allow(clippy::cast_possible_truncation, reason = "metres and a cosine, where six digits do")]
fn pack_pair(first: f64, second: f64) -> u64 {
    (u64::from((first as f32).to_bits()) << 32) | u64::from((second as f32).to_bits())
}

fn unpack_pair(word: u64) -> (f32, f32) {
    let [a, b, c, d, e, f, g, h] = word.to_be_bytes();
    (f32::from_be_bytes([a, b, c, d]), f32::from_be_bytes([e, f, g, h]))
}

/// All slots. A slot, once handed out, stays where it is until the process ends.
#[derive(Debug)]
pub(super) struct Slots {
    chunks: Box<[OnceLock<Box<[Slot]>>]>,
    next: AtomicU32,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { chunks: (0..CHUNKS_MAX).map(|_| OnceLock::new()).collect(), next: AtomicU32::new(0) }
    }

    /// How many have been handed out.
    pub(super) fn count(&self) -> u32 {
        self.next.load(Acquire)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Slot> {
        let number = usize::try_from(number).ok()?;
        self.chunks.get(number / CHUNK_SLOTS)?.get()?.get(number % CHUNK_SLOTS)
    }

    /// The number of a new slot for this driver, or none when all are taken.
    pub(super) fn add(&self, driver: DriverId, partition: u32) -> Option<u32> {
        let number = self.next.fetch_add(1, Relaxed);
        let index = usize::try_from(number).ok()?;
        let chunk = self.chunks.get(index / CHUNK_SLOTS)?.get_or_init(new_chunk);
        let slot = chunk.get(index % CHUNK_SLOTS)?;
        let (high, low) = driver.0.as_u64_pair();
        let [high_word, low_word] = &slot.id;
        high_word.store(high, Relaxed);
        low_word.store(low, Relaxed);
        slot.partition.store(u16::try_from(partition).unwrap_or(u16::MAX), Relaxed);
        Some(number)
    }
}

fn new_chunk() -> Box<[Slot]> {
    (0..CHUNK_SLOTS).map(|_| Slot::empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::{CHUNK_SLOTS, Slot, Slots};
    use common::id::DriverId;
    use uuid::Uuid;

    #[test]
    fn a_slot_is_one_cache_line() {
        assert_eq!(size_of::<Slot>(), 64);
    }

    #[test]
    fn a_slot_stays_where_it_is_while_others_are_added() {
        let slots = Slots::new();
        let first = slots.add(DriverId(Uuid::from_u128(1)), 3).unwrap();
        let before: *const Slot = slots.get(first).unwrap();
        for n in 2..(CHUNK_SLOTS as u128 * 2) {
            slots.add(DriverId(Uuid::from_u128(n)), 0).unwrap();
        }
        let after: *const Slot = slots.get(first).unwrap();
        assert_eq!(before, after);
        assert_eq!(slots.get(first).unwrap().driver(), DriverId(Uuid::from_u128(1)));
        assert_eq!(slots.get(first).unwrap().partition(), 3);
        assert!(slots.get(slots.count()).is_none_or(|slot| !slot.position().is_somewhere()));
    }
}
