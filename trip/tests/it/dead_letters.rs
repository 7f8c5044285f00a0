//! Operations and the dead-letter queue, over HTTP.

use common::{auth::Role, testing::eventually};
use serde_json::{Value, json};
use trip::domain::Terms;

use crate::{rides::Ride, world::World};

const STANDARD: Terms = Terms::STANDARD;

/// A service that could not read one rider's event.
async fn with_a_letter() -> (World, u64) {
    let world = World::serving(STANDARD).await;
    let subject = world.nats.partitions.rider_event(Ride::new().rider);
    world.publish_raw(subject, "rubbish").await;
    let console = world.console();
    let letter = eventually("it is put aside", async || {
        let page = console.get("/v1/ops/dlq").await.expect(200).body;
        page["items"][0]["sequence"].as_u64()
    })
    .await;
    (world, letter)
}

async fn run_of(world: &World, started: Value) -> Value {
    let path = format!("/v1/ops/dlq/replays/{}", started["run"].as_str().unwrap());
    let console = world.console();
    eventually("the replay is over", async || {
        let run = console.get(&path).await.expect(200).body;
        matches!(run["status"].as_str(), Some("done" | "stopped")).then_some(run)
    })
    .await
}

#[tokio::test]
async fn a_letter_tells_what_it_was_and_why_it_is_there() {
    let (world, letter) = with_a_letter().await;
    let whole = world.console().get(&format!("/v1/ops/dlq/{letter}")).await.expect(200).body;
    assert_eq!(whole["class"], "permanent");
    assert_eq!(whole["attempts"], 1);
    assert_eq!(whole["stream"], "RIDER");
    assert_eq!(whole["state"], "open");
    assert_eq!(whole["size"], 7);
    assert_eq!(whole["payload_base64"], "cnViYmlzaA==");
    assert_eq!(whole["history"], json!([]));
    let listed = world.console().get("/v1/ops/dlq?class=permanent&state=open").await.expect(200);
    assert_eq!(listed.body["items"][0]["size"], 7);
    let none = world.console().get("/v1/ops/dlq?class=hung").await.expect(200);
    assert_eq!(none.body["items"], json!([]));
    world.console().get("/v1/ops/dlq?class=odd").await.expect_problem(422, "validation_failed");
    world.console().get("/v1/ops/dlq/9999").await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn a_replay_that_fails_again_says_so_and_who_wanted_it() {
    let (world, letter) = with_a_letter().await;
    let console = world.console();
    let order = json!({ "reason": "perhaps now" });
    let started = console.post(&format!("/v1/ops/dlq/{letter}/replay"), order).await.expect(202);
    let run = run_of(&world, started.body).await;
    assert_eq!(run["status"], "stopped", "{run}");
    assert_eq!(run["failed"], 1);
    let whole = console.get(&format!("/v1/ops/dlq/{letter}")).await.expect(200).body;
    assert_eq!(whole["state"], "failed");
    assert_eq!(whole["history"][0]["reason"], "perhaps now");
    assert_eq!(whole["history"][0]["by"], uuid::Uuid::nil().to_string());
    assert_eq!(whole["history"][0]["outcome"], "failed");
    let filter = json!({ "filter": { "consumer": "trip-request" }, "reason": "once more" });
    let started = console.post("/v1/ops/dlq/replay", filter).await.expect(202);
    assert_eq!(run_of(&world, started.body).await["selected"], 1);
    let runs = console.get("/v1/ops/dlq/replays").await.expect(200).body;
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(runs["items"][0]["reason"], "once more");
}

#[tokio::test]
async fn a_letter_is_discarded_once_and_with_a_reason() {
    let (world, letter) = with_a_letter().await;
    let console = world.console();
    let path = format!("/v1/ops/dlq/{letter}/discard");
    console.post(&path, json!({ "reason": " " })).await.expect_problem(422, "validation_failed");
    console.post(&path, json!({})).await.expect_problem(422, "validation_failed");
    let discarded = console.post(&path, json!({ "reason": "a stray" })).await.expect(200);
    assert_eq!(discarded.body, json!({ "discarded": 1, "skipped": 0 }));
    let again = console.post(&path, json!({ "reason": "a stray" })).await;
    assert_eq!(again.expect_problem(409, "letter_resolved").body["current_state"], "discarded");
    let replay = format!("/v1/ops/dlq/{letter}/replay");
    let replayed = console.post(&replay, json!({ "reason": "no" })).await;
    replayed.expect_problem(409, "letter_resolved");
}

#[tokio::test]
async fn nobody_replays_or_discards_everything_by_mistake() {
    let (world, _) = with_a_letter().await;
    let console = world.console();
    for action in ["replay", "discard"] {
        let path = format!("/v1/ops/dlq/{action}");
        let all = json!({ "filter": {}, "reason": "all" });
        console.post(&path, all).await.expect_problem(422, "validation_failed");
        let odd = json!({ "filter": { "consumers": "x" }, "reason": "all" });
        console.post(&path, odd).await.expect_problem(422, "validation_failed");
    }
    let fast = json!({ "filter": { "stream": "RIDER" }, "reason": "x", "rate_per_s": 0 });
    console.post("/v1/ops/dlq/replay", fast).await.expect_problem(422, "validation_failed");
    let many = json!({ "filter": { "stream": "RIDER" }, "reason": "strays" });
    let discarded = console.post("/v1/ops/dlq/discard", many).await.expect(200);
    assert_eq!(discarded.body["discarded"], 1);
}

#[tokio::test]
async fn only_operations_give_orders() {
    let (world, letter) = with_a_letter().await;
    for path in [
        "/v1/ops/dlq/replay".to_owned(),
        "/v1/ops/dlq/discard".to_owned(),
        format!("/v1/ops/dlq/{letter}/replay"),
        format!("/v1/ops/dlq/{letter}/discard"),
    ] {
        let body = json!({ "reason": "x", "filter": { "stream": "RIDER" } });
        world.console_as(Role::Driver).post(&path, body).await.expect_problem(403, "wrong_role");
    }
    let runs = world.console_as(Role::Rider).get("/v1/ops/dlq/replays").await;
    runs.expect_problem(403, "wrong_role");
}
