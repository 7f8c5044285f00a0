//! Phones against a gateway that is as unkind as the test says.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::IntoResponse,
    routing::{get, post},
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use uuid::Uuid;

use super::{Answer, Ask, Command, Feed, HttpClient, Line, Phone, PhoneContext, Role, Service};
use crate::{
    journal::{Entry, Journal, read},
    pulse::Pulse,
};

/// Answers to give, and what was asked.
#[derive(Clone, Default)]
struct Gateway {
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    tokens: Arc<Mutex<u32>>,
}

impl Gateway {
    fn then(self, status: u16, body: Value) -> Self {
        self.answers.lock().unwrap().push_back((status, body));
        self
    }

    fn keys(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(key, _)| key.clone()).collect()
    }
}

async fn answer(
    State(gateway): State<Gateway>,
    head: HeaderMap,
    body: Json<Value>,
) -> impl IntoResponse {
    let key = head.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    gateway.asked.lock().unwrap().push((key.unwrap_or_default(), body.0));
    let (status, body) = gateway.answers.lock().unwrap().pop_front().expect("no answer left");
    (StatusCode::from_u16(status).unwrap(), Json(body))
}

async fn events(State(gateway): State<Gateway>, uri: Uri, head: HeaderMap) -> impl IntoResponse {
    let after = head.get("last-event-id").map_or("", |id| id.to_str().unwrap());
    gateway.asked.lock().unwrap().push((after.to_owned(), json!(uri.path())));
    // Half an event, and the connection ends.
    "id: 7\nevent: state\ndata: {}\n\nid: 8\nevent: state\nda"
}

async fn token(State(gateway): State<Gateway>) -> Json<Value> {
    let mut issued = gateway.tokens.lock().unwrap();
    *issued += 1;
    Json(json!({"token": format!("t{issued}"), "id": Uuid::nil(), "expires_in_ms": 1}))
}

struct Scene {
    phone: Arc<Phone>,
    service: Service,
    journal: std::path::PathBuf,
    _folder: tempfile::TempDir,
    _server: JoinSet<()>,
}

async fn scene(gateway: &Gateway) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let (journal, _writer) = Journal::create(&path).unwrap();
    let app = Router::new()
        .route("/v1/dev/token", post(token))
        .route("/v1/driver/events", get(events))
        .fallback(answer)
        .with_state(gateway.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service: Service = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.unwrap() });
    let context = PhoneContext {
        http: HttpClient::new(4),
        journal,
        pulse: Arc::new(Pulse::default()),
        issuing: Arc::new(Semaphore::new(1)),
    };
    let phone = Phone::new(Role::Rider, Uuid::from_u128(3), service.clone(), context);
    Scene { phone: Arc::new(phone), service, journal: path, _folder: folder, _server: server }
}

fn request() -> Command {
    Command::post("/v1/trips", json!({"fare_id": "long"}), Duration::from_secs(20))
}

