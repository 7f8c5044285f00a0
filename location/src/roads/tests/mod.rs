//! Roads against plain oracles, and the city that comes with the code.

use std::time::Duration;

use common::geo::Point;
use proptest::prelude::*;

use super::map::{RoadClass, RoadMap};
use super::survey::{Flow, Survey, SurveyError, Way, WayNode};
use super::{RoadFileError, RoadGraph, Speed};

const AN_HOUR: Duration = Duration::from_secs(3600);

fn point(lat: f64, lng: f64) -> Point {
    Point::new(lat, lng).unwrap()
}

fn gothenburg() -> RoadGraph {
    RoadGraph::gothenburg().unwrap().with_speed(Speed::FREE_FLOW)
}

/// A node of a made-up town, about 63 m by 60 m apart.
fn node(row: i32, column: i32) -> WayNode {
    let point = point(57.7 + f64::from(row) * 0.000_57, 11.9 + f64::from(column) * 0.001);
    WayNode { key: i64::from(row * 1000 + column), point }
}

fn street(flow: Flow, kmh: u8) -> Way {
    Way { class: RoadClass::Minor, kmh, flow }
}

fn town(ways: &[(Vec<WayNode>, Way)]) -> Result<RoadMap, SurveyError> {
    let mut survey = Survey::new(None);
    for (nodes, way) in ways {
        survey.add(nodes, *way)?;
    }
    survey.finish("Town".into(), "made up".into())
}

fn graph(ways: &[(Vec<WayNode>, Way)]) -> RoadGraph {
    RoadGraph::new(&town(ways).unwrap()).unwrap().with_speed(Speed::FREE_FLOW)
}

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
            None => prop_assert!(nearest > super::SNAP_MAX_M - 1.5),
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
        .map(|at| super::plane::between(start, end, f64::from(at) / 1000.0).distance_m(here))
        .fold(f64::INFINITY, f64::min)
}

fn ring() -> Vec<WayNode> {
    vec![node(0, 0), node(0, 4), node(4, 4), node(4, 0), node(0, 0)]
}

/// Two long streets that cross, two-way.
fn crossing() -> Vec<(Vec<WayNode>, Way)> {
    let along = (0..=6).map(|column| node(3, column)).collect();
    let across = (0..=6).map(|row| node(row, 3)).collect();
    vec![(along, street(Flow::Both, 50)), (across, street(Flow::Both, 30))]
}

#[test]
fn nodes_where_nobody_can_turn_are_folded_away() {
    let map = town(&crossing()).unwrap();
    assert_eq!(map.junctions.len(), 5, "the crossing and four ends");
    assert_eq!(map.segments.len(), 4);
    assert_eq!(map.directed_edge_count(), 8);
    assert_eq!(map.bend_count(), 0, "the streets are straight");
}

#[test]
fn a_single_ring_is_a_town_too() {
    let map = town(&[(ring(), street(Flow::Along, 50))]).unwrap();
    assert_eq!((map.junctions.len(), map.segments.len(), map.bend_count()), (1, 1, 3));
    let graph = RoadGraph::new(&map).unwrap();
    let back = graph.route(node(4, 4).point, node(0, 4).point).unwrap();
    let ahead = graph.route(node(0, 4).point, node(4, 4).point).unwrap();
    assert!(back.metres > 1.5 * ahead.metres, "{} and {}", back.metres, ahead.metres);
}

#[test]
fn a_one_way_street_is_driven_one_way() {
    let two_way = vec![node(0, 0), node(3, 0), node(3, 3), node(0, 3)];
    let one_way = vec![node(0, 0), node(0, 3)];
    let graph = graph(&[(two_way, street(Flow::Both, 50)), (one_way, street(Flow::Along, 50))]);
    let (west, east) = (node(0, 0).point, node(0, 3).point);
    let with = graph.route(west, east).unwrap();
    let against = graph.route(east, west).unwrap();
    assert_eq!(with.points.len(), 2);
    assert!(against.points.len() >= 4, "{against:?}");
    assert!(against.seconds > 2.5 * with.seconds);
    let etas = graph.eta_from_many(west, &[east], AN_HOUR);
    assert!((etas[0].unwrap().seconds - against.seconds).abs() < 0.002);
}

#[test]
fn a_street_that_nobody_gets_out_of_is_left_out() {
    let trap = vec![node(3, 6), node(3, 9)];
    let mut ways = crossing();
    ways.push((trap, street(Flow::Along, 50)));
    let graph = graph(&ways);
    assert_eq!(graph.junction_count(), 5);
    assert!(graph.snap(node(3, 9).point).is_none_or(|snapped| snapped.distance_m > 100.0));
    assert_eq!(
        town(&[(vec![node(0, 0), node(0, 1)], street(Flow::Along, 50))]),
        Err(SurveyError::Empty)
    );
}

