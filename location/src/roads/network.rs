//! The road map made ready for questions: both adjacencies as flat tables, shapes as flat tables,
//! and a grid over them. Everything that a file can get wrong is refused here, once.

#![expect(clippy::indexing_slicing, reason = "indices were checked when the network was made")]

use common::geo::{OutOfRange, Point};

use super::arcs::{Adjacency, Arc, Cost, Heading};
use super::grid::{Grid, Piece};
use super::map::{RoadClass, RoadMap};
use super::packed::RoadFileError;
use super::plane::{Plane, Xy, between};
use super::{Bounds, Snapped};

/// Nearer than this to its end, a place on a segment is at the junction.
const AT_JUNCTION_M: f64 = 1.0;

#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) tail: u32,
    pub(super) head: u32,
    pub(super) cost: Cost,
    pub(super) class: RoadClass,
    pub(super) is_oneway: bool,
    /// Its shape, both ends included, among all shape points.
    first: u32,
    last: u32,
    /// Length of the simplified shape on the plane.
    pub(super) shape_m: f64,
}

/// Where a drive may begin or end beside a snapped place: a junction, what the part of the
/// segment up to there costs, and how one drives it.
pub(super) type Access = (u32, Cost, Heading);

#[derive(Debug)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) bounds: Bounds,
    pub(super) junctions: Vec<Point>,
    pub(super) places: Vec<Xy>,
    pub(super) segments: Vec<Segment>,
    pub(super) leaving: Adjacency,
    pub(super) entering: Adjacency,
    /// The least milliseconds that a metre as the crow flies takes anywhere.
    pub(super) pace_min: f64,
    shape: Vec<Point>,
    shape_xy: Vec<Xy>,
    plane: Plane,
    grid: Grid,
}

impl Network {
    pub(super) fn new(map: &RoadMap) -> Result<Self, RoadFileError> {
        let junctions: Vec<Point> = points(&map.junctions)?;
        let (segments, shape) = lay_out(map, &junctions)?;
        let no_roads = RoadFileError::Corrupt("there are no roads");
        let bounds = Bounds::around(&shape).ok_or(no_roads)?;
        let middle = bounds.middle().ok_or(RoadFileError::Corrupt("a place off the earth"))?;
        let plane = Plane::around(middle);
        let shape_xy: Vec<Xy> = shape.iter().map(|point| plane.project(*point)).collect();
        let segments: Vec<Segment> = segments
            .into_iter()
            .map(|segment| Segment { shape_m: length(&shape_xy, &segment), ..segment })
            .collect();
        let pieces: Vec<Piece> = (0_u32..)
            .zip(&segments)
            .flat_map(|(segment, s)| (s.first..s.last).map(move |start| Piece { segment, start }))
            .collect();
        let arcs = |is_reversed| {
            Adjacency::new(junctions.len(), directed(&segments, is_reversed).collect())
        };
        Ok(Self {
            name: map.name.clone(),
            source: map.source.clone(),
            bounds,
            places: junctions.iter().map(|point| plane.project(*point)).collect(),
            leaving: arcs(false),
            entering: arcs(true),
            pace_min: segments
                .iter()
                .filter(|segment| segment.shape_m > 0.0)
                .map(|segment| f64::from(segment.cost.millis) / segment.shape_m)
                .fold(f64::INFINITY, f64::min)
                .min(f64::MAX),
            grid: Grid::new(&shape_xy, &pieces),
            junctions,
            segments,
            shape,
            shape_xy,
            plane,
        })
    }

    /// The nearest place on a road within `limit_m`.
    pub(super) fn snap(&self, point: Point, limit_m: f64) -> Option<Snapped> {
        let nearest = self.grid.nearest(&self.shape_xy, self.plane.project(point), limit_m)?;
        let segment = &self.segments[nearest.piece.segment as usize];
        let start = nearest.piece.start as usize;
        let before = self.shape_xy[segment.first as usize..=start]
            .windows(2)
            .map(|piece| piece[0].distance(piece[1]))
            .sum::<f64>();
        let within = self.shape_xy[start].distance(self.shape_xy[start + 1]) * nearest.along;
        let passed_m = before + within;
        let along = if passed_m < AT_JUNCTION_M {
            0.0
        } else if segment.shape_m - passed_m < AT_JUNCTION_M {
            1.0
        } else {
            passed_m / segment.shape_m
        };
        Some(Snapped {
            segment: nearest.piece.segment,
            along,
            point: between(self.shape[start], self.shape[start + 1], nearest.along),
            distance_m: nearest.distance,
        })
    }

    pub(super) fn project(&self, point: Point) -> Xy {
        self.plane.project(point)
    }

