//! Which slots are in which cell. A `DashMap` is not lock-free: it is a hash table cut into shards
//! behind a lock each. That does here, because a cell is touched by the 8 % of pings that change
//! cell, and a reader holds a shard only to copy a handful of numbers.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use h3o::CellIndex;

#[derive(Debug, Default)]
pub(super) struct Cells {
    lists: DashMap<CellIndex, Vec<u32>, RandomState>,
    listed: AtomicUsize,
}

impl Cells {
    /// How many slots are listed, in all cells together.
    pub(super) fn listed(&self) -> usize {
        self.listed.load(Relaxed)
    }

    pub(super) fn add(&self, cell: CellIndex, number: u32) {
        self.lists.entry(cell).or_default().push(number);
        self.listed.fetch_add(1, Relaxed);
    }

    pub(super) fn remove(&self, cell: CellIndex, number: u32) {
        let Some(is_empty) = self.lists.get_mut(&cell).map(|mut list| {
            if let Some(at) = list.iter().position(|other| *other == number) {
                list.swap_remove(at);
                self.listed.fetch_sub(1, Relaxed);
            }
            list.is_empty()
        }) else {
            return;
        };
        if is_empty {
            self.lists.remove_if(&cell, |_, list| list.is_empty());
        }
    }

    /// Adds the slots in a cell to `numbers`; nothing stays locked.
    pub(super) fn copy(&self, cell: CellIndex, numbers: &mut Vec<u32>) {
        if let Some(list) = self.lists.get(&cell) {
            numbers.extend_from_slice(&list);
        }
    }
}
