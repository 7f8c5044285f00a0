//! Places on the earth: WGS84 points in range, and distances.

use geo::{Distance as _, Haversine};
use serde::{Deserialize, Serialize};

/// Latitude or longitude out of range, or not a number.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("latitude {lat} or longitude {lng} is out of range")]
pub struct OutOfRange {
    /// Degrees.
    pub lat: f64,
    /// Degrees.
    pub lng: f64,
}

/// A WGS84 position in degrees; always in range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawPoint", into = "RawPoint")]
pub struct Point {
    lat: f64,
    lng: f64,
}

/// The JSON form of a [`Point`], before its range is checked.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Point)]
pub struct RawPoint {
    /// Degrees north, −90 to 90.
    #[schema(example = 57.7, minimum = -90, maximum = 90)]
    pub lat: f64,
    /// Degrees east, −180 to 180.
    #[schema(example = 11.97, minimum = -180, maximum = 180)]
    pub lng: f64,
}

impl utoipa::PartialSchema for Point {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        RawPoint::schema()
    }
}

impl utoipa::ToSchema for Point {
    fn name() -> std::borrow::Cow<'static, str> {
        "Point".into()
    }
}

impl TryFrom<RawPoint> for Point {
    type Error = OutOfRange;
    fn try_from(raw: RawPoint) -> Result<Self, OutOfRange> {
        Self::new(raw.lat, raw.lng)
    }
}

impl From<Point> for RawPoint {
    fn from(point: Point) -> Self {
        Self { lat: point.lat, lng: point.lng }
    }
}

/// Seven decimals of a degree: about a centimetre, and what fits into an `i32`.
const E7: f64 = 1e7;

impl Point {
    /// A point from degrees.
    ///
    /// # Errors
    /// When a coordinate is out of range or not finite.
    pub fn new(lat: f64, lng: f64) -> Result<Self, OutOfRange> {
        if (-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lng) {
            Ok(Self { lat, lng })
        } else {
            Err(OutOfRange { lat, lng })
        }
    }

    /// A point from ten-millionths of a degree, the form used in messages.
    ///
    /// # Errors
    /// When a coordinate is out of range.
    pub fn from_e7(lat_e7: i32, lng_e7: i32) -> Result<Self, OutOfRange> {
        Self::new(f64::from(lat_e7) / E7, f64::from(lng_e7) / E7)
    }

    /// Ten-millionths of a degree: latitude, longitude.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "180e7 fits, and the range is an invariant")]
    pub fn to_e7(self) -> (i32, i32) {
        ((self.lat * E7).round() as i32, (self.lng * E7).round() as i32)
    }

    /// Degrees north.
    #[must_use]
    pub fn lat(self) -> f64 {
        self.lat
    }

    /// Degrees east.
    #[must_use]
    pub fn lng(self) -> f64 {
        self.lng
    }

    /// Great-circle distance in metres (haversine, mean earth radius).
    #[must_use]
    pub fn distance_m(self, other: Self) -> f64 {
        Haversine.distance(self.to_geo(), other.to_geo())
    }

    /// The same point as `geo` knows it (x = longitude).
    #[must_use]
    pub fn to_geo(self) -> geo::Point<f64> {
        geo::Point::new(self.lng, self.lat)
    }
}

#[cfg(test)]
mod tests {
    use super::Point;

    #[test]
    fn a_point_off_the_earth_cannot_be_made() {
        assert!(Point::new(90.1, 0.0).is_err());
        assert!(Point::new(0.0, -180.1).is_err());
        assert!(Point::new(f64::NAN, 0.0).is_err());
        assert!(serde_json::from_str::<Point>(r#"{"lat":91,"lng":0}"#).is_err());
    }

    #[test]
    fn the_wire_form_keeps_a_centimetre() {
        let point = Point::new(57.708_87, 11.974_56).unwrap();
        let (lat, lng) = point.to_e7();
        assert!(Point::from_e7(lat, lng).unwrap().distance_m(point) < 0.02);
    }

    #[test]
    fn a_degree_of_latitude_is_111_kilometres() {
        let metres = Point::new(57.0, 12.0).unwrap().distance_m(Point::new(58.0, 12.0).unwrap());
        assert!((111_000.0..111_400.0).contains(&metres), "{metres}");
    }
}
