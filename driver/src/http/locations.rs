//! The hot path: positions of phones, thousands a second. A point is checked for what it is in
//! itself; whether it is late, repeated or plausible is `location`'s to say.

use std::fmt;

use axum::{extract::State, http::StatusCode};
use common::{
    auth::AsDriver,
    clock::Timestamp,
    geo::Point,
    http::Json,
    id::{DriverId, SessionId},
    ping::{BATCH_PINGS_MAX, BatchHead, Ping},
    problem::{Problem, ProblemBody},
    room::Load,
    subject::Partitions,
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Visitor},
};
use serde_json::json;
use uuid::Uuid;

use super::{Gateway, problems};

/// Beyond this a JSON number is no exact integer for many clients.
const SEQ_MAX: u64 = 1 << 53;

/// What a phone sends: the positions since it last got through.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct LocationsRequest {
    /// One run of the app: `seq` counts within it.
    #[schema(value_type = Uuid)]
    session_id: SessionId,
    /// When this request left, by the phone's clock.
    #[schema(value_type = Timestamp)]
    sent_at: Time,
    /// 1 to 100.
    #[schema(min_items = 1, max_items = 100)]
    points: Vec<RawPing>,
}

/// One position, as the phone made it.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct RawPing {
    /// Counts up within the session.
    seq: u64,
    /// When, by the phone's clock.
    #[schema(value_type = Timestamp)]
    ts: Time,
    /// Degrees north.
    #[schema(minimum = -90, maximum = 90)]
    lat: f64,
    /// Degrees east.
    #[schema(minimum = -180, maximum = 180)]
    lng: f64,
    /// Radius of uncertainty, metres.
    acc: Option<f64>,
    /// Metres a second; negative = not known.
    spd: Option<f64>,
    /// Degrees clockwise from north; negative = not known.
    #[schema(maximum = 360)]
    hdg: Option<f64>,
}

/// A time that is read from the request's own bytes, without a copy.
#[derive(Debug, Clone, Copy)]
struct Time(Timestamp);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rfc3339;
        impl Visitor<'_> for Rfc3339 {
            type Value = Time;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map(Time).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Rfc3339)
    }
}

/// What became of them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Accepted {
    /// Stored.
    accepted: usize,
    /// Not stored; sending them again cannot help.
    rejected: Vec<RejectedPing>,
    /// When to send next.
    next_interval_ms: u64,
}

/// A point that cannot be.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub(super) struct RejectedPing {
    seq: u64,
    #[schema(value_type = String, example = "position_out_of_range")]
    code: Defect,
}

/// What is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Defect {
    #[serde(rename = "seq_out_of_range")]
    Seq,
    #[serde(rename = "position_out_of_range")]
    Position,
    #[serde(rename = "accuracy_out_of_range")]
    Accuracy,
    #[serde(rename = "heading_out_of_range")]
    Heading,
}

impl Defect {
    fn field(self) -> &'static str {
        match self {
            Self::Seq => "seq",
            Self::Position => "lat",
            Self::Accuracy => "acc",
            Self::Heading => "hdg",
        }
    }
}

