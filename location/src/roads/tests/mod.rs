//! What roads promise, in made-up towns; `laws` holds them against plain oracles, `city` is the
//! city that comes with the code, `files` what a road file may not be.

mod city;
mod files;
mod laws;

use std::time::Duration;

use super::map::{RoadClass, RoadMap};
use super::survey::{Flow, Survey, SurveyError, Way, WayNode};
use super::{RoadGraph, Speed};
use common::geo::Point;

const AN_HOUR: Duration = Duration::from_secs(3600);

fn point(lat: f64, lng: f64) -> Point {
    Point::new(lat, lng).unwrap()
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
