//! OpenStreetMap's tags, as far as a car is concerned. Barriers on nodes and turn restrictions are
//! not read.

pub mod geojson;
#[cfg(feature = "import")]
pub mod pbf;

use std::collections::BTreeMap;

use super::map::RoadClass;
use super::survey::{Flow, SurveyError, Way};

/// The tags of a way.
pub type Tags = BTreeMap<String, String>;

/// Why a file could not be surveyed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot read the input")]
    Io(#[from] std::io::Error),
    #[error("not a GeoJSON collection of ways")]
    GeoJson(#[from] serde_json::Error),
    #[cfg(feature = "import")]
    #[error("not a readable .osm.pbf file")]
    Pbf(#[from] osmpbf::Error),
    #[error(transparent)]
    Survey(#[from] SurveyError),
}

/// Where no sign was mapped: class and free-flow km/h of the roads that a car may use.
const ROADS: [(&str, RoadClass, u8); 15] = [
    ("motorway", RoadClass::Motorway, 90),
    ("motorway_link", RoadClass::Motorway, 60),
    ("trunk", RoadClass::Trunk, 70),
    ("trunk_link", RoadClass::Trunk, 50),
    ("primary", RoadClass::Primary, 60),
    ("primary_link", RoadClass::Primary, 50),
    ("secondary", RoadClass::Secondary, 50),
    ("secondary_link", RoadClass::Secondary, 40),
    ("tertiary", RoadClass::Tertiary, 50),
    ("tertiary_link", RoadClass::Tertiary, 40),
    ("unclassified", RoadClass::Minor, 40),
    ("residential", RoadClass::Minor, 30),
    ("road", RoadClass::Minor, 30),
    ("living_street", RoadClass::Minor, 10),
    ("service", RoadClass::Service, 15),
];
/// Signs outside these are slips of the keyboard, or do not bind a taxi.
const KMH_MIN: f64 = 5.0;
const KMH_MAX: f64 = 130.0;
const KMH_PER_MPH: f64 = 1.609_344;
/// From the general to the particular: the last one that is tagged decides.
const ACCESS_KEYS: [&str; 4] = ["access", "vehicle", "motor_vehicle", "motorcar"];
const CLOSED: [&str; 9] = [
    "no",
    "private",
    "agricultural",
    "forestry",
    "delivery",
    "psv",
    "bus",
    "emergency",
    "military",
];

/// What a way is to a car, or `None` where it may not drive.
#[must_use]
pub fn drivable(tags: &Tags) -> Option<Way> {
    let tag = |key: &str| tags.get(key).map(String::as_str);
    let highway = tag("highway")?;
    let (_, class, default_kmh) = *ROADS.iter().find(|(name, ..)| *name == highway)?;
    let access = ACCESS_KEYS.into_iter().filter_map(tag).next_back();
    if access.is_some_and(|value| CLOSED.contains(&value))
        || tag("area") == Some("yes")
        || tag("service") == Some("bus")
    {
        return None;
    }
    let flow = match tag("oneway") {
        Some("yes" | "true" | "1") => Flow::Along,
        Some("-1" | "reverse") => Flow::Against,
        // Open one way or the other by the hour: nothing that a plan can rely on.
        Some("reversible" | "alternating") => return None,
        Some("no" | "false" | "0") => Flow::Both,
        _ if highway == "motorway" => Flow::Along,
        _ if matches!(tag("junction"), Some("roundabout" | "circular")) => Flow::Along,
        _ => Flow::Both,
    };
    Some(Way { class, kmh: tag("maxspeed").and_then(kmh).unwrap_or(default_kmh), flow })
}

/// The speed on a sign: km/h, or mph where it says so.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 5 to 130")]
fn kmh(sign: &str) -> Option<u8> {
    let sign = sign.trim();
    let (number, factor) = match sign.strip_suffix("mph") {
        Some(number) => (number, KMH_PER_MPH),
        None => (sign.strip_suffix("km/h").unwrap_or(sign), 1.0),
    };
    let kmh =
        number.trim().parse::<f64>().ok().filter(|kmh| kmh.is_finite() && *kmh > 0.0)? * factor;
    Some(kmh.round().clamp(KMH_MIN, KMH_MAX) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(tags: &[(&str, &str)]) -> Option<Way> {
        drivable(&tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
    }

    #[test]
    fn the_sign_counts_before_the_class() {
        let kmh = |tags| way(tags).map(|way| way.kmh);
        assert_eq!(kmh(&[("highway", "residential")]), Some(30));
        assert_eq!(kmh(&[("highway", "residential"), ("maxspeed", "50")]), Some(50));
        assert_eq!(kmh(&[("highway", "trunk"), ("maxspeed", "40 mph")]), Some(64));
        assert_eq!(kmh(&[("highway", "trunk"), ("maxspeed", "SE:urban")]), Some(70));
        assert_eq!(kmh(&[("highway", "service"), ("maxspeed", "0")]), Some(15));
        assert_eq!(kmh(&[("highway", "motorway"), ("maxspeed", "900")]), Some(130));
    }

    #[test]
    fn roundabouts_and_motorways_are_one_way_unless_tagged_otherwise() {
        let flow = |tags| way(tags).map(|way| way.flow);
        assert_eq!(flow(&[("highway", "tertiary"), ("junction", "roundabout")]), Some(Flow::Along));
        assert_eq!(flow(&[("highway", "motorway")]), Some(Flow::Along));
        assert_eq!(flow(&[("highway", "motorway"), ("oneway", "no")]), Some(Flow::Both));
        assert_eq!(flow(&[("highway", "tertiary"), ("oneway", "-1")]), Some(Flow::Against));
        assert_eq!(flow(&[("highway", "tertiary"), ("oneway", "reversible")]), None);
    }

    #[test]
    fn a_car_stays_off_paths_bus_lanes_and_private_ground() {
        assert_eq!(way(&[("highway", "footway")]), None);
        assert_eq!(way(&[("name", "a river")]), None);
        assert_eq!(way(&[("highway", "service"), ("access", "private")]), None);
        assert_eq!(way(&[("highway", "service"), ("service", "bus")]), None);
        assert_eq!(way(&[("highway", "service"), ("area", "yes")]), None);
        assert!(way(&[("highway", "service"), ("access", "no"), ("motorcar", "yes")]).is_some());
        assert!(way(&[("highway", "service"), ("access", "destination")]).is_some());
    }
}
