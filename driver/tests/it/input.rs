//! Bad input: each kind has its code, and nothing is stored or lost by any of it.

use std::time::Duration;

use axum::http::Method;
use common::{
    auth::Role,
    id::{DriverId, SessionId},
    stream,
};
use serde_json::json;
use uuid::Uuid;

use crate::world::World;

const JSON: (&str, &str) = ("content-type", "application/json");

/// A request whose body cannot be, and what is said of it.
struct Case {
    method: Method,
    path: &'static str,
    body: String,
    problem: (u16, &'static str),
}

#[allow(clippy::needless_pass_by_value, reason = "so that the table reads without borrows")]
fn case(
    method: Method,
    path: &'static str,
    body: impl ToString,
    problem: (u16, &'static str),
) -> Case {
    Case { method, path, body: body.to_string(), problem }
}

const TRIP: &str = "/v1/driver/trips/00000000-0000-0000-0000-000000000001";
const ARRIVE: &str = "/v1/driver/trips/00000000-0000-0000-0000-000000000001/arrive";
const START: &str = "/v1/driver/trips/00000000-0000-0000-0000-000000000001/start";
const CANCEL: &str = "/v1/driver/trips/00000000-0000-0000-0000-000000000001/cancel";
const DECLINE: &str = "/v1/driver/offers/00000000-0000-0000-0000-000000000001/decline";
const PINGS: &str = "/v1/driver/locations";
const STATUS: &str = "/v1/driver/status";

fn table() -> Vec<Case> {
    let invalid = (422, "validation_failed");
    let malformed = (400, "malformed_json");
    let session = SessionId::fresh();
    let at = "2026-01-01T00:00:00Z";
    let point = |seq: u64| json!({ "seq": seq, "ts": at, "lat": 57.7, "lng": 11.97 });
    let points = |points: serde_json::Value| json!({ "session_id": session, "sent_at": at, "points": points });
    let (put, post) = (|| Method::PUT, || Method::POST);
    vec![
        case(put(), STATUS, r#"{"duty":"#, malformed),
        case(put(), STATUS, "", malformed),
        case(put(), STATUS, r#"{"duty":"asleep"}"#, invalid),
        case(put(), STATUS, r#"{"duty":1}"#, invalid),
        case(put(), STATUS, "{}", invalid),
        case(put(), STATUS, "[]", invalid),
        case(post(), PINGS, "{]", malformed),
        case(post(), PINGS, points(json!([])), invalid),
        case(post(), PINGS, points(json!((0..101).map(point).collect::<Vec<_>>())), invalid),
        case(post(), PINGS, points(json!([{ "seq": 1, "ts": at, "lat": 91, "lng": 0 }])), invalid),
        case(post(), PINGS, points(json!([{ "seq": -1, "ts": at, "lat": 1, "lng": 0 }])), invalid),
        case(
            post(),
            PINGS,
            points(json!([{ "seq": 1, "ts": "now", "lat": 1, "lng": 0 }])),
            invalid,
        ),
        case(post(), PINGS, points(json!([{ "seq": 1, "ts": at, "lat": "1", "lng": 0 }])), invalid),
        case(
            post(),
            PINGS,
            json!({ "session_id": "me", "sent_at": at, "points": [point(1)] }),
            invalid,
        ),
        case(post(), PINGS, "x".repeat(70_000), (413, "payload_too_large")),
        case(post(), ARRIVE, json!({ "position": { "lat": 91, "lng": 0 } }), invalid),
        case(post(), ARRIVE, json!({ "position": null }), invalid),
        case(post(), START, json!({ "pin": "12" }), invalid),
        case(post(), START, json!({ "pin": "12a4" }), invalid),
        case(post(), START, json!({ "pin": 1234 }), invalid),
        case(post(), CANCEL, json!({ "reason": "bored" }), invalid),
        case(post(), DECLINE, json!({ "reason": "x".repeat(65) }), invalid),
        case(post(), "/v1/driver/offers/17/accept", "{}", (404, "not_found")),
        case(post(), "/v1/driver/trips/me/no-show", "{}", (404, "not_found")),
        case(post(), TRIP, "{}", (404, "not_found")),
        case(Method::DELETE, STATUS, "", (405, "method_not_allowed")),
        case(Method::GET, "/v1/driver/earnings?day=today", "", invalid),
    ]
}

#[tokio::test]
async fn what_cannot_be_has_a_code_and_stores_nothing() {
    let world = World::new().await;
    let phone = world.phone(DriverId::fresh());
    let bearer = phone.bearer();
    let headers = [("authorization", bearer.as_str()), JSON];
    for Case { method, path, body, problem: (status, code) } in table() {
        let shown = format!("{method} {path} {:.60}", body);
        let answer = phone.send(method, path, &headers, body).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["code"]),
            (status, &json!(code)),
            "{shown}"
        );
        answer.expect_problem(status, code);
    }
    let text = [("authorization", bearer.as_str()), ("content-type", "text/plain")];
    phone
        .send(Method::PUT, STATUS, &text, r#"{"duty":"online"}"#)
        .await
        .expect_problem(415, "unsupported_media_type");
    for name in [stream::DRIVER, stream::PINGS] {
        let mut stream = world.nats.jetstream.get_stream(name).await.unwrap();
        assert_eq!(stream.info().await.unwrap().state.messages, 0, "{name}");
    }
}

#[tokio::test]
async fn only_a_driver_with_a_fresh_token_comes_in() {
    let world = World::new().await;
    let routes = [
        (Method::PUT, STATUS, r#"{"duty":"online"}"#),
        (Method::GET, "/v1/driver/state", ""),
        (Method::GET, "/v1/driver/events", ""),
        (Method::GET, "/v1/driver/earnings", ""),
        (Method::POST, PINGS, "{}"),
        (Method::POST, DECLINE, "{}"),
        (Method::POST, "/v1/driver/offers/00000000-0000-0000-0000-000000000001/accept", "{}"),
        (Method::POST, ARRIVE, "{}"),
        (Method::POST, START, "{}"),
        (Method::POST, CANCEL, "{}"),
        (Method::POST, "/v1/driver/trips/00000000-0000-0000-0000-000000000001/complete", "{}"),
        (Method::POST, "/v1/driver/trips/00000000-0000-0000-0000-000000000001/no-show", "{}"),
    ];
    let driver = Uuid::from_u128(1);
    let phone = |role, ttl| world.phone_as(role, driver, Duration::from_secs(ttl));
    for (method, path, body) in routes {
        for (phone, status, code) in [
            (phone(Role::Rider, 60), 403, "wrong_role"),
            (phone(Role::Ops, 60), 403, "wrong_role"),
            (phone(Role::Driver, 0), 401, "token_expired"),
        ] {
            let bearer = phone.bearer();
            let headers = [("authorization", bearer.as_str()), JSON];
            phone.send(method.clone(), path, &headers, body).await.expect_problem(status, code);
        }
        let phone = phone(Role::Driver, 60);
        for headers in [vec![JSON], vec![JSON, ("authorization", "Bearer rubbish")]] {
            let answer = phone.send(method.clone(), path, &headers, body).await;
            answer.expect_problem(401, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_and_not_cut_short() {
    let world = World::new().await;
    let phone = world.phone(DriverId::fresh());
    let online = json!({ "duty": "online" });
    for key in ["", "two words", &"k".repeat(256)] {
        let answer = phone.json(Method::PUT, STATUS, Some(key), online.clone()).await;
        answer.expect_problem(422, "validation_failed");
    }
    let key = "k".repeat(255);
    phone.json(Method::PUT, STATUS, Some(&key), online.clone()).await.expect(200);
    let again = phone.json(Method::PUT, STATUS, Some(&key), online).await.expect(200);
    assert_eq!(again.body["version"], 1);
}
