//! Bad input: each has its code, and nothing of it is stored.

use std::time::Duration;

use axum::http::Method;
use common::auth::Role;
use serde_json::json;

use crate::{
    phone::{Phone, way},
    world::World,
};

struct Case {
    what: &'static str,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
    status: u16,
    code: &'static str,
}

const JSON: (&str, &str) = ("content-type", "application/json");

fn case(
    what: &'static str,
    request: (Method, impl Into<String>),
    headers: &[(&'static str, &str)],
    body: &(impl ToString + ?Sized),
    status: u16,
    code: &'static str,
) -> Case {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let (method, path) = (request.0, request.1.into());
    Case { what, method, path, headers, body: body.to_string(), status, code }
}

fn quote_cases(bearer: &str) -> Vec<Case> {
    let quotes = || (Method::POST, "/v1/quotes");
    let known = [("authorization", bearer), JSON];
    let with = |field: &str, place: serde_json::Value| {
        let mut body = way();
        body[field] = place;
        body
    };
    vec![
        case("no JSON", quotes(), &known, "{", 400, "malformed_json"),
        case("wrong type", quotes(), &known, r#"{"pickup":1}"#, 422, "validation_failed"),
        case(
            "off the earth",
            quotes(),
            &known,
            &with("pickup", json!({ "lat": 91, "lng": 0 })),
            422,
            "validation_failed",
        ),
        case(
            "unknown product",
            quotes(),
            &known,
            &with("product", json!("rocket")),
            422,
            "validation_failed",
        ),
        case(
            "nowhere to go",
            quotes(),
            &known,
            &with("dropoff", way()["pickup"].clone()),
            422,
            "pickup_is_dropoff",
        ),
        case(
            "pickup outside",
            quotes(),
            &known,
            &with("pickup", json!({ "lat": 59.0, "lng": 11.97 })),
            422,
            "outside_service_area",
        ),
        case(
            "dropoff outside",
            quotes(),
            &known,
            &with("dropoff", json!({ "lat": 59.0, "lng": 11.97 })),
            422,
            "outside_service_area",
        ),
        case(
            "no road",
            quotes(),
            &known,
            &with("dropoff", json!({ "lat": 57.6, "lng": 14.0 })),
            422,
            "no_route",
        ),
        case("too much", quotes(), &known, &"x".repeat(70_000), 413, "payload_too_large"),
        case("no type", quotes(), &known[..1], &way(), 415, "unsupported_media_type"),
    ]
}

fn caller_cases(world: &World, phone: &Phone) -> Vec<Case> {
    let ttl = Duration::from_secs(60);
    let bearer =
        |role, ttl| format!("Bearer {}", world.issuer.issue(role, phone.rider.0, ttl).unwrap());
    let list = || (Method::GET, "/v1/trips");
    let expired = bearer(Role::Rider, Duration::ZERO);
    let driver = bearer(Role::Driver, ttl);
    vec![
        case("nobody", list(), &[], "", 401, "unauthenticated"),
        case("rubbish", list(), &[("authorization", "Bearer x")], "", 401, "unauthenticated"),
        case("too late", list(), &[("authorization", &expired)], "", 401, "token_expired"),
        case("a driver", list(), &[("authorization", &driver)], "", 403, "wrong_role"),
    ]
}

fn trip_cases(bearer: &str, foreign_fare: &str, foreign_trip: &str) -> Vec<Case> {
    let trips = || (Method::POST, "/v1/trips");
    let known = [("authorization", bearer), JSON];
    let keyed = [("authorization", bearer), JSON, ("idempotency-key", "k")];
    let long = "k".repeat(300);
    let too_long = [("authorization", bearer), JSON, ("idempotency-key", long.as_str())];
    let fare = |fare_id: &str| json!({ "fare_id": fare_id });
    let unknown = "00000000-0000-0000-0000-000000000001";
    let of = |method: Method, trip: &str, rest: &str| (method, format!("/v1/trips/{trip}{rest}"));
    let reason = json!({ "reason": "other" });
    let cancel = || of(Method::POST, foreign_trip, "/cancel");
    vec![
        case("no key", trips(), &known, &fare(foreign_fare), 400, "idempotency_key_missing"),
        case("long key", trips(), &too_long, &fare("x"), 422, "validation_failed"),
        case("long key to end", cancel(), &too_long, &reason, 422, "validation_failed"),
        case("no fare", trips(), &keyed, "{}", 422, "validation_failed"),
        case("forged fare", trips(), &keyed, &fare("forged"), 422, "fare_invalid"),
        case("another's fare", trips(), &keyed, &fare(foreign_fare), 422, "fare_invalid"),
        case("unknown trip", of(Method::GET, unknown, ""), &known, "", 404, "trip_not_found"),
        case("no id", of(Method::GET, "x", ""), &known, "", 404, "not_found"),
        case("another's", of(Method::GET, foreign_trip, ""), &known, "", 404, "trip_not_found"),
        case(
            "another's feed",
            of(Method::GET, foreign_trip, "/events"),
            &known,
            "",
            404,
            "trip_not_found",
        ),
        case(
            "another's receipt",
            of(Method::GET, foreign_trip, "/receipt"),
            &known,
            "",
            404,
            "trip_not_found",
        ),
        case("another's to cancel", cancel(), &known, &reason, 404, "trip_not_found"),
        case(
            "no reason",
            of(Method::POST, foreign_trip, "/cancel"),
            &known,
            &json!({ "reason": "boredom" }),
            422,
            "validation_failed",
        ),
        case(
            "six stars",
            of(Method::POST, foreign_trip, "/rating"),
            &known,
            &json!({ "stars": 6 }),
            422,
            "validation_failed",
        ),
        case("no page", (Method::GET, "/v1/trips?limit=0"), &known, "", 422, "validation_failed"),
        case(
            "no cursor",
            (Method::GET, "/v1/trips?cursor=x"),
            &known,
            "",
            422,
            "validation_failed",
        ),
        case(
            "no number",
            (Method::GET, "/v1/products?lat=x&lng=1"),
            &known,
            "",
            422,
            "validation_failed",
        ),
        case("no such path", (Method::GET, "/v1/nothing"), &known, "", 404, "not_found"),
        case(
            "no such method",
            (Method::DELETE, "/v1/trips"),
            &known,
            "",
            405,
            "method_not_allowed",
        ),
    ]
}

#[tokio::test]
async fn every_bad_request_has_its_code_and_leaves_nothing_behind() {
    let world = World::new().await;
    let running = world.start().await;
    let (phone, other) = (world.phone(&running), world.phone(&running));
    let foreign_trip = other.ride("k").await.to_string();
    let foreign_fare = other.quote().await;
    let bearer = phone.bearer();
    let cases = quote_cases(&bearer)
        .into_iter()
        .chain(caller_cases(&world, &phone))
        .chain(trip_cases(&bearer, &foreign_fare, &foreign_trip));
    for case in cases {
        let headers: Vec<_> =
            case.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = phone.send(case.method, &case.path, &headers, case.body).await;
        let found = (answer.status.as_u16(), answer.code());
        assert_eq!(found, (case.status, case.code), "{}: {}", case.what, answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{}", case.what);
        assert!(!answer.body["trace_id"].as_str().unwrap().is_empty(), "{}", case.what);
    }
    let mine = phone.get("/v1/trips").await.expect(200);
    assert_eq!(mine.body["items"], json!([]));
    running.stop().await;
    let events = world.rider_events().await;
    assert!(events.iter().all(|(envelope, _)| envelope.subject == other.rider.0));
}