/// Send positions. Answered when they are stored; a repeated batch is harmless.
#[utoipa::path(
    post,
    path = "/v1/driver/locations",
    tag = "locations",
    request_body = LocationsRequest,
    responses(
        (status = 202, body = Accepted),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn store_locations(
    State(gateway): State<Gateway>,
    AsDriver(driver): AsDriver,
    Json(request): Json<LocationsRequest>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let LocationsRequest { session_id, sent_at, points } = request;
    let refused_interval_ms = gateway.gatherer.refused_interval_ms();
    gateway
        .room
        .admit(Load::Pings)
        .map_err(|full| Problem::from(full).with("next_interval_ms", refused_interval_ms))?;
    if points.is_empty() || points.len() > BATCH_PINGS_MAX {
        let detail = format!("1 to {BATCH_PINGS_MAX} points, not {}", points.len());
        return Err(Problem::invalid("/points", detail));
    }
    let (mut pings, mut rejected) = (Vec::with_capacity(points.len()), Vec::new());
    for raw in &points {
        match ping(raw) {
            Ok(ping) => pings.push(ping),
            Err(code) => rejected.push(RejectedPing { seq: raw.seq, code }),
        }
    }
    if pings.is_empty() {
        return Err(none_valid(&rejected));
    }
    let head = BatchHead {
        driver,
        session: session_id,
        sent_at: sent_at.0,
        received_at: gateway.nats.clock.now(),
    };
    let partition = partition_of(gateway.nats.partitions, driver);
    let gatherer = &gateway.gatherer;
    gatherer
        .store(partition, &head, &pings)
        .await
        .map_err(|err| problems::of_pings(err, refused_interval_ms))?;
    let next_interval_ms = gatherer.next_interval_ms();
    let accepted = Accepted { accepted: pings.len(), rejected, next_interval_ms };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

/// As [`Partitions::ping_of`], with the driver's text on the stack.
fn partition_of(partitions: Partitions, driver: DriverId) -> u32 {
    partitions.of(driver.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}

fn none_valid(rejected: &[RejectedPing]) -> Problem {
    let errors: Vec<_> = rejected
        .iter()
        .enumerate()
        .map(|(index, RejectedPing { code, .. })| {
            json!({ "pointer": format!("/points/{index}/{}", code.field()), "detail": code })
        })
        .collect();
    Problem::invalid("/points", "no point is valid").with("errors", errors)
}

fn ping(raw: &RawPing) -> Result<Ping, Defect> {
    if raw.seq > SEQ_MAX {
        return Err(Defect::Seq);
    }
    Ok(Ping {
        seq: raw.seq,
        at: raw.ts.0,
        position: Point::new(raw.lat, raw.lng).map_err(|_| Defect::Position)?,
        accuracy_dm: match raw.acc {
            // A phone says so when its position is not valid.
            Some(metres) if metres < 0.0 => return Err(Defect::Accuracy),
            Some(metres) => Some(whole(metres * 10.0)),
            None => None,
        },
        speed_cm_s: raw.spd.filter(|metres| *metres >= 0.0).map(|metres| whole(metres * 100.0)),
        heading_deg: match raw.hdg {
            Some(degrees) if degrees > 360.0 => return Err(Defect::Heading),
            Some(degrees) if degrees >= 0.0 => Some(whole(degrees) % 360),
            Some(_) | None => None,
        },
    })
}

/// Rounded, and at most what the wire holds: a larger accuracy or speed is as unbelievable.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of the type just before"
)]
fn whole(value: f64) -> u16 {
    value.round().clamp(0.0, f64::from(u16::MAX)) as u16
}

#[cfg(test)]
mod tests {
    use super::{Defect, LocationsRequest, RawPing, ping};

    fn raw(json: &str) -> RawPing {
        serde_json::from_str(json).unwrap()
    }

    const HERE: &str = r#""ts":"2026-01-01T00:00:00Z","lat":57.7,"lng":11.97"#;

    #[test]
    fn what_a_phone_does_not_know_is_not_known() {
        let known = ping(&raw(&format!("{{\"seq\":1,{HERE}}}"))).unwrap();
        assert_eq!((known.accuracy_dm, known.speed_cm_s, known.heading_deg), (None, None, None));
        let unknown = format!("{{\"seq\":1,{HERE},\"spd\":-1,\"hdg\":-1}}");
        let unknown = ping(&raw(&unknown)).unwrap();
        assert_eq!((unknown.speed_cm_s, unknown.heading_deg), (None, None));
    }

    #[test]
    fn units_are_those_of_the_wire_and_a_full_circle_is_north() {
        let full = format!("{{\"seq\":1,{HERE},\"acc\":4.96,\"spd\":13.89,\"hdg\":360}}");
        let full = ping(&raw(&full)).unwrap();
        assert_eq!(
            (full.accuracy_dm, full.speed_cm_s, full.heading_deg),
            (Some(50), Some(1389), Some(0))
        );
    }

    #[test]
    fn each_defect_has_its_code() {
        let defect = |text: &str| ping(&raw(text)).unwrap_err();
        let at = r#""ts":"2026-01-01T00:00:00Z""#;
        assert_eq!(defect(&format!("{{\"seq\":1,{at},\"lat\":90.5,\"lng\":0}}")), Defect::Position);
        assert_eq!(defect(&format!("{{\"seq\":1,{HERE},\"acc\":-1}}")), Defect::Accuracy);
        assert_eq!(defect(&format!("{{\"seq\":1,{HERE},\"hdg\":361}}")), Defect::Heading);
        assert_eq!(defect(&format!("{{\"seq\":9007199254740993,{HERE}}}")), Defect::Seq);
    }

    #[test]
    fn a_time_that_is_none_fails_the_request() {
        let text =
            r#"{"session_id":"00000000-0000-0000-0000-000000000001","sent_at":"soon","points":[]}"#;
        assert!(serde_json::from_str::<LocationsRequest>(text).is_err());
    }
}
