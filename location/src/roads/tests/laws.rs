//! Roads against plain oracles, in towns of every kind.

use common::geo::Point;
use proptest::prelude::*;

use super::{AN_HOUR, crossing, graph, node, point, ring, street, town};
use crate::roads::map::RoadMap;
use crate::roads::plane::between;
use crate::roads::survey::{Flow, Way, WayNode};
use crate::roads::{RoadGraph, SNAP_MAX_M, Speed};

/// Free-flow seconds between all pairs of nodes of the uncontracted town, by Floyd and Warshall.
fn oracle(ways: &[(Vec<WayNode>, Way)]) -> (Vec<WayNode>, Vec<Vec<f64>>) {
    let mut nodes: Vec<WayNode> = ways.iter().flat_map(|(nodes, _)| nodes.clone()).collect();
    nodes.sort_by_key(|node| node.key);
    nodes.dedup_by_key(|node| node.key);
    let at = |key: i64| nodes.iter().position(|node| node.key == key).unwrap();
    let mut seconds = vec![vec![f64::INFINITY; nodes.len()]; nodes.len()];
    // The faster of two ways over the same piece sets its time, in both directions.
    let mut fastest = std::collections::BTreeMap::new();
    for (way_nodes, way) in ways {
        for pair in way_nodes.windows(2) {
            let (a, b) = (at(pair[0].key), at(pair[1].key));
            let kmh = fastest.entry((a.min(b), a.max(b))).or_insert(way.kmh);
            *kmh = way.kmh.max(*kmh);
        }
    }
    for (way_nodes, way) in ways {
        for pair in way_nodes.windows(2) {
            let (a, b) = (at(pair[0].key), at(pair[1].key));
            let kmh = f64::from(fastest[&(a.min(b), a.max(b))]);
            let takes = pair[0].point.distance_m(pair[1].point) * 3.6 / kmh;
            if way.flow != Flow::Against {
                seconds[a][b] = takes;
            }
            if way.flow != Flow::Along {
                seconds[b][a] = takes;
            }
        }
    }
    for (at, row) in seconds.iter_mut().enumerate() {
        row[at] = 0.0;
    }
    for via in 0..nodes.len() {
        for from in 0..nodes.len() {
            for to in 0..nodes.len() {
                let detour = seconds[from][via] + seconds[via][to];
                seconds[from][to] = seconds[from][to].min(detour);
            }
        }
    }
    (nodes, seconds)
}

/// The nodes that are on the map, to a decimetre, with their number in the oracle.
fn on_the_map(graph: &RoadGraph, nodes: &[WayNode]) -> Vec<(usize, Point)> {
    let places = nodes.iter().map(|node| node.point).enumerate();
    places.filter(|(_, p)| graph.snap(*p).is_some_and(|s| s.distance_m < 0.3)).collect()
}

/// A grid of streets, each piece there or not, one way or both, slow or fast.
fn any_town() -> impl Strategy<Value = Vec<(Vec<WayNode>, Way)>> {
    let piece = (
        0..5_i32,
        0..5_i32,
        any::<bool>(),
        prop_oneof![3 => Just(Flow::Both), 1 => Just(Flow::Along), 1 => Just(Flow::Against)],
        prop_oneof![Just(30_u8), Just(50), Just(70)],
    );
    proptest::collection::vec(piece, 5..40).prop_map(|pieces| {
        pieces
            .into_iter()
            .map(|(row, column, is_north, flow, kmh)| {
                let next = if is_north { node(row + 1, column) } else { node(row, column + 1) };
                (vec![node(row, column), next], street(flow, kmh))
            })
            .collect()
    })
}

/// What rounding may add up to: a millisecond for each end and each segment.
const ROUNDING_S: f64 = 0.07;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn travel_times_equal_those_of_the_uncontracted_network(ways in any_town()) {
        let Ok(map) = town(&ways) else { return Ok(()) };
        let graph = RoadGraph::new(&map).unwrap().with_speed(Speed::FREE_FLOW);
        let (nodes, expected) = oracle(&ways);
        let known = on_the_map(&graph, &nodes);
        let points: Vec<Point> = known.iter().map(|(_, point)| *point).collect();
        prop_assert!(points.len() >= graph.junction_count());
        for (to, pickup) in &known {
            let etas = graph.eta_from_many(*pickup, &points, AN_HOUR);
            for ((from, car), eta) in known.iter().zip(etas) {
                let eta = eta.expect("the map is strongly connected").seconds;
                let expected = expected[*from][*to];
                prop_assert!((eta - expected).abs() < ROUNDING_S, "{eta} for {expected}");
                let route = graph.route(*car, *pickup).unwrap();
                prop_assert!((route.seconds - eta).abs() < 0.002, "{} for {eta}", route.seconds);
                prop_assert_eq!(route.points.len(), route.elapsed_s.len());
                prop_assert!(route.elapsed_s.is_sorted());
                let drawn: f64 = route.points.windows(2).map(|p| p[0].distance_m(p[1])).sum();
                prop_assert!((drawn - route.metres).abs() < 5.0, "{drawn} for {}", route.metres);
            }
        }
    }

    #[test]
    fn a_road_file_holds_exactly_what_was_packed(ways in any_town()) {
        let Ok(map) = town(&ways) else { return Ok(()) };
        prop_assert_eq!(RoadMap::unpack(&map.pack().unwrap()).unwrap(), map);
    }

    #[test]
    fn no_damage_to_a_road_file_goes_unnoticed(at in 0_usize..100_000, bit in 0_u32..8) {
        let map = town(&[(ring(), street(Flow::Both, 50))]).unwrap();
        let mut file = map.pack().unwrap();
        let at = at % file.len();
        file[at] ^= 1 << bit;
        // zlib's own header has a bit that says nothing about the content.
        prop_assert!(RoadMap::unpack(&file).map_or(true, |read| read == map));
    }

    #[test]
    fn the_nearest_road_is_found_like_by_looking_at_all(
        lat in 57.699_f64..57.704, lng in 11.898_f64..11.907,
    ) {
        let graph = graph(&crossing());
        let here = point(lat, lng);
        let all = graph.drawing().roads.into_iter().flat_map(|layer| layer.lines);
        let nearest = all.flat_map(|line| decoded(&line)).map(|piece| metres_to(here, piece));
        let nearest = nearest.fold(f64::INFINITY, f64::min);
        match graph.snap(here) {
            // The drawing is rounded to a metre.
            Some(snapped) => prop_assert!((snapped.distance_m - nearest).abs() < 1.5),
            None => prop_assert!(nearest > SNAP_MAX_M - 1.5),
        }
    }
}

/// The pieces of a drawn line.
fn decoded(line: &[i32]) -> Vec<(Point, Point)> {
    let (mut lat, mut lng) = (0, 0);
    let mut points = Vec::new();
    for step in line.chunks(2) {
        lat += step[0];
        lng += step[1];
        points.push(point(f64::from(lat) / 1e5, f64::from(lng) / 1e5));
    }
    points.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// By trying a thousand places on the piece.
fn metres_to(here: Point, (start, end): (Point, Point)) -> f64 {
    (0..=1000)
        .map(|at| between(start, end, f64::from(at) / 1000.0).distance_m(here))
        .fold(f64::INFINITY, f64::min)
}
