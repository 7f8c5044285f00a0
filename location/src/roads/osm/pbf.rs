//! OpenStreetMap's own binary format. Two passes, because ways come after the nodes that they
//! name: the ways that a car may use, then the places of their nodes.

use std::collections::HashMap;
use std::path::Path;

use common::geo::Point;
use osmpbf::{Element, ElementReader};

use super::{ImportError, Tags, drivable};
use crate::roads::survey::{Survey, Way, WayNode};

/// Adds the drivable ways of an `.osm.pbf` file.
///
/// # Errors
/// When the file cannot be read.
pub fn survey(path: &Path, survey: &mut Survey) -> Result<(), ImportError> {
    let mut ways: Vec<(Vec<i64>, Way)> = Vec::new();
    let mut places: HashMap<i64, Option<Point>> = HashMap::new();
    ElementReader::from_path(path)?.for_each(|element| {
        let Element::Way(way) = element else { return };
        let tags: Tags = way.tags().map(|(key, value)| (key.into(), value.into())).collect();
        if let Some(drivable) = drivable(&tags) {
            let nodes: Vec<i64> = way.refs().collect();
            places.extend(nodes.iter().map(|node| (*node, None)));
            ways.push((nodes, drivable));
        }
    })?;
    ElementReader::from_path(path)?.for_each(|element| {
        let (id, lat, lng) = match element {
            Element::DenseNode(node) => (node.id(), node.lat(), node.lon()),
            Element::Node(node) => (node.id(), node.lat(), node.lon()),
            Element::Way(_) | Element::Relation(_) => return,
        };
        if let Some(place) = places.get_mut(&id) {
            *place = Point::new(lat, lng).ok();
        }
    })?;
    for (nodes, way) in ways {
        // An extract may end before its ways do: what it lacks splits the way.
        let nodes: Vec<Option<WayNode>> = nodes
            .into_iter()
            .map(|key| places.get(&key).copied().flatten().map(|point| WayNode { key, point }))
            .collect();
        for part in nodes.split(Option::is_none) {
            let part: Vec<WayNode> = part.iter().flatten().copied().collect();
            survey.add(&part, way)?;
        }
    }
    Ok(())
}
