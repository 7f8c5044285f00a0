//! The API for operations.

use common::auth::Role;
use serde_json::json;
use trip::domain::{Terms, TripCommand};

use crate::{
    rides::{Ride, complete, rider_cancels},
    world::World,
};
use common::testing::eventually;

const STANDARD: Terms = Terms::STANDARD;

#[tokio::test]
async fn only_operations_come_in() {
    let world = World::serving(STANDARD).await;
    let trip = Ride::new().trip;
    let paths = [
        "/v1/ops/trips".to_owned(),
        format!("/v1/ops/trips/{trip}/timeline"),
        "/v1/ops/stream".to_owned(),
        "/v1/ops/dlq".to_owned(),
        "/v1/ops/dlq/1".to_owned(),
        "/v1/ops/invariants".to_owned(),
        "/v1/ops/matching".to_owned(),
    ];
    for path in paths {
        for role in [Role::Rider, Role::Driver] {
            world.console_as(role).get(&path).await.expect_problem(403, "wrong_role");
        }
        let nobody = world.console().send(axum::http::Method::GET, &path, &[], "").await;
        nobody.expect_problem(401, "unauthenticated");
    }
    for action in ["close", "unlock-pin"] {
        let path = format!("/v1/ops/trips/{trip}/{action}");
        let body = json!({ "completed": true, "reason": "x" });
        world.console_as(Role::Driver).post(&path, body).await.expect_problem(403, "wrong_role");
    }
}

