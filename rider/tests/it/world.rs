//! What is around the service: the broker, `location`, the trip service, the payment provider.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_nats::jetstream::consumer::PullConsumer;
use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    routing::get,
};
use bytes::Bytes;
use common::{
    auth::Issuer,
    breaker::BreakerConfig,
    clock::Hlc,
    contract::v1,
    envelope::Envelope,
    id::{DriverId, EventId, RiderId, TripId},
    nats::{Nats, NatsConfig},
    room::RoomConfig,
    stream,
    subject::{self, Partitions},
    telemetry::TelemetryConfig,
    testing::{self, TestBroker, deadline},
};
use futures_util::StreamExt as _;
use prost::Message as _;
use rider::{
    Config, NightlyConfig,
    domain::tariff::TARIFF_DEFAULT,
    store::{Place, Store},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::phone::Phone;

/// What the service is told that the broker may store.
pub(crate) const STORE_MAX_BYTES: u64 = 32 << 20;
pub(crate) const SECRET: &str = "a secret for tests that is long enough";
pub(crate) const DRIVER: DriverId = DriverId(Uuid::from_u128(0xD1));
/// What a way takes, according to the scripted `location`.
pub(crate) const DISTANCE_M: u32 = 5_000;
pub(crate) const DURATION_S: u32 = 600;

pub(crate) struct World {
    pub(crate) broker: TestBroker,
    pub(crate) nats: Nats,
    pub(crate) issuer: Issuer,
    pub(crate) provider: Arc<Mutex<Sandbox>>,
    pub(crate) position: Arc<Mutex<v1::DriverPositionReply>>,
    folder: TempDir,
    payments_url: String,
    around: JoinSet<()>,
}

/// A service that runs.
pub(crate) struct Running {
    pub(crate) base: String,
    shutdown: CancellationToken,
    service: JoinSet<anyhow::Result<()>>,
}

impl Running {
    /// Waits until it ends by itself, with an error.
    pub(crate) async fn fails(mut self) -> anyhow::Error {
        let ended = tokio::time::timeout(deadline::RECOVERY, self.service.join_next()).await;
        ended.expect("the service ends").unwrap().unwrap().unwrap_err()
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        self.service.join_next().await.unwrap().unwrap().unwrap();
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let broker = testing::broker().await;
        let nats = Nats::new(broker.client().await, Partitions::new(1).unwrap());
        nats.prepare().await.unwrap();
        let provider = Arc::new(Mutex::new(Sandbox::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut world = Self {
            issuer: Issuer::generate(nats.clock.clone()).unwrap(),
            provider: Arc::clone(&provider),
            position: Arc::default(),
            folder: TempDir::new().unwrap(),
            payments_url: format!("http://{}", listener.local_addr().unwrap()),
            around: JoinSet::new(),
            broker,
            nats,
        };
        world.around.spawn(async move {
            axum::serve(listener, sandbox(provider)).await.unwrap();
        });
        world.answer_location().await;
        world
    }

    pub(crate) fn place(&self) -> Place {
        Place::File(self.folder.path().join("rider.db"))
    }

    pub(crate) async fn store(&self) -> Store {
        Store::open(&self.place()).await.unwrap()
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            nats: NatsConfig {
                nats_url: self.broker.url().to_owned(),
                partitions: self.nats.partitions,
                consuming: self.nats.consuming,
            },
            auth: self.issuer.config(),
            telemetry: TelemetryConfig { log: "warn".into(), log_json: false },
            listen: "127.0.0.1:0".parse().unwrap(),
            store: self.place(),
            outbox_max: 100_000,
            payments_url: self.payments_url.parse().unwrap(),
            payments_timeout_ms: 1_000,
            breaker: BreakerConfig::default(),
            room: RoomConfig { store_max_bytes: Some(STORE_MAX_BYTES), ..RoomConfig::default() },
            nightly: NightlyConfig { nightly: "0 0 3 * * *".into(), reconcile_after_ms: 0 },
            fare_secret: SECRET.into(),
            tariff: TARIFF_DEFAULT.parse().unwrap(),
        }
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_with(self.config()).await
    }

    pub(crate) async fn start_with(&self, config: Config) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let mut service = JoinSet::new();
        service.spawn(rider::serve(config, listener, shutdown.clone()));
        Running { base, shutdown, service }
    }

    pub(crate) fn phone(&self, running: &Running) -> Phone {
        Phone::new(&running.base, &self.issuer)
    }

    /// Everything north of 58° is outside; east of 13° no road leads.
    async fn answer_location(&mut self) {
        let answer = |request: Bytes| {
            let asked = v1::SupplyRequest::decode(request).unwrap().pickup.unwrap();
            v1::SupplyReply {
                in_service_area: asked.lat_e7 < 580_000_000,
                has_driver: true,
                nearest_eta_s: 240,
                offerable_nearby: 3,
                surge_percent: 100,
            }
            .encode_to_vec()
        };
        self.answer(subject::QUERY_SUPPLY, answer).await;
        let answer = |request: Bytes| {
            let asked = v1::RouteRequest::decode(request).unwrap().to.unwrap();
            v1::RouteReply {
                found: asked.lat_e7 < 580_000_000 && asked.lng_e7 < 130_000_000,
                duration_s: DURATION_S,
                distance_m: DISTANCE_M,
                points: Vec::new(),
            }
            .encode_to_vec()
        };
        self.answer(subject::QUERY_ROUTE, answer).await;
        let position = Arc::clone(&self.position);
        self.answer(subject::QUERY_DRIVER, move |_| position.lock().unwrap().encode_to_vec()).await;
    }

    /// The trip service, as far as a rider's commands go.
    pub(crate) async fn answer_commands(
        &mut self,
        answer: impl Fn(v1::TripCommand) -> v1::trip_reply::Outcome + Send + 'static,
    ) {
        self.answer(subject::TRIP_COMMANDS, move |command| {
            let command = v1::TripCommand::decode(command).unwrap();
            v1::TripReply { outcome: Some(answer(command)) }.encode_to_vec()
        })
        .await;
    }

    async fn answer(
        &mut self,
        subject: &'static str,
        answer: impl Fn(Bytes) -> Vec<u8> + Send + 'static,
    ) {
        let client = self.nats.client.clone();
        let mut requests = client.subscribe(subject).await.unwrap();
        client.flush().await.unwrap();
        self.around.spawn(async move {
            while let Some(request) = requests.next().await {
                let reply = answer(request.payload);
                client.publish(request.reply.unwrap(), reply.into()).await.unwrap();
            }
        });
    }

    /// What the trip service would store: one event and the state it led to.
    pub(crate) async fn trip_event(
        &self,
        trip: TripId,
        version: u64,
        name: &str,
        kind: v1::trip_event::Kind,
        state: v1::TripState,
    ) -> u64 {
        let envelope = Envelope {
            id: EventId(Uuid::new_v5(&trip.0, &version.to_be_bytes())),
            kind: name.to_owned(),
            source: "trip".into(),
            time: self.nats.clock.now(),
            subject: trip.0,
            correlation: Some(trip.0),
            causation: None,
            hlc: Hlc::default(),
            traceparent: None,
        };
        let stamp =
            v1::Stamp { version, at_us: self.nats.clock.now().micros(), ..v1::Stamp::default() };
        let event = v1::TripEvent { stamp: Some(stamp), state: Some(state), kind: Some(kind) };
        let ack = self
            .nats
            .jetstream
            .publish_with_headers(
                self.nats.partitions.trip_event(trip),
                envelope.to_headers("trip.proto#TripEvent"),
                event.encode_to_vec().into(),
            )
            .await
            .unwrap();
        ack.await.unwrap().sequence
    }

    pub(crate) async fn assigned(&self, trip: TripId, rider: RiderId, version: u64) -> u64 {
        let state = self.state(rider, v1::TripPhase::Assigned);
        let kind = v1::trip_event::Kind::Assigned(v1::TripAssigned::default());
        self.trip_event(trip, version, "trip.assigned", kind, state).await
    }

    pub(crate) async fn completed(
        &self,
        trip: TripId,
        rider: RiderId,
        version: u64,
        fare: i64,
    ) -> u64 {
        let fare = Some(v1::Money { amount_minor: fare, currency: "SEK".into() });
        let state = v1::TripState {
            fare: fare.clone(),
            ended_at_us: self.nats.clock.now().micros(),
            ..self.state(rider, v1::TripPhase::Completed)
        };
        let completed = v1::TripCompleted { fare, ..v1::TripCompleted::default() };
        let kind = v1::trip_event::Kind::Completed(completed);
        self.trip_event(trip, version, "trip.completed", kind, state).await
    }

    pub(crate) async fn cancelled(
        &self,
        trip: TripId,
        rider: RiderId,
        version: u64,
        fee: i64,
    ) -> u64 {
        let cancelled = v1::TripCancelled {
            by: v1::Party::Rider.into(),
            reason: "other".into(),
            phase: v1::TripPhase::Assigned.into(),
            fee: Some(v1::Money { amount_minor: fee, currency: "SEK".into() }),
        };
        let state = v1::TripState {
            cancelled: Some(cancelled.clone()),
            ..self.state(rider, v1::TripPhase::Cancelled)
        };
        let kind = v1::trip_event::Kind::Cancelled(cancelled);
        self.trip_event(trip, version, "trip.cancelled", kind, state).await
    }

    pub(crate) fn state(&self, rider: RiderId, phase: v1::TripPhase) -> v1::TripState {
        v1::TripState {
            phase: phase.into(),
            rider_id: rider.to_vec(),
            driver_id: DRIVER.to_vec(),
            pickup_eta_s: 240,
            assigned_at_us: self.nats.clock.now().micros(),
            ..v1::TripState::default()
        }
    }

    /// Whether the payments' consumer has nothing left to deliver or to hear of.
    pub(crate) async fn payments_are_done(&self) -> bool {
        let consumer: PullConsumer = self
            .nats
            .admin
            .get_consumer_from_stream(stream::RIDER_PAYMENTS.name, stream::TRIP)
            .await
            .unwrap();
        let found = consumer.cached_info();
        found.num_pending == 0 && found.num_ack_pending == 0
    }

    /// All rider events, in the order of the stream.
    pub(crate) async fn rider_events(&self) -> Vec<(Envelope, v1::RiderEvent)> {
        let mut stream = self.nats.admin.get_stream(stream::RIDER).await.unwrap();
        let state = stream.info().await.unwrap().state.clone();
        let mut events = Vec::new();
        for sequence in 1..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            events.push((
                Envelope::from_headers(&message.headers).unwrap(),
                v1::RiderEvent::decode(message.payload).unwrap(),
            ));
        }
        events
    }
}

