//! A running `location` on a broker of its own, phones that ping, and the service's own questions.

use std::time::Duration;

use clap::Parser as _;
use common::{
    clock::Timestamp,
    contract::v1,
    geo::Point,
    id::{DriverId, SessionId},
    nats::{Nats, NatsConfig},
    ping::{self, Ping, PingBatch},
    subject::{self, Partitions},
    testing::{self, TestBroker, deadline, eventually, eventually_within},
};
use location::Config;
use prost::Message;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Few, so that a test starts few consumers.
pub(crate) const PARTITIONS: u32 = 2;

/// A question that takes longer is asked again.
const ANSWER: Duration = Duration::from_millis(500);

/// In the middle of Gothenburg.
pub(crate) const PLACE: (f64, f64) = (57.7070, 11.9670);

pub(crate) struct Town {
    pub(crate) nats: Nats,
    pub(crate) http: String,
    config: Config,
    running: JoinSet<anyhow::Result<()>>,
    shutdown: CancellationToken,
    /// Last: it goes when everything that uses it is gone.
    pub(crate) broker: TestBroker,
}

/// Metres north and east of the [`PLACE`].
pub(crate) fn place(north_m: f64, east_m: f64) -> Point {
    let (lat, lng) = PLACE;
    let east = east_m / 111_195.0 / lat.to_radians().cos();
    Point::new(lat + north_m / 111_195.0, lng + east).unwrap()
}

/// The `n`th driver of a partition.
pub(crate) fn driver(partition: u32, n: u32) -> DriverId {
    let partitions = Partitions::new(PARTITIONS).unwrap();
    (1_u128..)
        .map(|n| DriverId(Uuid::from_u128(n)))
        .filter(|driver| partitions.ping_of(*driver) == partition)
        .nth(usize::try_from(n).unwrap())
        .unwrap()
}

/// As a phone makes it.
pub(crate) fn ping(seq: u64, at: Timestamp, position: Point) -> Ping {
    Ping { seq, at, position, accuracy_dm: Some(80), speed_cm_s: None, heading_deg: Some(90) }
}

impl Town {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(configure: impl FnOnce(&mut Config)) -> Self {
        let broker = testing::broker().await;
        let mut config = Config::parse_from(["location"]);
        config.nats = NatsConfig {
            nats_url: broker.url().to_owned(),
            partitions: Partitions::new(PARTITIONS).unwrap(),
            ..config.nats
        };
        configure(&mut config);
        let nats = Nats::connect(&config.nats, "test").await.unwrap();
        nats.prepare().await.unwrap();
        let mut town = Self {
            nats,
            http: String::new(),
            config,
            running: JoinSet::new(),
            shutdown: CancellationToken::new(),
            broker,
        };
        town.begin().await;
        town
    }

    /// Starts the service and waits until it is ready.
    pub(crate) async fn begin(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.http = listener.local_addr().unwrap().to_string();
        self.shutdown = CancellationToken::new();
        let (config, shutdown) = (self.config.clone(), self.shutdown.clone());
        self.running.spawn(Box::pin(location::serve(config, listener, shutdown)));
        self.answers().await;
    }

    /// Starts another replica beside the one that runs, and gives what stops that one.
    pub(crate) async fn begin_another(&mut self) -> CancellationToken {
        let first = self.shutdown.clone();
        self.begin().await;
        eventually_within(deadline::RECOVERY, "the second replica is ready", async || {
            testing::http::HttpClient::new(&format!("http://{}", self.http), String::new())
                .get("/readyz")
                .await
                .status
                .is_success()
        })
        .await;
        first
    }

    /// Waits until the replica that was told to stop has.
    pub(crate) async fn one_has_stopped(&mut self) {
        self.running.join_next().await.unwrap().unwrap().unwrap();
    }

    /// Waits until it takes questions. One that still went to a process that crashed has no answer,
    /// so none is waited for.
    async fn answers(&self) {
        eventually_within(deadline::RECOVERY, "location answers", async || {
            let asked = tokio::time::timeout(ANSWER, self.try_counts()).await;
            asked.ok().flatten().is_some()
        })
        .await;
    }

