//! From ways to a road map: what can be driven is gathered as links between neighbouring nodes,
//! the largest strongly connected part is kept, and nodes where nobody can turn are folded away.

use std::collections::{BTreeMap, HashMap};

use common::geo::Point;

use super::map::{Micro, RoadClass, RoadMap};
use super::{Bounds, contract, strong};

/// How traffic may flow along a way, seen in the order of its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Both,
    Along,
    Against,
}

/// A drivable way, without its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub class: RoadClass,
    /// Free-flow speed.
    pub kmh: u8,
    pub flow: Flow,
}

/// A node of a way: what makes it the same node on another way, and where it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WayNode {
    pub key: i64,
    pub point: Point,
}

/// Nothing in the input can be driven in a circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SurveyError {
    #[error("no drivable roads that connect")]
    Empty,
    #[error("more nodes than a road file can number")]
    TooLarge,
}

/// A straight piece of road between two neighbouring nodes `a < b`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) a: u32,
    pub(super) b: u32,
    /// Drivable from `a` to `b`.
    pub(super) ahead: bool,
    /// Drivable from `b` to `a`.
    pub(super) back: bool,
    pub(super) class: RoadClass,
    pub(super) kmh: u8,
    pub(super) metres: f64,
}

impl Link {
    /// The other end.
    pub(super) fn across(&self, node: u32) -> u32 {
        if node == self.a { self.b } else { self.a }
    }

    /// Whether one may drive into the link at `node`.
    pub(super) fn leaves(&self, node: u32) -> bool {
        if node == self.a { self.ahead } else { self.back }
    }

    pub(super) fn is_oneway(&self) -> bool {
        self.ahead != self.back
    }
}

/// Gathers the ways of a city.
#[derive(Debug, Default)]
pub struct Survey {
    area: Option<Bounds>,
    numbers: HashMap<i64, u32>,
    points: Vec<Point>,
    links: BTreeMap<(u32, u32), Link>,
}

impl Survey {
    /// A survey of everything, or of what lies within `area`.
    #[must_use]
    pub fn new(area: Option<Bounds>) -> Self {
        Self { area, ..Self::default() }
    }

    /// Adds a way. Pieces that leave the area are cut off; where two ways share a piece the
    /// faster one sets its time.
    ///
    /// # Errors
    /// When there are more nodes than a road file can number.
    pub fn add(&mut self, nodes: &[WayNode], way: Way) -> Result<(), SurveyError> {
        for (from, to) in nodes.iter().zip(nodes.iter().skip(1)) {
            let is_outside = |node: &WayNode| self.area.is_some_and(|a| !a.contains(node.point));
            if from.key == to.key || is_outside(from) || is_outside(to) {
                continue;
            }
            let (start, end) = (self.number(from)?, self.number(to)?);
            let (ahead, back) = match (way.flow, start < end) {
                (Flow::Both, _) => (true, true),
                (Flow::Along, is_ascending) => (is_ascending, !is_ascending),
                (Flow::Against, is_ascending) => (!is_ascending, is_ascending),
            };
            let metres = from.point.distance_m(to.point);
            let (a, b) = (start.min(end), start.max(end));
            let link = Link { a, b, ahead, back, class: way.class, kmh: way.kmh, metres };
            self.links
                .entry((a, b))
                .and_modify(|known| {
                    let (ahead, back) = (known.ahead || ahead, known.back || back);
                    let faster = if link.kmh > known.kmh { link } else { *known };
                    *known = Link { ahead, back, ..faster };
                })
                .or_insert(link);
        }
        Ok(())
    }

    /// Folds the survey into a road map.
    ///
    /// # Errors
    /// When nothing is left, or too much.
    pub fn finish(self, name: String, source: String) -> Result<RoadMap, SurveyError> {
        let links: Vec<Link> = self.links.into_values().collect();
        let member = strong::largest_component(self.points.len(), &links);
        let kept: Vec<Link> = links
            .into_iter()
            .filter(|link| [link.a, link.b].iter().all(|node| strong::holds(&member, *node)))
            .collect();
        if kept.is_empty() {
            return Err(SurveyError::Empty);
        }
        let (junctions, segments) = contract::fold(&self.points, &kept)?;
        Ok(RoadMap { name, source, junctions, segments })
    }

    fn number(&mut self, node: &WayNode) -> Result<u32, SurveyError> {
        if let Some(number) = self.numbers.get(&node.key) {
            return Ok(*number);
        }
        let number = u32::try_from(self.points.len()).map_err(|_| SurveyError::TooLarge)?;
        self.numbers.insert(node.key, number);
        self.points.push(node.point);
        Ok(number)
    }
}

/// The key of a node that is known by its place alone.
#[must_use]
pub fn key_of_place(point: Point) -> i64 {
    let (lat, lng) = point.to_e7();
    (i64::from(lat) << 32) | i64::from(lng.cast_unsigned())
}

/// Orders places so that near ones come near each other (Morton order).
pub(super) fn nearness(place: Micro) -> u64 {
    let spread = |value: i32| {
        // Shifted into the positive, then a zero bit between each two.
        let mut bits = u64::from(value.cast_unsigned() ^ 0x8000_0000);
        for (shift, mask) in [
            (16, 0x0000_ffff_0000_ffff),
            (8, 0x00ff_00ff_00ff_00ff),
            (4, 0x0f0f_0f0f_0f0f_0f0f),
            (2, 0x3333_3333_3333_3333),
            (1, 0x5555_5555_5555_5555),
        ] {
            bits = (bits | (bits << shift)) & mask;
        }
        bits
    };
    spread(place.lat) << 1 | spread(place.lng)
}
