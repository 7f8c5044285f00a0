//! What `location` hears of a phone: asked for, never stored here.

use std::time::Duration;

use common::{contract::v1, id::DriverId, nats::Nats, subject::QUERY_DRIVER};
use prost::Message as _;
use serde::Serialize;

/// `location` answers from memory. Without an answer the phone is shown what is known.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);

/// Whether the phone is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Liveness {
    #[default]
    Unknown,
    Live,
    Stale,
    Lost,
}

/// How the phone's pings were classed.
#[derive(Debug, Clone, Copy, Default, Serialize, utoipa::ToSchema)]
pub(crate) struct PingCounts {
    fresh: u64,
    late: u64,
    duplicate: u64,
    clamped: u64,
    implausible: u64,
}

/// What `location` knows of a phone.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Heard {
    pub(crate) pings: PingCounts,
    pub(crate) liveness: Liveness,
    /// The phone's clock minus the gateway's, as measured from pings.
    pub(crate) clock_offset_in_ms: i64,
}

/// Asks `location` what it hears of this phone. No answer is no obstacle: the state of a driver
/// does not depend on it.
pub(crate) async fn heard(nats: &Nats, driver: DriverId) -> Heard {
    let request = v1::DriverPositionRequest { driver_id: driver.to_vec() }.encode_to_vec();
    let asked = nats.client.request(QUERY_DRIVER, request.into());
    let reply = match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(reply)) => v1::DriverPositionReply::decode(reply.payload).unwrap_or_default(),
        Ok(Err(_)) | Err(_) => v1::DriverPositionReply::default(),
    };
    let counts = reply.counts.unwrap_or_default();
    Heard {
        pings: PingCounts {
            fresh: counts.fresh,
            late: counts.late,
            duplicate: counts.duplicate,
            clamped: counts.clamped,
            implausible: counts.implausible,
        },
        liveness: match reply.liveness() {
            v1::Liveness::Unspecified => Liveness::Unknown,
            v1::Liveness::Live => Liveness::Live,
            v1::Liveness::Stale => Liveness::Stale,
            v1::Liveness::Lost => Liveness::Lost,
        },
        clock_offset_in_ms: reply.clock_offset_us / 1000,
    }
}
