//! A store that fills up: positions are given up first, what a driver does never.

use common::{
    id::{DriverId, SessionId},
    stream,
    testing::{self, eventually},
};
use serde_json::json;

use crate::world::{STORE_MAX_BYTES, World};

#[tokio::test]
async fn a_store_that_fills_up_refuses_positions_and_nothing_that_a_driver_does() {
    let world = World::new().await;
    let (_, phone, pair) = world.offered().await;
    let at = "2026-01-01T00:00:00Z";
    let point = json!({ "seq": 1, "ts": at, "lat": 57.7, "lng": 11.97 });
    let body = json!({ "session_id": SessionId::fresh(), "sent_at": at, "points": [point] });
    let send = async || phone.post("/v1/driver/locations", body.clone()).await;
    send().await.expect(202);

    testing::fill(&world.nats, STORE_MAX_BYTES * 90 / 100).await;
    let refused = eventually("positions are refused", async || {
        Some(send().await).filter(|answer| answer.status != 202)
    })
    .await;
    assert_eq!(refused.headers["retry-after"], "10");
    assert_eq!(refused.body["retryable"], true);
    assert!(refused.body["next_interval_ms"].as_u64().unwrap() > 5_000);
    refused.expect_problem(503, "overloaded");
    phone.post(&format!("/v1/driver/offers/{}/decline", pair.offer), json!({})).await.expect(200);
    world.phone(DriverId::fresh()).duty("online").await.expect(200);

    let dead = world.nats.admin.get_stream(stream::DLQ).await.unwrap();
    dead.purge().await.unwrap();
    eventually("positions are taken again", async || send().await.status == 202).await;
}
