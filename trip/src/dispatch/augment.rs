//! Minimum-cost assignment of largest size on a sparse graph: bids first, then shortest augmenting
//! paths with potentials (Jonker and Volgenant 1987). Every request has a private way out, dearer
//! than all drivers together, so that it may stay alone but never does so without need.
#![allow(
    clippy::indexing_slicing,
    reason = "the indices of a `Graph` are bounded by its constructor, and the vectors have its size"
)]

use std::{cmp::Reverse, collections::BinaryHeap};

use super::assign::{Edge, Graph};

/// Bids a request may make, on average, before the rest is left to the augmenting paths. Bidding is
/// quick where drivers are plenty and a price war where they are scarce.
const BIDS_PER_REQUEST: usize = 8;

/// More edges were looked at than the budget allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OverBudget;

/// The work in hand. Components do not share drivers, so they can be solved one after the other on
/// the same vectors.
pub(super) struct Solver<'a> {
    graph: &'a Graph,
    /// Price of a driver; zero while free, never above.
    price: Vec<i64>,
    /// Who has the driver.
    owner: Vec<Option<usize>>,
    /// Which edge a request holds.
    held: Vec<Option<Edge>>,
    /// Shortest known way to a driver, and the request before it; valid where `seen` is `round`.
    distance: Vec<i64>,
    before: Vec<usize>,
    seen: Vec<usize>,
    round: usize,
    frontier: BinaryHeap<Reverse<(i64, usize)>>,
    steps: u64,
    steps_max: u64,
}

/// Where a shortest path ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// At a free driver.
    Driver(usize),
    /// This request takes its way out and gives its driver up.
    Alone(usize),
}

impl<'a> Solver<'a> {
    pub(super) fn new(graph: &'a Graph, steps_max: u64) -> Self {
        let (requests, drivers) = (graph.requests(), graph.drivers());
        Self {
            graph,
            price: vec![0; drivers],
            owner: vec![None; drivers],
            held: vec![None; requests],
            distance: vec![0; drivers],
            before: vec![0; drivers],
            seen: vec![0; drivers],
            round: 0,
            frontier: BinaryHeap::new(),
            steps: 0,
            steps_max,
        }
    }

    /// Edges looked at so far.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// The best assignment of one component.
    pub(super) fn solve(&mut self, requests: &[usize]) -> Result<Vec<Edge>, OverBudget> {
        let way_out = self.way_out(requests);
        for request in self.bid(requests, way_out)? {
            self.augment(request, way_out)?;
        }
        Ok(requests.iter().filter_map(|&request| self.held[request]).collect())
    }

    /// What staying alone costs: more than any change among all the others could save.
    fn way_out(&self, requests: &[usize]) -> i64 {
        let costs = || requests.iter().flat_map(|&r| self.graph.of(r)).map(|e| i64::from(e.cost));
        let (least, most) = (costs().min().unwrap_or(0), costs().max().unwrap_or(0));
        let count = i64::try_from(requests.len()).unwrap_or(i64::from(u32::MAX));
        most.saturating_add((count + 1).saturating_mul(most - least + 1))
    }

    /// Each request takes its cheapest driver and raises the price to where its second best would be
    /// as good; who is outbid bids again. Returns who is left without a verdict.
    fn bid(&mut self, requests: &[usize], way_out: i64) -> Result<Vec<usize>, OverBudget> {
        let mut waiting: Vec<usize> = requests.iter().rev().copied().collect();
        let mut left = Vec::new();
        let mut bids = requests.len().saturating_mul(BIDS_PER_REQUEST);
        while let Some(request) = waiting.pop() {
            if bids == 0 {
                left.push(request);
                continue;
            }
            bids -= 1;
            self.spend(self.graph.of(request).len())?;
            let mut best: (i64, Option<Edge>) = (way_out, None);
            let mut second = way_out;
            for &edge in self.graph.of(request) {
                let value = i64::from(edge.cost) - self.price[edge.driver];
                if value < best.0 {
                    second = best.0;
                    best = (value, Some(edge));
                } else if value < second {
                    second = value;
                }
            }
            // Prices only grow, so whoever does not want any driver now will not later.
            let (value, Some(edge)) = best else { continue };
            let outbid = self.owner[edge.driver];
            if outbid.is_some() && second == value {
                left.push(request); // Outbidding by nothing could go on for ever.
                continue;
            }
            self.price[edge.driver] -= second - value;
            self.owner[edge.driver] = Some(request);
            self.held[request] = Some(edge);
            if let Some(outbid) = outbid {
                self.held[outbid] = None;
                waiting.push(outbid);
            }
        }
        Ok(left)
    }

    /// Finds the cheapest chain "I take this driver, who had it takes that one, …" that ends at a
    /// free driver or at somebody's way out, and carries it out.
    fn augment(&mut self, source: usize, way_out: i64) -> Result<(), OverBudget> {
        self.round += 1;
        self.frontier.clear();
        let mut settled: Vec<usize> = Vec::new();
        let mut request = source;
        // Distances are measured in reduced costs: an edge costs what it adds over the held one.
        let mut base = 0;
        let (mut end, mut length) = (End::Alone(source), way_out);
        loop {
            self.spend(self.graph.of(request).len())?;
            if way_out - base < length {
                (end, length) = (End::Alone(request), way_out - base);
            }
            for &edge in self.graph.of(request) {
                let distance = i64::from(edge.cost) - self.price[edge.driver] - base;
                if distance >= length || !self.is_nearer(edge.driver, distance) {
                    continue;
                }
                self.distance[edge.driver] = distance;
                self.before[edge.driver] = request;
                self.seen[edge.driver] = self.round;
                if self.owner[edge.driver].is_none() {
                    (end, length) = (End::Driver(edge.driver), distance);
                } else {
                    self.frontier.push(Reverse((distance, edge.driver)));
                }
            }
            let Some((distance, driver, owner)) = self.nearest() else { break };
            if distance >= length {
                break;
            }
            settled.push(driver);
            let held = self.held[owner].map_or(0, |edge| i64::from(edge.cost));
            base = held - self.price[driver] - distance;
            request = owner;
        }
        for driver in settled {
            self.price[driver] += self.distance[driver] - length;
        }
        self.hand_over(end);
        Ok(())
    }

    fn is_nearer(&self, driver: usize, distance: i64) -> bool {
        self.seen[driver] != self.round || distance < self.distance[driver]
    }

    /// The nearest driver on the frontier, skipping entries that a shorter way has overtaken.
    fn nearest(&mut self) -> Option<(i64, usize, usize)> {
        while let Some(Reverse((distance, driver))) = self.frontier.pop() {
            if distance == self.distance[driver]
                && let Some(owner) = self.owner[driver]
            {
                return Some((distance, driver, owner));
            }
        }
        None
    }

    /// Carries the chain out, from its end back to its source, the one who holds nothing yet.
    fn hand_over(&mut self, end: End) {
        let mut driver = match end {
            End::Driver(driver) => driver,
            End::Alone(request) => match self.held[request].take() {
                Some(edge) => edge.driver,
                None => return, // The source itself stays alone.
            },
        };
        loop {
            let taker = self.before[driver];
            let given_up = self.held[taker];
            self.held[taker] = self.graph.edge(taker, driver);
            self.owner[driver] = Some(taker);
            let Some(edge) = given_up else { return };
            driver = edge.driver;
        }
    }

    fn spend(&mut self, edges: usize) -> Result<(), OverBudget> {
        self.steps = self.steps.saturating_add(u64::try_from(edges).unwrap_or(u64::MAX));
        if self.steps > self.steps_max { Err(OverBudget) } else { Ok(()) }
    }
}
