//! The fleet against a gateway that counts.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use common::geo::Point;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Walker, fleet};
use crate::{
    city::motion::Car,
    client::Service,
    journal::{Journal, PingTotals},
    pulse::Pulse,
};

/// Stops the fleet after so many POSTs, and keeps them.
#[derive(Clone)]
struct Gateway {
    posts: Arc<Mutex<Vec<Value>>>,
    enough: usize,
    stop: CancellationToken,
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

#[tokio::test]
async fn every_answer_of_a_fleet_is_counted_and_every_driver_has_its_turn() {
    let stop = CancellationToken::new();
    let gateway = Gateway { posts: Arc::default(), enough: 40, stop: stop.clone() };
    let app = Router::new()
        .route("/v1/dev/token", post(token))
        .route("/v1/driver/locations", post(locations))
        .with_state(gateway.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service: Service = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.unwrap() });

    let folder = tempfile::tempdir().unwrap();
    let (journal, writer) = Journal::create(&folder.path().join("journal.jsonl")).unwrap();
    let place = Point::new(57.7, 11.97).unwrap();
    let walkers =
        (0..10).map(|driver| (Walker::new(Uuid::from_u128(driver), 0), Car::parked(place)));
    let pace = fleet::Pace {
        service,
        pings_per_s: 600.0,
        batch: 3,
        lines: 4,
        seed: 1,
        epoch: Instant::now(),
    };
    let ears =
        fleet::Ears { journal: journal.clone(), pulse: Arc::new(Pulse::default()), shutdown: stop };
    let mut has_started = false;
    let latencies =
        fleet::send(pace, walkers.collect(), ears, || has_started = true).await.unwrap();
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
