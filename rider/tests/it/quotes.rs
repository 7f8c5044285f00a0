//! What a ride would cost.

use serde_json::json;

use crate::{
    phone::way,
    world::{DISTANCE_M, World},
};

#[tokio::test]
async fn a_quote_says_what_a_ride_costs_and_why_and_until_when() {
    let world = World::new().await;
    let running = world.start().await;
    let answer = world.phone(&running).post("/v1/quotes", None, way()).await.expect(201);
    let quote = &answer.body["quotes"][0];
    // 39.00 + 5 km x 11.50 + 10 min x 4.20
    assert_eq!(quote["fare"], json!({ "amount_minor": 13_850, "currency": "SEK" }));
    assert_eq!(quote["breakdown"][1]["item"], "distance");
    assert_eq!(quote["distance_m"], DISTANCE_M);
    assert_eq!(quote["duration_in_ms"], 600_000);
    assert_eq!(quote["pickup_eta_in_ms"], 240_000);
    assert_eq!(quote["expires_in_ms"], 120_000);
    assert_eq!(quote["surge"], 1.0);
}

#[tokio::test]
async fn products_say_their_rates_and_how_far_the_next_car_is() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    let answer = phone.get("/v1/products?lat=57.7&lng=11.97").await.expect(200);
    let product = &answer.body["products"][0];
    assert_eq!(product["product"], "standard");
    assert_eq!(product["pickup_eta_in_ms"], 240_000);
    let answer = phone.get("/v1/products?lat=58.7&lng=11.97").await.expect(422);
    assert_eq!(answer.code(), "outside_service_area");
}

#[tokio::test]
async fn without_the_broker_nobody_can_say_a_price_and_the_phone_may_ask_again() {
    let mut world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    phone.quote().await;
    world.broker.kill().await.unwrap();
    let answer = phone.post("/v1/quotes", None, way()).await.expect(503);
    assert_eq!(answer.code(), "unavailable");
    assert_eq!(answer.body["retryable"], true);
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn the_api_describes_itself() {
    let world = World::new().await;
    let running = world.start().await;
    let document = world.phone(&running).get("/openapi.json").await.expect(200).body;
    for path in [
        "/v1/products",
        "/v1/quotes",
        "/v1/trips",
        "/v1/trips/{id}",
        "/v1/trips/{id}/events",
        "/v1/trips/{id}/cancellation",
        "/v1/trips/{id}/cancel",
        "/v1/trips/{id}/receipt",
        "/v1/trips/{id}/rating",
        "/v1/dev/token",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}
