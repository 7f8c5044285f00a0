//! Shortest travel times: Dijkstra backwards from a pickup to many cars at once, and A* from one
//! place to another. Labels are stamped with the search's number, so nothing is cleared between.

#![expect(clippy::indexing_slicing, reason = "one label per junction of the same network")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use super::Snapped;
use super::arcs::{Cost, Heading};
use super::network::{Access, Network};

/// More searches than this at once, and the memory of the last ones is given back.
const SPARE_MAX: usize = 16;

/// What a search knows about a junction.
#[derive(Debug, Clone, Copy)]
struct Label {
    /// The search that wrote this; anything else is from an earlier one.
    search: u32,
    is_settled: bool,
    cost: Cost,
    /// How the junction was come to, and from which one; `None` at the start.
    via: Heading,
    before: Option<u32>,
}

const UNSEEN: Label = Label {
    search: 0,
    is_settled: false,
    cost: Cost { millis: u32::MAX, decimetres: u32::MAX },
    via: Heading::new(0, false),
    before: None,
};

/// Memory for one search at a time.
#[derive(Debug)]
pub(super) struct Scratch {
    search: u32,
    labels: Vec<Label>,
    wanted: Vec<u32>,
    /// Priority in the upper half, junction in the lower: compared as one number.
    queue: BinaryHeap<Reverse<u64>>,
}

/// Scratch memory that is not in use; grows to the number of searches at once.
#[derive(Debug, Default)]
pub(super) struct ScratchPool(Mutex<Vec<Scratch>>);

impl ScratchPool {
    pub(super) fn with<T>(&self, network: &Network, search: impl FnOnce(&mut Scratch) -> T) -> T {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = spare.unwrap_or_else(|| Scratch::new(network.junctions.len()));
        scratch.begin();
        let found = search(&mut scratch);
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < SPARE_MAX {
            spares.push(scratch);
        }
        found
    }
}

impl Scratch {
    fn new(junction_count: usize) -> Self {
        Self {
            search: 0,
            labels: vec![UNSEEN; junction_count],
            wanted: vec![0; junction_count],
            queue: BinaryHeap::new(),
        }
    }

    fn begin(&mut self) {
        self.queue.clear();
        self.search = self.search.wrapping_add(1);
        if self.search == 0 {
            // After four thousand million searches old stamps would look new.
            self.labels.fill(UNSEEN);
            self.wanted.fill(0);
            self.search = 1;
        }
    }

    fn label(&self, junction: u32) -> &Label {
        let label = &self.labels[junction as usize];
        if label.search == self.search { label } else { &UNSEEN }
    }

    /// Notes a way to a junction if it is the best so far; `ahead_ms` is a lower bound of what
    /// is still to come after it.
    fn offer(
        &mut self,
        junction: u32,
        cost: Cost,
        via: Heading,
        before: Option<u32>,
        ahead_ms: u32,
    ) {
        let label = self.label(junction);
        // Among equally fast ways the shorter one, so that the answer does not depend on order.
        if !label.is_settled && cost < label.cost {
            self.labels[junction as usize] =
                Label { search: self.search, is_settled: false, cost, via, before };
            let priority = cost.millis.saturating_add(ahead_ms);
            self.queue.push(Reverse(u64::from(priority) << 32 | u64::from(junction)));
        }
    }

    /// Takes the next junction whose cost is final, if its priority is at most `limit_ms`.
    fn settle(&mut self, limit_ms: u32) -> Option<(u32, Cost)> {
        while let Some(Reverse(next)) = self.queue.pop() {
            if next >> 32 > u64::from(limit_ms) {
                return None;
            }
            let junction = lower_half(next);
            let label = &mut self.labels[junction as usize];
            if !label.is_settled {
                label.is_settled = true;
                return Some((junction, label.cost));
            }
        }
        None
    }
}

/// The cost from each place to `pickup`, where it is at most `bound_ms`.
pub(super) fn costs_to(
    network: &Network,
    scratch: &mut Scratch,
    pickup: &Snapped,
    cars: &[Option<Snapped>],
    bound_ms: u32,
) -> Vec<Option<Cost>> {
    let mut open = 0_usize;
    for (junction, ..) in cars.iter().flatten().flat_map(|car| network.departures(car)) {
        let wanted = &mut scratch.wanted[junction as usize];
        open += usize::from(*wanted != scratch.search);
        *wanted = scratch.search;
    }
    for (junction, cost, heading) in network.approaches(pickup) {
        scratch.offer(junction, cost, heading, None, 0);
    }
    while open > 0
        && let Some((junction, cost)) = scratch.settle(bound_ms)
    {
        open -= usize::from(scratch.wanted[junction as usize] == scratch.search);
        for arc in network.entering.of(junction) {
            scratch.offer(arc.junction, cost.plus(arc.cost), arc.heading, Some(junction), 0);
        }
    }
    let around = |car: &Snapped| {
        network
            .departures(car)
            .map(|(junction, part, _)| (scratch.label(junction), part))
            .filter(|(label, _)| label.is_settled)
            .map(|(label, part)| label.cost.plus(part))
            .min()
    };
    cars.iter()
        .map(|car| {
            let car = car.as_ref()?;
            let direct = network.direct(car, pickup).map(|(cost, _)| cost);
            direct.into_iter().chain(around(car)).min().filter(|cost| cost.millis <= bound_ms)
        })
        .collect()
}

/// The segments of a drive in order. The first and the last are driven in part.
#[derive(Debug)]
pub(super) struct Drive {
    pub(super) cost: Cost,
    pub(super) headings: Vec<Heading>,
}

/// The fastest drive between two places, by A* with the straight line at the best pace anywhere
/// as its lower bound.
pub(super) fn drive(
    network: &Network,
    scratch: &mut Scratch,
    from: &Snapped,
    to: &Snapped,
) -> Option<Drive> {
    let goal = network.project(to.point);
    let ahead = |junction: u32| {
        let metres = network.places[junction as usize].distance(goal);
        lower_bound(metres * network.pace_min)
    };
    let ends: Vec<Access> = network.approaches(to).collect();
    let mut best = network.direct(from, to).map(|(cost, heading)| (cost, None, heading));
    for (junction, cost, heading) in network.departures(from) {
        scratch.offer(junction, cost, heading, None, ahead(junction));
    }
    loop {
        // What cannot arrive earlier than the best drive known is not looked at.
        let limit = best.as_ref().map_or(u32::MAX, |(cost, ..)| cost.millis);
        let Some((junction, cost)) = scratch.settle(limit) else { break };
        for (_, part, heading) in ends.iter().filter(|(end, ..)| *end == junction) {
            let arrival = cost.plus(*part);
            if best.as_ref().is_none_or(|(known, ..)| arrival < *known) {
                best = Some((arrival, Some(junction), *heading));
            }
        }
        for arc in network.leaving.of(junction) {
            let next = arc.junction;
            scratch.offer(next, cost.plus(arc.cost), arc.heading, Some(junction), ahead(next));
        }
    }
    let (cost, mut at, last) = best?;
    let mut headings = vec![last];
    while let Some(junction) = at {
        let label = scratch.label(junction);
        headings.push(label.via);
        at = label.before;
    }
    headings.reverse();
    Some(Drive { cost, headings })
}

#[expect(clippy::cast_possible_truncation, reason = "the upper half is the priority")]
fn lower_half(queued: u64) -> u32 {
    queued as u32
}

/// Whole milliseconds that are surely still to come: parts of segments are rounded, so one less.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and is ≥ 0"
)]
fn lower_bound(millis: f64) -> u32 {
    (millis.floor() as u32).saturating_sub(1)
}