#[tokio::test]
async fn a_command_that_is_asked_again_keeps_its_key_and_is_promised_once() {
    let busy = json!({"code": "unavailable", "retryable": true});
    let gateway = Gateway::default()
        .then(503, busy)
        .then(409, json!({"code": "idempotency_key_in_progress", "retryable": true}))
        .then(201, json!({"trip_id": Uuid::from_u128(9), "pin": "1234"}));
    let scene = scene(&gateway).await;
    let answer = scene.phone.command(&request()).await.unwrap();
    assert_eq!(answer.status, 201);
    let keys = gateway.keys();
    assert!(keys.len() == 3 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    // The promise is in the file by the time the phone knows of it.
    let lines: Vec<Entry> = read(&scene.journal).unwrap().map(Result::unwrap).collect();
    let [Entry::Attempt(attempt), Entry::Command(promise)] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!((&attempt.path, &attempt.key), (&promise.path, &promise.key));
    assert_eq!(promise.response, json!({"trip_id": Uuid::from_u128(9)}));
    assert_eq!((promise.request.clone(), promise.key.clone()), (json!({}), keys[0].clone()));
}

#[tokio::test]
async fn a_refusal_is_counted_and_promises_nothing() {
    let gateway = Gateway::default()
        .then(409, json!({"code": "trip_started", "retryable": false}))
        .then(422, json!({"code": "fare_invalid", "retryable": false}));
    let scene = scene(&gateway).await;
    scene.phone.command(&request().expecting(&["trip_started"])).await.unwrap();
    scene.phone.command(&request().expecting(&["trip_started"])).await.unwrap();
    let lines: Vec<Entry> = read(&scene.journal).unwrap().map(Result::unwrap).collect();
    assert!(matches!(lines.as_slice(), [Entry::Attempt(_), Entry::Attempt(_)]), "{lines:?}");
    let snapshot = scene.phone.pulse().snapshot(crate::journal::PingTotals::default());
    let unexpected: Vec<&str> = snapshot.unexpected().map(|one| one.code.as_str()).collect();
    assert_eq!(unexpected, ["fare_invalid"]);
}

#[tokio::test]
async fn an_expired_token_is_replaced() {
    let gateway = Gateway::default()
        .then(401, json!({"code": "token_expired", "retryable": false}))
        .then(200, json!({}));
    let scene = scene(&gateway).await;
    assert_eq!(scene.phone.command(&request()).await.unwrap().status, 200);
    assert_eq!(*gateway.tokens.lock().unwrap(), 2);
}

#[tokio::test]
async fn patience_ends() {
    let busy = || json!({"code": "unavailable", "retryable": true});
    let gateway = Gateway::default().then(503, busy()).then(503, busy());
    let scene = scene(&gateway).await;
    let command = Command { patience: Duration::from_millis(300), ..request() };
    assert!(scene.phone.command(&command).await.is_err());
}

#[tokio::test]
async fn a_feed_goes_on_after_the_last_whole_event() {
    let gateway = Gateway::default();
    let scene = scene(&gateway).await;
    let mut feed = Feed::new(Arc::clone(&scene.phone), "/v1/driver/events");
    let first = feed.next().await.unwrap();
    let second = feed.next().await.unwrap();
    assert_eq!((first.id.as_deref(), second.id.as_deref()), (Some("7"), Some("7")));
    assert_eq!(gateway.keys(), ["", "7"]);
    assert_eq!(scene.phone.pulse().reconnected.get(), 1);
}

#[tokio::test]
async fn a_line_opens_itself_again() {
    let gateway = Gateway::default().then(202, json!({})).then(202, json!({}));
    let mut first = scene(&gateway).await;
    let mut line = Line::new(&first.service).unwrap();
    let ask = Ask {
        method: hyper::Method::POST,
        path: "/v1/driver/locations".to_owned(),
        key: None,
        body: "{}".into(),
    };
    assert_eq!(line.send(&ask, None).await.unwrap().status, 202);
    // The gateway goes away and comes back at the same address.
    first._server.shutdown().await;
    assert!(line.send(&ask, None).await.is_err());
    let address = first.service.to_string().replace("http://", "");
    let app = Router::new().fallback(answer).with_state(gateway.clone());
    let listener = TcpListener::bind(address).await.unwrap();
    first._server.spawn(async move { axum::serve(listener, app).await.unwrap() });
    assert_eq!(line.send(&ask, None).await.unwrap().status, 202);
}

fn answered(status: u16, body: &'static str) -> Answer {
    let body = Bytes::from_static(body.as_bytes());
    Answer { status, body, replayed: false, retry_after: None }
}

#[test]
fn a_service_is_a_plain_address_with_a_port() {
    let service: Service = "http://127.0.0.1:7001/".parse().unwrap();
    assert_eq!(service.to_string(), "http://127.0.0.1:7001");
    assert!("https://127.0.0.1:7001".parse::<Service>().is_err());
    assert!("127.0.0.1:7001".parse::<Service>().is_err());
    assert!("http://127.0.0.1:7001/v1".parse::<Service>().is_err());
}

#[test]
fn only_what_may_help_is_asked_again() {
    assert!(answered(503, "").is_retryable());
    assert!(
        answered(409, r#"{"code":"idempotency_key_in_progress","retryable":true}"#).is_retryable()
    );
    assert!(!answered(409, r#"{"code":"offer_withdrawn","retryable":false}"#).is_retryable());
    assert!(!answered(201, "{}").is_retryable());
    assert!(!answered(500, "").is_retryable());
}