#[test]
fn a_car_beyond_the_bound_or_off_the_roads_has_no_eta() {
    let graph = graph(&crossing());
    let (pickup, near, far) = (node(3, 0).point, node(3, 1).point, node(3, 6).point);
    let off = point(58.5, 11.9);
    let bound = Duration::from_secs_f64(graph.eta(near, pickup).unwrap().seconds + 1.0);
    let etas = graph.eta_from_many(pickup, &[near, far, off], bound);
    assert_eq!(etas.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(graph.eta_from_many(off, &[near], AN_HOUR), [None]);
    assert!(graph.eta_from_many(pickup, &[], AN_HOUR).is_empty());
}

#[test]
fn a_slower_city_takes_longer_and_the_bound_means_real_seconds() {
    let free = graph(&crossing());
    let slow = free.clone().with_speed(Speed::new(0.5).unwrap());
    let (pickup, car) = (node(3, 0).point, node(3, 6).point);
    let seconds = free.eta(car, pickup).unwrap().seconds;
    let etas = |graph: &RoadGraph, bound: f64| {
        graph.eta_from_many(pickup, &[car], Duration::from_secs_f64(bound))[0]
    };
    assert!((etas(&slow, 2.1 * seconds).unwrap().seconds - 2.0 * seconds).abs() < 0.01);
    assert_eq!(etas(&slow, 1.9 * seconds), None);
    let route = slow.route(car, pickup).unwrap();
    assert!((route.elapsed_s.last().unwrap() - 2.0 * seconds).abs() < 0.01);
}

#[test]
fn a_speed_is_a_positive_number() {
    assert!("0.65".parse::<Speed>().is_ok_and(|speed| speed == Speed::CONGESTED));
    for text in ["0", "-1", "NaN", "inf", "fast", ""] {
        assert!(text.parse::<Speed>().is_err(), "{text}");
    }
    assert_eq!(Speed::CONGESTED.times(5.0).unwrap().factor(), 3.25);
}

#[test]
fn a_car_moves_along_its_route_and_stops_at_the_end() {
    let graph = graph(&crossing());
    let (from, to) = (node(3, 0).point, node(6, 3).point);
    let route = graph.route(from, to).unwrap();
    let start = route.at(-5.0).unwrap();
    assert!(start.point.distance_m(from) < 0.3);
    assert!((start.heading_deg - 90.0).abs() < 1.0, "east, not {}", start.heading_deg);
    assert!((start.metres_per_s * 3.6 - 50.0).abs() < 1.0, "{}", start.metres_per_s * 3.6);
    let turned = route.at(route.seconds * 0.99).unwrap();
    assert!(turned.heading_deg < 1.0 || turned.heading_deg > 359.0);
    assert!((turned.metres_per_s * 3.6 - 30.0).abs() < 1.0);
    let end = route.at(route.seconds + 60.0).unwrap();
    assert!(end.point.distance_m(to) < 0.3);
    assert_eq!(end.metres_per_s, 0.0);
    let nowhere = graph.route(from, from).unwrap();
    assert_eq!((nowhere.seconds, nowhere.points.len()), (0.0, 2));
    assert!(nowhere.at(1.0).unwrap().point.distance_m(from) < 0.3);
}

#[test]
fn a_survey_of_an_area_cuts_off_what_leaves_it() {
    let (south_west, north_east) = (node(2, 0).point, node(4, 4).point);
    let area = super::Bounds {
        south: south_west.lat(),
        west: south_west.lng(),
        north: north_east.lat(),
        east: north_east.lng(),
    };
    let mut survey = Survey::new(Some(area));
    for (nodes, way) in crossing() {
        survey.add(&nodes, way).unwrap();
    }
    let graph = RoadGraph::new(&survey.finish("Town".into(), String::new()).unwrap()).unwrap();
    assert_eq!(graph.junction_count(), 5);
    assert!(area.contains(graph.junction(0).unwrap()) && area.contains(graph.junction(4).unwrap()));
}

#[test]
fn a_file_that_is_foreign_newer_or_cut_off_is_refused() {
    let file = town(&crossing()).unwrap().pack().unwrap();
    assert!(matches!(RoadMap::unpack(b""), Err(RoadFileError::Foreign)));
    assert!(matches!(RoadMap::unpack(b"PK\x03\x04 something else"), Err(RoadFileError::Foreign)));
    let mut newer = file.clone();
    newer[8] = 9;
    assert!(matches!(RoadMap::unpack(&newer), Err(RoadFileError::Version { found: 9 })));
    for length in 8..file.len() {
        let cut = RoadMap::unpack(&file[..length]);
        assert!(matches!(cut, Err(RoadFileError::Truncated { .. })), "{length}: {cut:?}");
    }
    let missing = RoadGraph::open(std::path::Path::new("no/such/file.roads"));
    assert!(matches!(missing, Err(RoadFileError::Io { .. })));
}

#[test]
fn a_file_whose_segments_lead_nowhere_is_refused() {
    let whole = town(&crossing()).unwrap();
    let refused = |change: fn(&mut RoadMap)| {
        let mut map = whole.clone();
        change(&mut map);
        matches!(RoadGraph::new(&map), Err(RoadFileError::Corrupt(_)))
    };
    assert!(refused(|map| map.segments[0].head = 99));
    assert!(refused(|map| map.segments[0].millis = 0));
    assert!(refused(|map| map.segments.clear()));
    assert!(refused(|map| map.junctions[0].lat = 91_000_000));
}

#[test]
fn gothenburg_is_whole() {
    let file = super::GOTHENBURG;
    let map = RoadMap::unpack(file).unwrap();
    assert!((150_000..400_000).contains(&file.len()), "{} bytes", file.len());
    assert_eq!(RoadMap::unpack(&map.pack().unwrap()).unwrap(), map);
    let graph = gothenburg();
    assert_eq!(graph.name(), "Gothenburg");
    assert_eq!(graph.junction_count(), 12_270);
    assert_eq!(graph.directed_edge_count(), 27_270);
    assert!(graph.contains(point(57.7072, 11.9668)), "the opera side of the river");
    assert!(!graph.contains(point(59.3293, 18.0686)), "Stockholm");
    assert!(!graph.contains(point(0.0, 0.0)));
}

#[test]
fn every_junction_is_where_it_says_and_reaches_every_other() {
    let graph = gothenburg();
    let all: Vec<Point> =
        (0..graph.junction_count()).map(|at| graph.junction(at).unwrap()).collect();
    assert!(graph.junction(all.len()).is_none());
    let etas = graph.eta_from_many(all[0], &all, AN_HOUR);
    assert!(etas.iter().all(Option::is_some));
}

#[test]
fn the_drawing_names_its_source_and_shows_every_segment() {
    let graph = gothenburg();
    let drawing = graph.drawing();
    assert!(drawing.attribution.contains("OpenStreetMap"));
    let lines: usize = drawing.roads.iter().map(|layer| layer.lines.len()).sum();
    assert_eq!(lines, RoadMap::unpack(super::GOTHENBURG).unwrap().segments.len());
    let json = serde_json::to_string(&drawing).unwrap();
    assert!(json.len() < 600_000, "{} bytes", json.len());
    assert!(drawing.roads.iter().all(|layer| !layer.lines.is_empty()));
}

#[test]
fn the_river_makes_the_nearest_car_often_not_the_fastest() {
    let graph = gothenburg();
    let mut at = 7_usize;
    let mut any_junction = || {
        // Knuth's multiplier: spreads well and repeats the same every time.
        at = (at.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(3_037_000_493)) % (1 << 48);
        graph.junction((at >> 16) % graph.junction_count()).unwrap()
    };
    let cars: Vec<Point> = (0..150).map(|_| any_junction()).collect();
    let requests = 200;
    let mut surprises = 0;
    for _ in 0..requests {
        let pickup = any_junction();
        let etas = graph.eta_from_many(pickup, &cars, AN_HOUR);
        let by = |cost: &dyn Fn(usize) -> f64| {
            (0..cars.len()).min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap()
        };
        let by_air = by(&|car| cars[car].distance_m(pickup));
        let by_road = by(&|car| etas[car].unwrap().seconds);
        surprises += usize::from(by_air != by_road);
    }
    let share = surprises * 100 / requests;
    assert!((25..60).contains(&share), "nearest by air is not fastest in {share} %");
}

#[test]
fn one_graph_answers_many_threads_alike() {
    let graph = gothenburg();
    let cars: Vec<Point> = (0..20).map(|at| graph.junction(at * 599).unwrap()).collect();
    let expected = graph.eta_from_many(cars[3], &cars, AN_HOUR);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(graph.eta_from_many(cars[3], &cars, AN_HOUR), expected);
                }
            });
        }
    });
}
