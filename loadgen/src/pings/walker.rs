//! A phone that does nothing but say where its car is.

use std::time::Duration;

use bytes::Bytes;
use common::{
    clock::{Timestamp, machine_time},
    geo::Point,
    id::SessionId,
};
use hyper::header::HeaderValue;
use rand::{Rng, RngExt};
use serde::Serialize;
use uuid::Uuid;

use crate::city::motion::Car;

/// A phone is off by so much, as a rule; metres.
const GPS_NOISE_M: f64 = 4.0;
/// In a narrow street it knows only so much, and says so.
const BLURRED_ACCURACY_M: f64 = 180.0;
/// Share of the pings from narrow streets.
const BLURRED_SHARE: f64 = 0.0005;
const METRES_PER_DEGREE: f64 = 111_195.0;

/// One point of a batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ping {
    /// Counts within the session.
    pub seq: u64,
    /// By the phone's clock.
    pub ts: Timestamp,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lng: f64,
    /// Metres.
    pub acc: f64,
    /// Metres a second.
    pub spd: f64,
    /// Degrees clockwise from north.
    pub hdg: f64,
}

/// The body of a POST.
#[derive(Debug, Serialize)]
struct Batch<'a> {
    session_id: SessionId,
    sent_at: Timestamp,
    points: &'a [Ping],
}

/// One run of a driver's app.
#[derive(Debug)]
pub struct Walker {
    /// Whose.
    pub driver: Uuid,
    /// Once asked for.
    pub bearer: Option<HeaderValue>,
    session: SessionId,
    seq: u64,
    skew_us: i64,
}

impl Walker {
    /// A new session of this driver, on a phone whose clock is wrong by so much.
    #[must_use]
    pub fn new(driver: Uuid, skew_us: i64) -> Self {
        Self { driver, bearer: None, session: SessionId::fresh(), seq: 0, skew_us }
    }

    /// The next point: where the car is `now`, as this phone sees it. `age` ago if it was buffered.
    pub fn ping(&mut self, car: &Car, now: Duration, age: Duration, rng: &mut impl Rng) -> Ping {
        let there = car.at(now.saturating_sub(age));
        let is_blurred = rng.random_bool(BLURRED_SHARE);
        let acc = if is_blurred { BLURRED_ACCURACY_M } else { GPS_NOISE_M + rng.random::<f64>() };
        let point = blurred(there.point, GPS_NOISE_M, rng);
        self.seq += 1;
        let age_us = i64::try_from(age.as_micros()).unwrap_or(0);
        Ping {
            seq: self.seq,
            ts: Timestamp::from_micros(self.clock().micros() - age_us),
            lat: rounded(point.lat(), 1e6),
            lng: rounded(point.lng(), 1e6),
            acc: rounded(acc, 10.0),
            spd: rounded(there.metres_per_s, 10.0),
            hdg: rounded(there.heading_deg, 1.0).rem_euclid(360.0),
        }
    }

    /// The body of a POST of these points, sent now.
    #[must_use]
    pub fn body(&self, points: &[Ping]) -> Bytes {
        let batch = Batch { session_id: self.session, sent_at: self.clock(), points };
        serde_json::to_vec(&batch).map(Bytes::from).unwrap_or_default()
    }

    fn clock(&self) -> Timestamp {
        Timestamp::from_micros(machine_time().micros().saturating_add(self.skew_us))
    }
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

fn blurred(point: Point, metres: f64, rng: &mut impl Rng) -> Point {
    let mut off = || (rng.random::<f64>() - 0.5) * metres / METRES_PER_DEGREE;
    let (north, east) = (off(), off() / point.lat().to_radians().cos().max(0.01));
    Point::new(point.lat() + north, point.lng() + east).unwrap_or(point)
}

#[cfg(test)]
mod tests {
    use super::Walker;
    use crate::city::motion::Car;
    use common::{clock::Timestamp, geo::Point};
    use rand::{SeedableRng, rngs::ChaCha8Rng};
    use serde_json::Value;
    use std::time::Duration;
    use uuid::Uuid;

    #[test]
    fn a_batch_says_when_each_point_was_and_counts_on() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let car = Car::parked(Point::new(57.7, 11.97).unwrap());
        let mut walker = Walker::new(Uuid::from_u128(1), 0);
        let now = Duration::from_secs(100);
        let points =
            [9, 5, 0].map(|age| walker.ping(&car, now, Duration::from_secs(age), &mut rng));
        let body: Value = serde_json::from_slice(&walker.body(&points)).unwrap();
        let sequence: Vec<u64> =
            body["points"].as_array().unwrap().iter().map(|p| p["seq"].as_u64().unwrap()).collect();
        assert_eq!(sequence, [1, 2, 3]);
        let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
        let sent = time(&body["sent_at"]);
        let ages = [0, 1, 2].map(|at| sent.since(time(&body["points"][at]["ts"])).as_millis());
        assert!(ages[0] >= 8990 && ages[1] >= 4990 && ages[2] < 1000, "{ages:?}");
    }

    #[test]
    fn a_wrong_clock_is_wrong_in_all_that_the_phone_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let car = Car::parked(Point::new(57.7, 11.97).unwrap());
        let hour_us = 3_600_000_000;
        let mut walker = Walker::new(Uuid::from_u128(1), hour_us);
        let point = walker.ping(&car, Duration::ZERO, Duration::ZERO, &mut rng);
        let ahead_us = point.ts.micros() - common::clock::machine_time().micros();
        assert!((hour_us - ahead_us).abs() < 60_000_000, "{ahead_us}");
    }
}