#[tokio::test]
async fn a_timeline_tells_who_did_what_when_and_why() {
    let world = World::serving(STANDARD).await;
    let ride = Ride::new();
    world.rider_requests(ride).await;
    world.settled().await;
    world.execute(ride.trip, &crate::rides::offer(ride)).await.unwrap();
    world.driver_accepts(ride).await;
    world.settled().await;
    world.execute(ride.trip, &rider_cancels(ride)).await.unwrap();
    let path = format!("/v1/ops/trips/{}/timeline", ride.trip);
    let timeline = world.console().get(&path).await.expect(200).body;
    let events = timeline["events"].as_array().unwrap();
    let tell = |field: &str| events.iter().map(|event| event[field].clone()).collect::<Vec<_>>();
    assert_eq!(tell("kind"), ["trip.requested", "trip.offered", "trip.assigned", "trip.cancelled"]);
    assert_eq!(tell("actor"), ["rider", "system", "driver", "rider"]);
    assert_eq!(tell("version"), [1, 2, 3, 4]);
    assert!(events[0]["gap_in_ms"].is_null() && events[1]["gap_in_ms"].is_u64());
    assert!(events[0]["cause"].is_string(), "the rider's event caused it");
    assert_eq!(events[3]["detail"]["reason"], "other");
    assert_eq!(events[3]["state"]["status"], "cancelled");
    assert_eq!(events[2]["state"]["driver_id"], ride.driver.to_string());
    assert!(!timeline.to_string().contains(crate::rides::PIN), "nobody reads the pin");
    let other = format!("/v1/ops/trips/{}/timeline", Ride::new().trip);
    world.console().get(&other).await.expect_problem(404, "trip_not_found");
    world.console().get("/v1/ops/trips/none/timeline").await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn trips_are_listed_by_phase_the_latest_first() {
    let world = World::serving(STANDARD).await;
    let first = world.offered(STANDARD).await;
    let second = world.assigned(STANDARD).await;
    let third = world.offered(STANDARD).await;
    let console = world.console();
    let list = async |query: &str| {
        let body = console.get(&format!("/v1/ops/trips{query}")).await.expect(200).body;
        let items = body["items"].as_array().unwrap().clone();
        items.iter().map(|trip| trip["trip_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let id = |ride: Ride| ride.trip.to_string();
    eventually("all are seen", async || list("").await == [id(third), id(second), id(first)]).await;
    assert_eq!(list("?phase=matching").await, [id(third), id(first)]);
    assert_eq!(list("?phase=assigned&limit=1").await, [id(second)]);
    console.get("/v1/ops/trips?phase=lost").await.expect_problem(422, "validation_failed");
}

#[tokio::test]
async fn the_live_stream_shows_what_is_stored() {
    let world = World::serving(STANDARD).await;
    let mut live = world.console().follow().await;
    let ride = world.offered(STANDARD).await;
    world.driver_accepts(ride).await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let event = live.next().await.unwrap();
        assert!(event.body["sequence"].as_u64().unwrap() > 0);
        let of = if event.name == "trip" { "trip_id" } else { "driver_id" };
        assert!(event.body[of].is_string());
        seen.push(event.body["kind"].as_str().unwrap().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["driver.offer_accepted", "trip.assigned", "trip.offered", "trip.requested"]);
}

#[tokio::test]
async fn operations_close_a_ride_that_nobody_ends() {
    let world = World::serving(STANDARD).await;
    let (done, lost) = (world.on_the_road(STANDARD).await, world.on_the_road(STANDARD).await);
    let console = world.console();
    let close = async |ride: Ride, body| {
        console.post(&format!("/v1/ops/trips/{}/close", ride.trip), body).await
    };
    let completed = close(done, json!({ "completed": true, "reason": "phone died" })).await;
    assert_eq!(completed.expect(200).body["status"], "completed");
    let again = close(done, json!({ "completed": true, "reason": "phone died" })).await;
    assert_eq!(again.expect(200).body["version"], 6, "once");
    let cancelled = close(lost, json!({ "completed": false, "reason": "never moved" })).await;
    let cancelled = cancelled.expect(200).body;
    assert_eq!(cancelled["cancelled"]["by"], "operations");
    assert_eq!(cancelled["cancelled"]["fee"]["amount_minor"], 0);
    let searching = world.offered(STANDARD).await;
    let refused = close(searching, json!({ "completed": true, "reason": "why not" })).await;
    assert_eq!(refused.expect_problem(409, "wrong_phase").body["current_status"], "matching");
    let nowhere = close(Ride::new(), json!({ "completed": true, "reason": "x" })).await;
    nowhere.expect_problem(404, "trip_not_found");
    let silent = close(done, json!({ "completed": true, "reason": "" })).await;
    silent.expect_problem(422, "validation_failed");
    close(done, json!({ "completed": "yes" })).await.expect_problem(422, "validation_failed");
    world.settled().await;
    for ride in [done, lost] {
        assert!(world.sent_to(ride.driver).await.contains(&("release", ride.offer)));
    }
}

#[tokio::test]
async fn ordinary_rides_break_no_promise() {
    let world = World::serving(STANDARD).await;
    let ride = world.on_the_road(STANDARD).await;
    world.execute(ride.trip, &complete(ride)).await.unwrap();
    let rate = TripCommand::RateByRider { rider: ride.rider, stars: 5.try_into().unwrap() };
    world.execute(ride.trip, &rate).await.unwrap();
    let console = world.console();
    let standing = eventually("all events are checked", async || {
        let standing = console.get("/v1/ops/invariants").await.expect(200).body;
        (standing["trip_events"] == 7).then_some(standing)
    })
    .await;
    assert_eq!(standing["holds"], true, "{standing}");
    assert_eq!(standing["trips"], json!({ "completed": 1 }));
    assert_eq!(standing["drivers_on_trips"], 0);
}

#[tokio::test]
async fn the_document_names_every_route() {
    let world = World::serving(STANDARD).await;
    let document = world.console().get("/openapi.json").await.expect(200).body;
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/v1/ops/trips",
        "/v1/ops/trips/{trip_id}/timeline",
        "/v1/ops/trips/{trip_id}/close",
        "/v1/ops/trips/{trip_id}/unlock-pin",
        "/v1/ops/stream",
        "/v1/ops/dlq",
        "/v1/ops/dlq/{sequence}",
        "/v1/ops/dlq/{sequence}/replay",
        "/v1/ops/dlq/{sequence}/discard",
        "/v1/ops/dlq/replay",
        "/v1/ops/dlq/discard",
        "/v1/ops/dlq/replays",
        "/v1/ops/dlq/replays/{run}",
        "/v1/ops/invariants",
        "/v1/ops/matching",
        "/v1/dev/token",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    let query = &paths["/v1/ops/trips"]["get"]["parameters"];
    assert_eq!(query.as_array().map(Vec::len), Some(2), "{query}");
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let world = World::serving(STANDARD).await;
    let path = format!("/v1/ops/trips/{}/close", Ride::new().trip);
    let body = json!({ "completed": true, "reason": "x" });
    for key in ["", "two words", &"k".repeat(256)] {
        let post = axum::http::Method::POST;
        let answer = world.console().json(post, &path, Some(key), body.clone()).await;
        answer.expect_problem(422, "validation_failed");
    }
}

#[tokio::test]
async fn the_document_says_where_a_key_may_be_sent() {
    let world = World::serving(STANDARD).await;
    let document = world.console().get("/openapi.json").await.expect(200).body;
    let parameters = &document["paths"]["/v1/ops/trips/{trip_id}/close"]["post"]["parameters"];
    let key = parameters.as_array().unwrap().iter().find(|it| it["name"] == "Idempotency-Key");
    let key = key.expect("the parameter");
    assert_eq!((&key["in"], &key["required"]), (&json!("header"), &json!(false)));
    assert_eq!(key["schema"]["maxLength"], 255);
}
