//! The road graph as lines for a map: small enough to send whole, trivial to decode in a browser.

use common::geo::Point;
use serde::Serialize;

use super::map::RoadClass;
use super::network::Network;
use super::{ATTRIBUTION, Bounds};

/// Steps of 1/100,000 degree, about a metre: enough for any screen.
const STEPS_PER_DEGREE: f64 = 1e5;

/// All roads as polylines. Each line is `[lat, lng, Δlat, Δlng, …]` in whole steps:
/// `degrees = steps / steps_per_degree`, every pair after the first relative to the one before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drawing {
    /// The city.
    pub name: String,
    /// Must be shown on every map that uses the drawing.
    pub attribution: &'static str,
    pub bounds: Bounds,
    pub steps_per_degree: f64,
    /// The narrowest roads first, so that drawing in this order puts main roads on top.
    pub roads: Vec<Layer>,
}

/// The roads of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    pub class: RoadClass,
    pub lines: Vec<Vec<i32>>,
}

pub(super) fn draw(network: &Network) -> Drawing {
    let lines_of = |class: RoadClass| {
        (0_u32..)
            .zip(&network.segments)
            .filter(|(_, segment)| segment.class == class)
            .map(|(number, _)| line(network.shape(number).0))
            .collect()
    };
    Drawing {
        name: network.name.clone(),
        attribution: ATTRIBUTION,
        bounds: network.bounds,
        steps_per_degree: STEPS_PER_DEGREE,
        roads: RoadClass::ALL
            .into_iter()
            .rev()
            .map(|class| Layer { class, lines: lines_of(class) })
            .collect(),
    }
}

fn line(shape: &[Point]) -> Vec<i32> {
    let mut before = (0, 0);
    let mut line = Vec::with_capacity(shape.len() * 2);
    for point in shape {
        let here = (steps(point.lat()), steps(point.lng()));
        line.extend([here.0 - before.0, here.1 - before.1]);
        before = here;
    }
    line
}

#[expect(clippy::cast_possible_truncation, reason = "180e5 fits, and a Point is in range")]
fn steps(degrees: f64) -> i32 {
    (degrees * STEPS_PER_DEGREE).round() as i32
}
