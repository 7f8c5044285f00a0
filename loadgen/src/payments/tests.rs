//! What a caller may rely on, and what it may not.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Book, ChargeRequest, Faults, Refusal, router};

fn fare(key: &str) -> ChargeRequest {
    ChargeRequest {
        idempotency_key: key.to_owned(),
        reference: "trip-1:fare".to_owned(),
        amount_minor: 12_300,
        currency: "SEK".to_owned(),
    }
}

async fn call(app: &Router, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path);
    let request = match body {
        Some(body) => {
            request.header("content-type", "application/json").body(Body::from(body.to_string()))
        }
        None => request.body(Body::empty()),
    };
    let response = app.clone().oneshot(request.unwrap()).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn charge_json(key: &str) -> Value {
    json!({"idempotency_key": key, "reference": "trip-1:fare", "amount_minor": 12_300, "currency": "SEK"})
}

#[test]
fn the_same_key_is_charged_once() {
    let mut book = Book::default();
    let (first, is_new) = book.charge(&fare("k")).unwrap();
    assert!(is_new);
    assert_eq!(book.charge(&fare("k")), Ok((first, false)));
    assert_eq!(book.list(None).len(), 1);
}

#[test]
fn another_charge_under_the_same_key_is_refused() {
    let mut book = Book::default();
    book.charge(&fare("k")).unwrap();
    let other = ChargeRequest { amount_minor: 1, ..fare("k") };
    assert_eq!(book.charge(&other), Err(Refusal::KeyReused));
}

#[test]
fn a_forgotten_key_charges_again_and_the_reference_still_tells() {
    let mut book = Book::default();
    book.charge(&fare("k")).unwrap();
    book.forget_keys();
    assert!(book.charge(&fare("k")).unwrap().1);
    assert_eq!(book.list(Some("trip-1:fare")).len(), 2);
    assert!(book.list(Some("trip-2:fare")).is_empty());
}

#[test]
fn nothing_is_charged_for_nothing() {
    let mut book = Book::default();
    for wrong in [
        ChargeRequest { amount_minor: 0, ..fare("k") },
        ChargeRequest { amount_minor: -5, ..fare("k") },
        ChargeRequest { currency: "kr".to_owned(), ..fare("k") },
        ChargeRequest { reference: String::new(), ..fare("k") },
    ] {
        assert_eq!(book.charge(&wrong), Err(Refusal::Invalid), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_charge_is_created_once_and_answered_twice() {
    let app = router(Faults::default());
    let (status, first) = call(&app, "POST", "/v1/charges", Some(charge_json("k"))).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(first["status"], "succeeded");
    let (status, second) = call(&app, "POST", "/v1/charges", Some(charge_json("k"))).await;
    assert_eq!((status, second), (StatusCode::OK, first.clone()));
    let (_, found) = call(&app, "GET", "/v1/charges?reference=trip-1:fare", None).await;
    assert_eq!(found, json!({"charges": [first]}));
}

#[tokio::test]
async fn in_an_outage_nothing_is_charged_and_it_can_be_ended() {
    let app = router(Faults { outage: true, ..Faults::default() });
    let (status, _) = call(&app, "POST", "/v1/charges", Some(charge_json("k"))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let (status, _) = call(&app, "PUT", "/v1/faults", Some(json!({"outage": false}))).await;
    assert_eq!(status, StatusCode::OK);
    let (_, all) = call(&app, "GET", "/v1/charges", None).await;
    assert_eq!(all, json!({"charges": []}));
}

#[tokio::test]
async fn a_failure_leaves_the_caller_in_doubt() {
    // At a rate of 1 every call fails, and over many of them some took the money and some did not.
    let app = router(Faults { failure_rate: 1.0, ..Faults::default() });
    for number in 0..64 {
        let body = Some(charge_json(&format!("k{number}")));
        let (status, _) = call(&app, "POST", "/v1/charges", body).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    let (_, all) = call(&app, "GET", "/v1/charges", None).await;
    let taken = all["charges"].as_array().unwrap().len();
    assert!((1..64).contains(&taken), "{taken}");
}

#[tokio::test]
async fn faults_out_of_range_are_refused() {
    let app = router(Faults::default());
    let (status, _) = call(&app, "PUT", "/v1/faults", Some(json!({"failure_rate": 1.5}))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}
