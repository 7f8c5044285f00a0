//! Who goes to whom: requests and drivers as numbers, costs as integers, nothing else. The largest
//! set of pairs, and among those the cheapest; the same input gives the same answer.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use utoipa::ToSchema;

use super::augment::Solver;

/// A driver who may serve a request, and what that would cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// Number of the request.
    pub request: usize,
    /// Number of the driver.
    pub driver: usize,
    /// What the pair costs; may be negative. 32 bits, so that no sum in 64 bits overflows.
    pub cost: i32,
}

/// Disjoint pairs, and how they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The chosen edges, by request. No request and no driver is in two of them.
    pub pairs: Vec<Edge>,
    /// Their costs together.
    pub total_cost: i64,
    /// Edges that were looked at.
    pub steps: u64,
    /// How it was found.
    pub method: Method,
}

/// How an assignment was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Largest and cheapest.
    #[default]
    Optimal,
    /// At least one component was too much for the budget and went by the greedy rule.
    Mixed,
    /// Cheapest edge first.
    Greedy,
}

impl Assignment {
    fn new(mut pairs: Vec<Edge>, steps: u64, method: Method) -> Self {
        pairs.sort_unstable();
        let total_cost = pairs.iter().map(|edge| i64::from(edge.cost)).sum();
        Self { pairs, total_cost, steps, method }
    }
}

/// The largest and, among those, cheapest assignment. Components that cannot touch each other are
/// solved alone, small ones first, so that when `steps_max` edges have been looked at only the
/// largest ones are left to the greedy rule.
#[must_use]
pub fn assign(edges: &[Edge], steps_max: u64) -> Assignment {
    let graph = Graph::new(edges);
    let mut solver = Solver::new(&graph, steps_max);
    let mut pairs = Vec::new();
    let mut method = Method::Optimal;
    for component in graph.components() {
        if let Ok(best) = solver.solve(&component) {
            pairs.extend(best);
        } else {
            method = Method::Mixed;
            pairs.extend(cheapest_first(component.iter().flat_map(|&r| graph.of(r)).copied()));
        }
    }
    Assignment::new(pairs, solver.steps(), method)
}

/// Takes the cheapest edge whose two ends are free, again and again. What dispatchers without a
/// solver do: it serves those it picks well and strands more of the others.
#[must_use]
pub fn greedy(edges: &[Edge]) -> Assignment {
    let steps = u64::try_from(edges.len()).unwrap_or(u64::MAX);
    Assignment::new(cheapest_first(edges.iter().copied()), steps, Method::Greedy)
}

fn cheapest_first(edges: impl Iterator<Item = Edge>) -> Vec<Edge> {
    let mut edges: Vec<Edge> = edges.collect();
    edges.sort_unstable_by_key(|edge| (edge.cost, edge.request, edge.driver));
    let (mut requests, mut drivers) = (HashSet::new(), HashSet::new());
    edges.retain(|edge| {
        let both_free = !requests.contains(&edge.request) && !drivers.contains(&edge.driver);
        both_free && requests.insert(edge.request) && drivers.insert(edge.driver)
    });
    edges
}

/// The edges by request, without repetitions.
#[derive(Debug)]
pub(super) struct Graph {
    edges: Vec<Edge>,
    /// Where a request's edges start; one more than there are requests.
    starts: Vec<usize>,
    drivers: usize,
}

impl Graph {
    fn new(edges: &[Edge]) -> Self {
        let mut edges = edges.to_vec();
        edges.sort_unstable_by_key(|edge| (edge.request, edge.driver, edge.cost));
        edges.dedup_by_key(|edge| (edge.request, edge.driver));
        let requests = edges.last().map_or(0, |edge| edge.request + 1);
        let drivers = edges.iter().map(|edge| edge.driver + 1).max().unwrap_or(0);
        let starts =
            (0..=requests).map(|r| edges.partition_point(|edge| edge.request < r)).collect();
        Self { edges, starts, drivers }
    }

    pub(super) fn requests(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    pub(super) fn drivers(&self) -> usize {
        self.drivers
    }

    /// The edges of a request, by driver.
    pub(super) fn of(&self, request: usize) -> &[Edge] {
        let (start, end) = (self.starts.get(request), self.starts.get(request + 1));
        start.zip(end).and_then(|(&start, &end)| self.edges.get(start..end)).unwrap_or_default()
    }

    pub(super) fn edge(&self, request: usize, driver: usize) -> Option<Edge> {
        let edges = self.of(request);
        edges
            .binary_search_by_key(&driver, |edge| edge.driver)
            .ok()
            .and_then(|i| edges.get(i))
            .copied()
    }

    /// The requests that share drivers, directly or through others: fewest first.
    fn components(&self) -> Vec<Vec<usize>> {
        let mut requests_of: HashMap<usize, Vec<usize>> = HashMap::new();
        for edge in &self.edges {
            requests_of.entry(edge.driver).or_default().push(edge.request);
        }
        let mut seen = HashSet::new();
        let mut components = Vec::new();
        for start in (0..self.requests()).filter(|&r| !self.of(r).is_empty()) {
            if !seen.insert(start) {
                continue;
            }
            let mut component = vec![start];
            let mut next = 0;
            while let Some(&request) = component.get(next) {
                next += 1;
                for edge in self.of(request) {
                    // Taken out: a driver's neighbours need to be visited only once.
                    let others = requests_of.remove(&edge.driver).unwrap_or_default();
                    component.extend(others.into_iter().filter(|&other| seen.insert(other)));
                }
            }
            component.sort_unstable();
            components.push(component);
        }
        components.sort_by_key(Vec::len);
        components
    }
}

#[cfg(test)]
#[path = "assign_tests.rs"]
mod tests;
