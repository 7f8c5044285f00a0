//! What was done so far; all parts of a run add to it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::incident::Kind;
use crate::{audit::Poison, dlq::Mended};

/// The running record.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) seed: u64,
    incidents: Mutex<BTreeMap<Kind, u64>>,
    heals: Mutex<BTreeMap<Kind, Vec<Heal>>>,
    calm: Mutex<Option<Heal>>,
    poison: Mutex<Vec<Poison>>,
    mended: Mutex<Mended>,
    poisons: AtomicU64,
    lanes: AtomicUsize,
}

/// How a fault healed: after so long, or not within the meter's patience.
#[derive(Debug, Clone)]
pub(super) enum Heal {
    After(Duration),
    NotYet(String),
}

impl Record {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// A fault has begun and ended.
    pub(super) fn happened(&self, kind: Kind) {
        *lock(&self.incidents).entry(kind).or_default() += 1;
    }

    /// The system was whole again after a fault.
    pub(super) fn healed(&self, kind: Kind, heal: Heal) {
        lock(&self.heals).entry(kind).or_default().push(heal);
    }

    /// The system was whole again after the storm.
    pub(super) fn calmed(&self, heal: Heal) {
        *lock(&self.calm) = Some(heal);
    }

    pub(super) fn calm(&self) -> Option<Heal> {
        lock(&self.calm).clone()
    }

    /// A message that cannot be handled is in a stream.
    pub(super) fn poisoned(&self, poison: Poison) {
        lock(&self.poison).push(poison);
    }

    /// Operations sent letters back.
    pub(super) fn mended(&self, mended: Mended) {
        *lock(&self.mended) += mended;
    }

    pub(super) fn mends(&self) -> Mended {
        *lock(&self.mended)
    }

    pub(super) fn next_poison(&self) -> u64 {
        self.poisons.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn next_lane(&self) -> usize {
        self.lanes.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn incidents(&self) -> BTreeMap<Kind, u64> {
        lock(&self.incidents).clone()
    }

    pub(super) fn heals(&self) -> BTreeMap<Kind, Vec<Heal>> {
        lock(&self.heals).clone()
    }

    pub(super) fn poison(&self) -> Vec<Poison> {
        lock(&self.poison).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
