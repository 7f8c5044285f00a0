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

#[cfg(test)]
mod tests {
    use super::survey;
    use crate::roads::survey::Survey;

    #[test]
    fn lines_that_a_car_may_use_become_roads() {
        let ways = r#"{"type": "FeatureCollection", "features": [
            {"type": "Feature", "properties": {"highway": "residential", "maxspeed": 30},
             "geometry": {"type": "LineString", "coordinates": [[11.9, 57.7], [11.91, 57.7]]}},
            {"type": "Feature", "properties": {"highway": "tertiary", "name": "Sveaplan"},
             "geometry": {"type": "LineString", "coordinates": [[11.91, 57.7], [11.91, 57.71]]}},
            {"type": "Feature", "properties": {"highway": "footway"},
             "geometry": {"type": "LineString", "coordinates": [[11.91, 57.7], [11.92, 57.7]]}},
            {"type": "Feature", "properties": {"highway": "service"},
             "geometry": {"type": "Polygon", "coordinates": [[[11.9, 57.7], [11.91, 57.7]]]}}
        ]}"#;
        let mut town = Survey::default();
        survey(ways.as_bytes(), &mut town).unwrap();
        let map = town.finish("Town".into(), String::new()).unwrap();
        assert_eq!((map.junctions.len(), map.directed_edge_count()), (3, 4));
        assert!(survey(&b"{\"type\": \"Point\"}"[..], &mut Survey::default()).is_err());
    }
}
