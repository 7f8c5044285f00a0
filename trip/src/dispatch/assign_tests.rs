//! Matching against brute force and against the textbook solver.

use std::{collections::HashSet, ops::Range};

use pathfinding::{kuhn_munkres::kuhn_munkres_min, matrix::Matrix};
use proptest::{collection::vec, option::weighted, prelude::*};

use super::{Assignment, Edge, Method, assign, greedy};

const PLENTY: u64 = u64::MAX;

fn edge(request: usize, driver: usize, cost: i32) -> Edge {
    Edge { request, driver, cost }
}

fn pairs(assignment: &Assignment) -> Vec<(usize, usize)> {
    assignment.pairs.iter().map(|edge| (edge.request, edge.driver)).collect()
}

/// Most pairs, then least cost, by trying everything.
fn by_brute_force(edges: &[Edge]) -> (usize, i64) {
    fn best(rest: &[Edge], request: usize, requests: usize, taken: u32) -> (usize, i64) {
        if request == requests {
            return (0, 0);
        }
        let mut best_so_far = best(rest, request + 1, requests, taken);
        for edge in rest.iter().filter(|edge| edge.request == request) {
            if taken & (1 << edge.driver) == 0 {
                let (count, cost) = best(rest, request + 1, requests, taken | (1 << edge.driver));
                let with = (count + 1, cost + i64::from(edge.cost));
                if with.0 > best_so_far.0 || (with.0 == best_so_far.0 && with.1 < best_so_far.1) {
                    best_so_far = with;
                }
            }
        }
        best_so_far
    }
    let requests = edges.iter().map(|edge| edge.request + 1).max().unwrap_or(0);
    best(edges, 0, requests, 0)
}

/// The same optimum from a dense solver: a missing edge is a private column that costs more than
/// everything together.
fn by_kuhn_munkres(edges: &[Edge], requests: usize, drivers: usize) -> (usize, i64) {
    const ALONE: i64 = 1 << 40;
    let mut costs = Matrix::new(requests, drivers + requests, ALONE);
    for edge in edges {
        costs[(edge.request, edge.driver)] = i64::from(edge.cost);
    }
    let (total, columns) = kuhn_munkres_min(&costs);
    let alone = (0..requests).filter(|&r| costs[(r, columns[r])] == ALONE).count();
    (requests - alone, total - i64::try_from(alone).unwrap() * ALONE)
}

/// Each pair is an edge with this probability.
fn instance(
    requests: usize,
    drivers: usize,
    density: f64,
    costs: Range<i32>,
) -> impl Strategy<Value = Vec<Edge>> {
    vec(weighted(density, costs), requests * drivers).prop_map(move |matrix| {
        let edges = matrix.into_iter().enumerate();
        edges.filter_map(|(at, cost)| Some(edge(at / drivers, at % drivers, cost?))).collect()
    })
}

fn no_end_is_taken_twice(assignment: &Assignment) -> bool {
    let requests: HashSet<_> = assignment.pairs.iter().map(|edge| edge.request).collect();
    let drivers: HashSet<_> = assignment.pairs.iter().map(|edge| edge.driver).collect();
    requests.len() == assignment.pairs.len() && drivers.len() == assignment.pairs.len()
}

