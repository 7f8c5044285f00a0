//! The rules as sentences, and their laws.

mod frames;
mod pings;
mod silence;
mod surge;

use common::{clock::Timestamp, geo::Point};

const SECOND: i64 = 1_000_000;
/// Some Thursday.
const NOW: i64 = 1_767_225_600 * SECOND;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(NOW + seconds * SECOND)
}

/// Metres north of a corner in Gothenburg.
fn north(metres: f64) -> Point {
    Point::new(57.7 + metres / 111_195.0, 11.97).unwrap()
}
