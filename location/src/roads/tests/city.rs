//! The city that comes with the code.

use common::geo::Point;

use super::{AN_HOUR, point};
use crate::roads::map::RoadMap;
use crate::roads::{GOTHENBURG, RoadGraph, Speed};

fn gothenburg() -> RoadGraph {
    RoadGraph::gothenburg().unwrap().with_speed(Speed::FREE_FLOW)
}

#[test]
fn gothenburg_is_whole() {
    let file = GOTHENBURG;
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
    assert_eq!(lines, RoadMap::unpack(GOTHENBURG).unwrap().segments.len());
    let json = serde_json::to_string(&drawing).unwrap();
    assert!(json.len() < 600_000, "{} bytes", json.len());
    assert!(drawing.roads.iter().all(|layer| !layer.lines.is_empty()));
}

/// Junctions drawn from all over the city, the same ones every time.
fn drawn(graph: &RoadGraph) -> impl FnMut() -> Point {
    let mut at = 7_u64;
    move || {
        // Knuth's multiplier; its upper bits spread well.
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let junction = usize::try_from(at >> 33).unwrap() % graph.junction_count();
        graph.junction(junction).unwrap()
    }
}

#[test]
fn nobody_drives_faster_than_the_signs_or_jumps() {
    let graph = gothenburg();
    let mut any_junction = drawn(&graph);
    for _ in 0..50 {
        let (from, to) = (any_junction(), any_junction());
        let route = graph.route(from, to).unwrap();
        assert!((graph.eta(from, to).unwrap().seconds - route.seconds).abs() < 0.001);
        assert!((route.elapsed_s.last().unwrap() - route.seconds).abs() < 0.001);
        let mut before = route.at(0.0).unwrap();
        for second in (1_u32..).map(f64::from).take_while(|second| *second < route.seconds) {
            let now = route.at(second).unwrap();
            assert!(now.metres_per_s < 110.0 / 3.6, "{} m/s", now.metres_per_s);
            assert!(now.point.distance_m(before.point) < 110.0 / 3.6);
            before = now;
        }
        assert!(route.at(route.seconds).unwrap().point.distance_m(to) < 1.5);
    }
}

#[test]
fn the_river_makes_the_nearest_car_often_not_the_fastest() {
    let graph = gothenburg();
    let mut any_junction = drawn(&graph);
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
