//! How long an accepted ping takes until the whole system can find it: one more driver sends
//! points that tell themselves apart, and asks `location` over the broker after each 202.

use std::{sync::Arc, time::Duration};

use common::{
    contract::{self, v1},
    geo::Point,
    subject,
};
use prost::Message;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::fleet::{count_answer, ping_ask};
use crate::{
    client::{Phone, PhoneContext, Role, Service},
    report::Latencies,
};

/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// What is not found by then is lost.
const FOUND_WITHIN: Duration = Duration::from_secs(5);
/// Between two places: far enough to tell apart, near enough for a pedestrian.
const STEP_E7: i32 = 50;
/// Steps in one direction before the probe turns round.
const STEPS: i32 = 1000;
/// Differences that may come from the phone's decimals or the index's grid.
const CLOSE_E7: i32 = 20;

/// What the probes saw.
#[derive(Debug, Default)]
pub struct Probed {
    /// From the 202 until a query gave the point; the query itself included.
    pub queryable: Latencies,
    /// Accepted points that no query gave in time.
    pub lost: u64,
}

/// A probe at one place.
#[derive(Debug)]
pub struct Probe {
    phone: Arc<Phone>,
    nats: async_nats::Client,
    start: Point,
}

impl Probe {
    /// A probe that stands there.
    #[must_use]
    pub fn new(
        nats: async_nats::Client,
        service: Service,
        context: PhoneContext,
        start: Point,
    ) -> Self {
        let driver = common::id::DriverId::fresh().0;
        let phone = Arc::new(Phone::new(Role::Driver, driver, service, context));
        Self { phone, nats, start }
    }

    /// Probes until the shutdown.
    pub async fn run(self, shutdown: CancellationToken) -> Probed {
        let session = Uuid::from(common::id::SessionId::fresh());
        let mut probed = Probed::default();
        let mut ticks = tokio::time::interval(PROBE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut number: i32 = 0;
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            number = number.wrapping_add(1);
            let place = self.place(number);
            if self.post(session, number, place).await {
                match self.found(place).await {
                    Some(took) => probed.queryable.record(took),
                    None => probed.lost += 1,
                }
            }
        }
        probed
    }

    /// There and back again, so that the probe stays in its street.
    fn place(&self, number: i32) -> (i32, i32) {
        let (lat, lng) = self.start.to_e7();
        let step = number.rem_euclid(2 * STEPS);
        (lat + STEP_E7 * step.min(2 * STEPS - step), lng)
    }

    async fn post(&self, session: Uuid, number: i32, (lat_e7, lng_e7): (i32, i32)) -> bool {
        let now = common::clock::machine_time();
        let (lat, lng) = (f64::from(lat_e7) / 1e7, f64::from(lng_e7) / 1e7);
        let point = json!({"seq": number, "ts": now, "lat": lat, "lng": lng, "acc": 4.0});
        let body = json!({"session_id": session, "sent_at": now, "points": [point]});
        let answer = self.phone.try_ask(&ping_ask(body.to_string().into())).await;
        count_answer(&answer, 1, self.phone.journal(), self.phone.pulse());
        answer.is_ok_and(|answer| answer.is_success())
    }

    async fn found(&self, (lat_e7, _): (i32, i32)) -> Option<Duration> {
        let accepted = Instant::now();
        let request = v1::DriverPositionRequest { driver_id: self.phone.id().as_bytes().to_vec() };
        let query = request.encode_to_vec();
        while accepted.elapsed() < FOUND_WITHIN {
            let asked = self.nats.request(subject::QUERY_DRIVER, query.clone().into()).await;
            let Ok(message) = asked else {
                tokio::time::sleep(PROBE_EVERY).await;
                continue;
            };
            let reply = contract::decode::<v1::DriverPositionReply>("reply", &message.payload).ok();
            let seen = reply.and_then(|reply| reply.position).map(|position| position.lat_e7);
            if seen.is_some_and(|seen| seen.abs_diff(lat_e7) <= CLOSE_E7.unsigned_abs()) {
                return Some(accepted.elapsed());
            }
        }
        None
    }
}