    /// The junctions that a car at `at` can drive to, without passing another.
    pub(super) fn departures(&self, at: &Snapped) -> impl Iterator<Item = Access> + use<> {
        let segment = self.segments[at.segment as usize];
        let heading = |is_against| Heading::new(at.segment, is_against);
        let ahead = (segment.head, segment.cost.share(1.0 - at.along), heading(false));
        let back = (segment.tail, segment.cost.share(at.along), heading(true));
        // Who stands at the junction need not drive the one-way street to leave it.
        let is_open = !segment.is_oneway || at.along <= 0.0;
        std::iter::once(ahead).chain(is_open.then_some(back))
    }

    /// The junctions from which `at` is reached without passing another.
    pub(super) fn approaches(&self, at: &Snapped) -> impl Iterator<Item = Access> + use<> {
        let segment = self.segments[at.segment as usize];
        let heading = |is_against| Heading::new(at.segment, is_against);
        let ahead = (segment.tail, segment.cost.share(at.along), heading(false));
        let back = (segment.head, segment.cost.share(1.0 - at.along), heading(true));
        // … nor to come to it.
        let is_open = !segment.is_oneway || at.along >= 1.0;
        std::iter::once(ahead).chain(is_open.then_some(back))
    }

    /// The cost along one segment that both places lie on, if traffic may flow that way.
    pub(super) fn direct(&self, from: &Snapped, to: &Snapped) -> Option<(Cost, Heading)> {
        let segment = self.segments[from.segment as usize];
        let is_against = to.along < from.along;
        (from.segment == to.segment && !(segment.is_oneway && is_against)).then(|| {
            let heading = Heading::new(from.segment, is_against);
            (segment.cost.share((to.along - from.along).abs()), heading)
        })
    }

    /// Free-flow seconds that a segment takes, and the length of its shape.
    pub(super) fn measure(&self, segment: u32) -> (f64, f64) {
        let segment = &self.segments[segment as usize];
        (f64::from(segment.cost.millis) / 1000.0, segment.shape_m)
    }

    /// The shape of a segment in its own direction, both ends included.
    pub(super) fn shape(&self, segment: u32) -> (&[Point], &[Xy]) {
        let segment = &self.segments[segment as usize];
        let range = segment.first as usize..=segment.last as usize;
        (&self.shape[range.clone()], &self.shape_xy[range])
    }
}

/// Puts all shapes into one table.
fn lay_out(
    map: &RoadMap,
    junctions: &[Point],
) -> Result<(Vec<Segment>, Vec<Point>), RoadFileError> {
    let mut shape = Vec::with_capacity(map.bend_count() + 2 * map.segments.len());
    let mut segments = Vec::with_capacity(map.segments.len());
    let end = |at: u32| {
        let junction = junctions.get(at as usize).copied();
        junction.ok_or(RoadFileError::Corrupt("a segment ends nowhere"))
    };
    let number = |at: usize| u32::try_from(at).map_err(|_| RoadFileError::TooLarge);
    for road in &map.segments {
        if road.millis == 0 {
            return Err(RoadFileError::Corrupt("a segment takes no time"));
        }
        let first = number(shape.len())?;
        shape.push(end(road.tail)?);
        shape.extend(points(&road.bends)?);
        shape.push(end(road.head)?);
        segments.push(Segment {
            tail: road.tail,
            head: road.head,
            cost: Cost { millis: road.millis, decimetres: road.decimetres },
            class: road.class,
            is_oneway: road.is_oneway,
            first,
            last: number(shape.len() - 1)?,
            shape_m: 0.0,
        });
    }
    // Arcs are numbered as well, two for a segment.
    number(segments.len().saturating_mul(2))?;
    Ok((segments, shape))
}

fn points(places: &[super::map::Micro]) -> Result<Vec<Point>, RoadFileError> {
    places
        .iter()
        .map(|place| Point::try_from(*place))
        .collect::<Result<_, OutOfRange>>()
        .map_err(|_| RoadFileError::Corrupt("a place off the earth"))
}

fn length(shape: &[Xy], segment: &Segment) -> f64 {
    shape[segment.first as usize..=segment.last as usize]
        .windows(2)
        .map(|piece| piece[0].distance(piece[1]))
        .sum()
}

fn directed(segments: &[Segment], is_reversed: bool) -> impl Iterator<Item = (u32, Arc)> {
    (0_u32..).zip(segments).flat_map(move |(segment, s)| {
        let arc = |from: u32, to: u32, is_against| {
            let (from, to) = if is_reversed { (to, from) } else { (from, to) };
            (from, Arc { junction: to, cost: s.cost, heading: Heading::new(segment, is_against) })
        };
        let ahead = arc(s.tail, s.head, false);
        std::iter::once(ahead).chain((!s.is_oneway).then(|| arc(s.head, s.tail, true)))
    })
}
