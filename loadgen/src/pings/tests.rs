//! The fleet against a gateway that counts.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{MethodRouter, post},
};
use common::geo::Point;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Walker, fleet};
use crate::{
    city::motion::Car,
    client::Service,
    journal::{Journal, JournalWriter, PingTotals},
    pulse::Pulse,
};

/// Stops the fleet after so many POSTs, and keeps them.
#[derive(Clone)]
struct Gateway {
    posts: Arc<Mutex<Vec<Value>>>,
    enough: usize,
    stop: CancellationToken,
}

/// A gateway that stalls: the first answer takes half a second. The stall is what is tested, since the
/// open loop's schedule goes on by the real clock; nothing here waits for something to have happened.
async fn slow_start(
    State(gateway): State<Gateway>,
    body: Json<Value>,
) -> (StatusCode, Json<Value>) {
    let is_first = gateway.posts.lock().unwrap().is_empty();
    let points = body["points"].as_array().map_or(0, Vec::len);
    if is_first {
        gateway.posts.lock().unwrap().push(Value::Null);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    drop(locations(State(gateway), body).await);
    (StatusCode::ACCEPTED, Json(json!({"accepted": points, "rejected": []})))
}

async fn locations(State(gateway): State<Gateway>, body: Json<Value>) -> (StatusCode, Json<Value>) {
    let mut posts = gateway.posts.lock().unwrap();
    posts.push(body.0);
    if posts.len() >= gateway.enough {
        gateway.stop.cancel();
    }
    let rejected = json!([{"seq": 1, "code": "out_of_range"}]);
    let receipt = json!({"accepted": 2, "rejected": rejected, "next_interval_ms": 4500});
    (StatusCode::ACCEPTED, Json(receipt))
}

async fn token() -> Json<Value> {
    Json(json!({"token": "t", "id": Uuid::nil(), "expires_in_ms": 1000}))
}

struct Stage {
    pace: fleet::Pace,
    ears: fleet::Ears,
    journal: Journal,
    writer: JournalWriter,
    _folder: tempfile::TempDir,
    _server: JoinSet<()>,
}

async fn stage(locations: MethodRouter<Gateway>, gateway: &Gateway) -> Stage {
    let app = Router::new()
        .route("/v1/dev/token", post(token))
        .route("/v1/driver/locations", locations)
        .with_state(gateway.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service: Service = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.unwrap() });
    let folder = tempfile::tempdir().unwrap();
    let (journal, writer) = Journal::create(&folder.path().join("journal.jsonl")).unwrap();
    let pace = fleet::Pace {
        service,
        pings_per_s: 600.0,
        batch: 3,
        lines: 4,
        seed: 1,
        epoch: Instant::now(),
        when_late: fleet::WhenLate::Queue,
    };
    let ears = fleet::Ears {
        journal: journal.clone(),
        pulse: Arc::new(Pulse::default()),
        shutdown: gateway.stop.clone(),
    };
    Stage { pace, ears, journal, writer, _folder: folder, _server: server }
}

fn walkers(count: u128) -> Vec<(Walker, Car)> {
    let place = Point::new(57.7, 11.97).unwrap();
    (0..count).map(|driver| (Walker::new(Uuid::from_u128(driver), 0), Car::parked(place))).collect()
}

#[tokio::test]
async fn a_phone_that_could_not_send_makes_up_for_it_in_one_batch() {
    let gateway = Gateway { posts: Arc::default(), enough: 6, stop: CancellationToken::new() };
    let stage = stage(post(slow_start), &gateway).await;
    let pace = fleet::Pace {
        pings_per_s: 40.0,
        batch: 1,
        lines: 1,
        when_late: fleet::WhenLate::Buffer,
        ..stage.pace
    };
    fleet::send(pace, walkers(2), stage.ears, || {}).await.unwrap();
    let posts = gateway.posts.lock().unwrap();
    // Half a second at 20 pings a second and driver: some ten each.
    let count = |post: &Value| post["points"].as_array().map_or(0, Vec::len);
    let counts: Vec<usize> = posts.iter().map(count).collect();
    assert!(counts.iter().filter(|count| **count >= 8).count() >= 2, "{counts:?}");
    // Each driver's numbers go on without a gap.
    let mut seen = std::collections::HashMap::<String, Vec<u64>>::new();
    for post in posts.iter().skip(1) {
        let session = post["session_id"].as_str().unwrap().to_owned();
        let seqs = post["points"].as_array().unwrap().iter().map(|p| p["seq"].as_u64().unwrap());
        seen.entry(session).or_default().extend(seqs);
    }
    for seqs in seen.values() {
        assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
    }
}

#[tokio::test]
async fn every_answer_of_a_fleet_is_counted_and_every_driver_has_its_turn() {
    let gateway = Gateway { posts: Arc::default(), enough: 40, stop: CancellationToken::new() };
    let Stage { pace, ears, journal, writer, _folder, _server } =
        stage(post(locations), &gateway).await;
    let mut has_started = false;
    let latencies = fleet::send(pace, walkers(10), ears, || has_started = true).await.unwrap();
    writer.finish().unwrap();

    let posts = gateway.posts.lock().unwrap();
    assert!(has_started);
    assert_eq!(latencies.summary().count, posts.len() as u64);
    let count = posts.len() as u64;
    let wanted =
        PingTotals { posts: count, accepted: 2 * count, rejected: count, ..PingTotals::default() };
    assert_eq!(journal.pings().totals(), wanted);
    let sessions: std::collections::HashSet<&str> =
        posts.iter().map(|post| post["session_id"].as_str().unwrap()).collect();
    assert_eq!(sessions.len(), 10);
    assert!(posts.iter().all(|post| post["points"].as_array().unwrap().len() == 3));
}
