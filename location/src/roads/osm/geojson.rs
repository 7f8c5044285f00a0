//! Ways as GeoJSON features, as Overpass exports them: a place is a node, tags are properties.

use std::io::Read;

use common::geo::Point;
use serde::Deserialize;
use serde_json::Value;

use super::{ImportError, Tags, drivable};
use crate::roads::survey::{Survey, WayNode, key_of_place};

#[derive(Deserialize)]
struct Collection {
    features: Vec<Feature>,
}

#[derive(Deserialize)]
struct Feature {
    #[serde(default)]
    properties: serde_json::Map<String, Value>,
    geometry: Geometry,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Geometry {
    LineString {
        coordinates: Vec<Vec<f64>>,
    },
    #[serde(other)]
    Other,
}

/// Adds the drivable lines of a GeoJSON feature collection. Areas are no roads.
///
/// # Errors
/// When the input is not GeoJSON of ways.
pub fn survey(input: impl Read, survey: &mut Survey) -> Result<(), ImportError> {
    let collection: Collection = serde_json::from_reader(input)?;
    for feature in collection.features {
        let Geometry::LineString { coordinates } = feature.geometry else { continue };
        let tags: Tags = feature.properties.into_iter().filter_map(tag).collect();
        let Some(way) = drivable(&tags) else { continue };
        let nodes: Vec<WayNode> = coordinates.iter().filter_map(|at| node(at)).collect();
        survey.add(&nodes, way)?;
    }
    Ok(())
}

fn tag((key, value): (String, Value)) -> Option<(String, String)> {
    match value {
        Value::String(text) => Some((key, text)),
        Value::Number(number) => Some((key, number.to_string())),
        _ => None,
    }
}

/// Longitude comes first in GeoJSON.
fn node(coordinates: &[f64]) -> Option<WayNode> {
    let [lng, lat, ..] = coordinates else { return None };
    let point = Point::new(*lat, *lng).ok()?;
    Some(WayNode { key: key_of_place(point), point })
}