/// The payment provider's books and how it behaves.
#[derive(Debug, Default)]
pub(crate) struct Sandbox {
    pub(crate) charges: Vec<Value>,
    /// Charges, and then does not say so.
    pub(crate) loses_answers: bool,
    /// Charges, and does not say so for as long as anybody waits.
    pub(crate) answers_too_late: bool,
    /// So many charges it refuses.
    pub(crate) refusals_left: usize,
}

fn sandbox(books: Arc<Mutex<Sandbox>>) -> axum::Router {
    async fn charge(
        State(books): State<Arc<Mutex<Sandbox>>>,
        Json(asked): Json<Value>,
    ) -> (StatusCode, Json<Value>) {
        let (answer, is_too_late) = {
            let mut books = books.lock().unwrap();
            if books.refusals_left > 0 {
                books.refusals_left -= 1;
                return (StatusCode::PAYMENT_REQUIRED, Json(Value::Null));
            }
            let mut answer = asked.clone();
            answer["charge_id"] = json!(format!("ch_{}", books.charges.len() + 1));
            answer["status"] = json!("succeeded");
            books.charges.push(answer.clone());
            if books.loses_answers {
                return (StatusCode::GATEWAY_TIMEOUT, Json(Value::Null));
            }
            (answer, books.answers_too_late)
        };
        if is_too_late {
            std::future::pending::<()>().await;
        }
        (StatusCode::CREATED, Json(answer))
    }
    async fn list(
        State(books): State<Arc<Mutex<Sandbox>>>,
        Query(wanted): Query<HashMap<String, String>>,
    ) -> Json<Value> {
        let mut charges = books.lock().unwrap().charges.clone();
        charges
            .retain(|charge| wanted.get("reference").is_none_or(|it| charge["reference"] == **it));
        Json(json!({ "charges": charges }))
    }
    axum::Router::new().route("/v1/charges", get(list).post(charge)).with_state(books)
}