fn somebody_waits_beside_a_free_driver(edges: &[Edge], assignment: &Assignment) -> bool {
    let requests: HashSet<_> = assignment.pairs.iter().map(|edge| edge.request).collect();
    let drivers: HashSet<_> = assignment.pairs.iter().map(|edge| edge.driver).collect();
    edges.iter().any(|edge| !requests.contains(&edge.request) && !drivers.contains(&edge.driver))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_answer_is_as_good_as_trying_everything(
        edges in prop_oneof![
            instance(6, 6, 0.4, -50..50), instance(7, 5, 0.7, 0..6),
            instance(5, 7, 0.6, 0..900), instance(6, 6, 0.9, 0..20),
        ],
    ) {
        let found = assign(&edges, PLENTY);
        prop_assert_eq!((found.pairs.len(), found.total_cost), by_brute_force(&edges));
        prop_assert_eq!(found.method, Method::Optimal);
    }

    #[test]
    fn nobody_is_taken_twice_and_only_edges_that_exist_are_taken(
        edges in instance(30, 30, 0.15, -100..900), steps_max in prop_oneof![Just(PLENTY), 0..400_u64],
    ) {
        for found in [assign(&edges, steps_max), greedy(&edges)] {
            prop_assert!(no_end_is_taken_twice(&found));
            prop_assert!(found.pairs.iter().all(|pair| edges.contains(pair)));
            prop_assert!(!somebody_waits_beside_a_free_driver(&edges, &found));
        }
    }

    #[test]
    fn the_order_in_which_edges_are_told_does_not_matter(
        (edges, shuffled) in instance(20, 20, 0.15, 0..8).prop_flat_map(|edges| {
            (Just(edges.clone()), Just(edges).prop_shuffle())
        }),
        steps_max in prop_oneof![Just(PLENTY), 0..400_u64],
    ) {
        prop_assert_eq!(assign(&edges, steps_max), assign(&shuffled, steps_max));
        prop_assert_eq!(greedy(&edges), greedy(&shuffled));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_answer_costs_what_a_dense_solver_finds(
        edges in prop_oneof![
            instance(40, 40, 0.15, 0..900), instance(40, 25, 0.4, 0..9),
            instance(30, 60, 0.4, -300..900), instance(40, 38, 0.9, 0..100),
        ],
    ) {
        let found = assign(&edges, PLENTY);
        prop_assert_eq!((found.pairs.len(), found.total_cost), by_kuhn_munkres(&edges, 40, 60));
        prop_assert!(found.pairs.len() >= greedy(&edges).pairs.len());
    }
}

#[test]
fn nothing_to_do_is_done_at_once() {
    assert_eq!(assign(&[], 0), Assignment::default());
}

#[test]
fn the_nearest_driver_goes_to_whom_the_other_would_cost_more() {
    // Greedily: 2 + 9. Together: 4 + 4.
    let edges = [edge(0, 0, 2), edge(0, 1, 4), edge(1, 0, 4), edge(1, 1, 9)];
    assert_eq!(pairs(&assign(&edges, PLENTY)), [(0, 1), (1, 0)]);
    assert_eq!(greedy(&edges).total_cost, 11);
}

#[test]
fn a_rider_with_one_driver_in_reach_is_not_stranded_by_one_with_many() {
    let edges = [edge(0, 0, 1), edge(0, 1, 800), edge(1, 0, 500)];
    assert_eq!(pairs(&assign(&edges, PLENTY)), [(0, 1), (1, 0)]);
    assert_eq!(greedy(&edges).pairs.len(), 1);
}

#[test]
fn of_too_many_riders_the_cheapest_set_is_served() {
    let edges = [edge(0, 0, 300), edge(1, 0, 200), edge(2, 0, 100), edge(2, 1, 100)];
    assert_eq!(pairs(&assign(&edges, PLENTY)), [(1, 0), (2, 1)]);
}

#[test]
fn costs_at_the_ends_of_their_range_do_not_overflow() {
    let edges = [edge(0, 0, i32::MAX), edge(0, 1, i32::MIN), edge(1, 1, i32::MIN)];
    assert_eq!(pairs(&assign(&edges, PLENTY)), [(0, 0), (1, 1)]);
}

#[test]
fn of_two_prices_for_the_same_pair_the_lower_counts() {
    let found = assign(&[edge(0, 0, 9), edge(0, 0, 5)], PLENTY);
    assert_eq!((found.pairs.len(), found.total_cost), (1, 5));
}

#[test]
fn when_the_budget_ends_small_components_are_still_optimal_and_the_large_one_is_greedy() {
    let small = [edge(0, 0, 2), edge(0, 1, 4), edge(1, 0, 4), edge(1, 1, 9)];
    let large = (2..20).flat_map(|r| (2..20).map(move |d| edge(r, d, 1)));
    let edges: Vec<_> = small.into_iter().chain(large).collect();
    let found = assign(&edges, 40);
    assert_eq!(found.method, Method::Mixed);
    assert_eq!(pairs(&found)[..2], [(0, 1), (1, 0)]);
    assert_eq!(found.pairs.len(), 20);
    assert_eq!(assign(&edges, PLENTY).method, Method::Optimal);
}
