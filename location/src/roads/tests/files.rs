//! Road files that are refused, each with its reason.

use super::{crossing, town};
use crate::roads::map::RoadMap;
use crate::roads::{RoadFileError, RoadGraph};

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