    /// Stops it in order.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap().unwrap();
        }
    }

    /// Stops it as a crash would: nothing is finished, nothing stored.
    pub(crate) async fn crash(&mut self) {
        self.running.abort_all();
        while self.running.join_next().await.is_some() {}
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.nats.clock.now()
    }

    /// Stores a frame of these batches in the partition of the first one's driver.
    pub(crate) async fn frame(&self, batches: &[PingBatch]) -> u64 {
        let partition = self.nats.partitions.ping_of(batches[0].driver);
        self.bytes(partition, ping::encode(batches)).await
    }

    pub(crate) async fn bytes(&self, partition: u32, frame: Vec<u8>) -> u64 {
        let sent = self.nats.jetstream.publish(subject::ping(partition), frame.into()).await;
        sent.unwrap().await.unwrap().sequence
    }

    /// Waits until the broker, started again, takes and gives messages.
    pub(crate) async fn broker_is_back(&self) {
        eventually("the broker is back", async || self.nats.read_clock().await.is_ok()).await;
        self.answers().await;
    }

    /// A batch that a phone with the right time sends now.
    pub(crate) fn batch(&self, driver: DriverId, pings: Vec<Ping>) -> PingBatch {
        let now = self.now();
        let session = SessionId(Uuid::from_u128(driver.0.as_u128() << 8));
        PingBatch { driver, session, sent_at: now, received_at: now, pings }
    }

    /// A driver is there now.
    pub(crate) async fn ping(&self, driver: DriverId, seq: u64, position: Point) -> u64 {
        self.frame(&[self.batch(driver, vec![ping(seq, self.now(), position)])]).await
    }

    /// A driver does this from now on.
    pub(crate) async fn does(&self, driver: DriverId, engagement: v1::engagement::Kind) {
        let state = v1::DriverState {
            duty: v1::Duty::Online.into(),
            engagement: Some(v1::Engagement { kind: Some(engagement) }),
            ..v1::DriverState::default()
        };
        let event = v1::DriverEvent {
            stamp: Some(v1::Stamp {
                version: 1,
                at_us: self.now().micros(),
                ..v1::Stamp::default()
            }),
            state: Some(state),
            ..v1::DriverEvent::default()
        };
        let subject = self.nats.partitions.driver_event(driver);
        let sent = self.nats.jetstream.publish(subject, event.encode_to_vec().into()).await;
        sent.unwrap().await.unwrap();
    }

    pub(crate) async fn idles(&self, driver: DriverId) {
        let since_us = self.now().micros();
        self.does(driver, v1::engagement::Kind::Idle(v1::engagement::Idle { since_us })).await;
    }

    pub(crate) async fn is_offered(&self, driver: DriverId) {
        let offered = v1::engagement::Offered {
            trip_id: vec![7; 16],
            offer_id: vec![8; 16],
            ..v1::engagement::Offered::default()
        };
        self.does(driver, v1::engagement::Kind::Offered(offered)).await;
    }

    pub(crate) async fn ask<A: Message + Default>(
        &self,
        subject: &'static str,
        question: &impl Message,
    ) -> Option<A> {
        let question = question.encode_to_vec().into();
        let answer = self.nats.client.request(subject, question).await.ok()?;
        Some(A::decode(answer.payload).unwrap())
    }

    async fn try_counts(&self) -> Option<v1::CountsReply> {
        self.ask(subject::QUERY_COUNTS, &v1::CountsRequest {}).await
    }

    pub(crate) async fn counts(&self) -> v1::CountsReply {
        self.try_counts().await.unwrap()
    }

    /// Waits until so many pings were read, and gives the counts then.
    pub(crate) async fn counted(&self, total: u64) -> v1::PingCounts {
        let what = format!("{total} pings counted");
        eventually_within(deadline::RECOVERY, &what, async || {
            let counts = self.counts().await.counts.unwrap();
            (sum(&counts) == total).then_some(counts)
        })
        .await
    }

    pub(crate) async fn position(&self, driver: DriverId) -> v1::DriverPositionReply {
        let question = v1::DriverPositionRequest { driver_id: driver.to_vec() };
        self.ask(subject::QUERY_DRIVER, &question).await.unwrap()
    }

    pub(crate) async fn candidates_reply(&self, excluded: &[DriverId]) -> v1::CandidatesReply {
        let question = v1::CandidatesRequest {
            pickup: Some(place(0.0, 0.0).into()),
            limit: 10,
            eta_max_s: 900,
            excluded: excluded.iter().map(|driver| driver.to_vec()).collect(),
        };
        self.ask(subject::QUERY_CANDIDATES, &question).await.unwrap()
    }

    /// Who would be sent to the [`PLACE`], in order.
    pub(crate) async fn candidates(&self) -> Vec<DriverId> {
        let reply = self.candidates_reply(&[]).await;
        reply
            .candidates
            .iter()
            .map(|candidate| DriverId::try_from(candidate.driver_id.as_slice()).unwrap())
            .collect()
    }

    pub(crate) async fn candidates_become(&self, drivers: &[DriverId]) {
        let what = format!("candidates are {drivers:?}");
        eventually(&what, async || self.candidates().await == drivers).await;
    }
}

pub(crate) fn sum(counts: &v1::PingCounts) -> u64 {
    let v1::PingCounts { fresh, late, duplicate, clamped, implausible } = counts;
    fresh + late + duplicate + clamped + implausible
}

pub(crate) fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_micros(at.micros() - i64::try_from(by.as_micros()).unwrap())
}
