//! Two replicas of a service, shared partitions: a zombie's writes are refused, and the replicas of
//! `location` together know everybody.

use std::{collections::BTreeSet, time::Duration};

use async_nats::jetstream::consumer::PullConsumer;
use clap::Parser as _;
use common::{
    auth::{Issuer, Role},
    consumer::Share,
    contract::v1,
    decider::Recorder as _,
    event_store::{Cause, EventStore},
    geo::Point,
    id::{CommandId, DriverId, EventId, OfferId, SessionId, TripId},
    money::{Currency, Money},
    nats::{Nats, NatsConfig},
    ping::{self, Ping, PingBatch},
    room::RoomConfig,
    stream, subject,
    telemetry::TelemetryConfig,
    testing::{TestBroker, deadline, eventually, eventually_within, http::HttpClient},
};
use driver::{
    domain::{DriverCommand, DriverEvent, OfferTerms, Pair},
    record::DriverDecider,
};
use futures_util::StreamExt as _;
use hyper::Method;
use loadgen::chaos::proxy::{Fault, Faults, Partition, Rates};
use prost::Message as _;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use trip::dispatch::candidates::{Question, ask};
use uuid::Uuid;

use crate::proxy::{Cut, NEVER, cut};

const PARTITIONS: u32 = 2;
const TOKEN_TTL: Duration = Duration::from_secs(600);
/// In the middle of Gothenburg.
const PLACE: (f64, f64) = (57.7070, 11.9670);

const fn one_of_two(replica: u32) -> Share {
    Share { replica, replicas: 2 }
}

fn nats_config(url: String, nats: &Nats, replica: u32) -> NatsConfig {
    let mut consuming = nats.consuming;
    consuming.share = one_of_two(replica);
    NatsConfig { nats_url: url, partitions: nats.partitions, consuming }
}

/// A driver of this partition.
fn driver_in(nats: &Nats, partition: u32) -> DriverId {
    let mut ids = (1_u128..).map(|n| DriverId(Uuid::from_u128(n)));
    ids.find(|driver| nats.partitions.ping_of(*driver) == partition).unwrap()
}

async fn is_ready(base: &str) {
    let http = HttpClient::new(base, String::new());
    eventually_within(deadline::RECOVERY, "the replica is ready", async || {
        http.get("/readyz").await.status == 200
    })
    .await;
}

/// Waits until somebody asks for the commands to this partition's drivers.
async fn is_asked_for(nats: &Nats, partition: u32) {
    let durable = stream::DRIVER_COMMANDS.durable(partition);
    let mut consumer: PullConsumer =
        nats.admin.get_consumer_from_stream(durable, stream::DRIVER_CMD).await.unwrap();
    eventually("somebody asks", async || consumer.info().await.unwrap().num_waiting > 0).await;
}

/// Starts a replica of `driver`, and gives where it serves and what stops it.
async fn start_driver(
    config: NatsConfig,
    issuer: &Issuer,
    running: &mut JoinSet<anyhow::Result<()>>,
) -> (String, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = driver::Config {
        listen: listener.local_addr().unwrap(),
        nats: config,
        auth: issuer.config(),
        gathering: driver::GatherConfig::default(),
        room: RoomConfig::default(),
        trimming: driver::TrimConfig::default(),
        telemetry: TelemetryConfig { log: "warn".into(), log_json: false },
    };
    let base = format!("http://{}", settings.listen);
    let stop = CancellationToken::new();
    running.spawn(Box::pin(driver::serve(settings, listener, stop.clone())));
    is_ready(&base).await;
    (base, stop)
}

fn pair() -> Pair {
    Pair { trip: TripId::fresh(), offer: OfferId::fresh() }
}

/// What another replica, or a phone through it, would do.
async fn engage(drivers: &EventStore<DriverDecider>, driver: DriverId, pair: Pair) {
    let terms = OfferTerms {
        pickup_eta_s: 120,
        pickup_distance_m: 900,
        fare: Money::new(12_300, Currency::SEK),
        trip_distance_m: 4_000,
        trip_duration_s: 600,
    };
    for command in [
        DriverCommand::GoOnline,
        DriverCommand::Offer { pair, terms },
        DriverCommand::Accept { offer: pair.offer },
    ] {
        let id = CommandId::fresh();
        drivers.execute(driver, id, &Cause::default(), &command).await.unwrap();
    }
}

async fn send_release(nats: &Nats, driver: DriverId, pair: Pair) {
    let release = v1::Release {
        trip_id: pair.trip.to_vec(),
        offer_id: pair.offer.to_vec(),
        why: "cancelled".into(),
    };
    let command = v1::DriverCommand {
        command_id: CommandId::step(EventId::fresh(), "release").to_vec(),
        driver_id: driver.to_vec(),
        kind: Some(v1::driver_command::Kind::Release(release)),
    };
    let subject = nats.partitions.driver_command(driver);
    let ack = nats.jetstream.publish(subject, command.encode_to_vec().into()).await.unwrap();
    ack.await.unwrap();
}

async fn history(nats: &Nats, driver: DriverId) -> Vec<DriverEvent> {
    let subject = nats.partitions.driver_event(driver);
    let stream = nats.jetstream.get_stream_no_info(stream::DRIVER).await.unwrap();
    let (mut events, mut next) = (Vec::new(), 1);
    while let Ok(message) = stream.direct_get_next_for_subject(subject.as_str(), Some(next)).await {
        events.push(DriverDecider::decode(&message.payload).unwrap().event);
        next = message.sequence + 1;
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_zombie_had_decided_is_refused_when_it_comes_back() {
    let Cut { broker, direct, proxy, through } = cut(PARTITIONS).await;
    drop(through);
    let issuer = Issuer::generate(direct.clock.clone()).unwrap();
    let mut running = JoinSet::new();
    let first = nats_config(proxy.url(), &direct, 0);
    let (gateway, _) = start_driver(first, &issuer, &mut running).await;
    is_asked_for(&direct, 0).await;
    let second = nats_config(broker.url().to_owned(), &direct, 1);
    start_driver(second, &issuer, &mut running).await;

    let (drivers, driver) = (EventStore::<DriverDecider>::new(&direct), driver_in(&direct, 0));
    let (old, new) = (pair(), pair());
    engage(&drivers, driver, old).await;
    // Everything that is sent, stored or refused.
    let mut sent = direct.client.subscribe(direct.partitions.driver_event(driver)).await.unwrap();
    direct.client.flush().await.unwrap();

    // The owner decides, and what it decided does not leave any more; then it is cut off.
    let late = Rates::NONE.with(Fault::PublishDelayed, 1.0);
    let late = Faults::default().of_stream(stream::DRIVER, late);
    proxy.set(Faults { publish_delay: NEVER..=NEVER, ..late });
    send_release(&direct, driver, old).await;
    crate::proxy::injected(&proxy, Fault::PublishDelayed).await;
    proxy.partition(Partition::Both);

    // The other takes over, and the world goes on.
    let is_idle = async || drivers.load(driver).await.unwrap().state.engaged().is_none();
    eventually_within(deadline::RECOVERY, "the other released the driver", is_idle).await;
    engage(&drivers, driver, new).await;
    let before = history(&direct, driver).await;

    // The zombie comes back, and with it what it had decided.
    proxy.calm();
    let stored = before.len() - 3;
    let mut arrived = 0;
    eventually_within(deadline::RECOVERY, "the zombie's write arrives", async || {
        let next = tokio::time::timeout(Duration::from_millis(50), sent.next()).await;
        arrived += usize::from(next.is_ok());
        arrived > stored
    })
    .await;
    let phone = driver_in(&direct, 1);
    let token = issuer.issue(Role::Driver, phone.0, TOKEN_TTL).unwrap();
    let phone = HttpClient::new(&gateway, token);
    eventually_within(deadline::RECOVERY, "it works again", async || {
        let online = json!({ "duty": "online" });
        phone.json(Method::PUT, "/v1/driver/status", None, online).await.status == 200
    })
    .await;
    assert_eq!(history(&direct, driver).await, before);
    let released = before.iter().filter(|event| matches!(event, DriverEvent::Released { .. }));
    assert_eq!(released.count(), 1, "{before:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stops_hands_its_lanes_over_and_ends_in_order() {
    let Cut { broker, direct, .. } = cut(PARTITIONS).await;
    let issuer = Issuer::generate(direct.clock.clone()).unwrap();
    let (mut first_running, mut running) = (JoinSet::new(), JoinSet::new());
    let url = || broker.url().to_owned();
    let first = nats_config(url(), &direct, 0);
    let (_, stop) = start_driver(first, &issuer, &mut first_running).await;
    let (drivers, driver) = (EventStore::<DriverDecider>::new(&direct), driver_in(&direct, 0));
    let is_idle = async || drivers.load(driver).await.unwrap().state.engaged().is_none();
    let released = async |pair| {
        engage(&drivers, driver, pair).await;
        send_release(&direct, driver, pair).await;
        eventually_within(deadline::RECOVERY, "the driver is free", is_idle).await;
    };
    let lane = stream::DRIVER_COMMANDS.durable(0);
    let unpinned = format!("$JS.EVENT.ADVISORY.CONSUMER.UNPINNED.{}.{lane}", stream::DRIVER_CMD);
    let mut unpinned = direct.client.subscribe(unpinned).await.unwrap();
    direct.client.flush().await.unwrap();
    // Whoever just was given a message owns its lane.
    released(pair()).await;
    stop.cancel();
    // It says so itself: nobody has to wait until its pin times out.
    let advisory = tokio::time::timeout(deadline::RECOVERY, unpinned.next()).await.unwrap();
    let advisory: serde_json::Value = serde_json::from_slice(&advisory.unwrap().payload).unwrap();
    assert_eq!(advisory["reason"], "admin");
    first_running.join_next().await.unwrap().unwrap().unwrap();
    start_driver(nats_config(url(), &direct, 1), &issuer, &mut running).await;
    released(pair()).await;
}

/// Starts a replica of `location`, and gives what stops it.
async fn start_location(
    broker: &TestBroker,
    nats: &Nats,
    replica: u32,
    running: &mut JoinSet<anyhow::Result<()>>,
) -> CancellationToken {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let mut config = location::Config::parse_from(["location"]);
    config.nats = nats_config(broker.url().to_owned(), nats, replica);
    // So that what was read of another's partition is soon too old to speak of.
    config.silence.live_ms = 4_000;
    let stop = CancellationToken::new();
    running.spawn(Box::pin(location::serve(config, listener, stop.clone())));
    is_ready(&base).await;
    stop
}

fn north(metres: f64) -> Point {
    Point::new(PLACE.0 + metres / 111_195.0, PLACE.1).unwrap()
}

/// A driver is there now.
async fn ping(nats: &Nats, driver: DriverId, seq: u64, position: Point) {
    let now = nats.clock.now();
    let heard =
        Ping { seq, at: now, position, accuracy_dm: None, speed_cm_s: None, heading_deg: None };
    let session = SessionId(driver.0);
    let batch = PingBatch { driver, session, sent_at: now, received_at: now, pings: vec![heard] };
    let subject = subject::ping(nats.partitions.ping_of(driver));
    let ack = nats.jetstream.publish(subject, ping::encode(&[batch]).into()).await.unwrap();
    ack.await.unwrap();
}

/// Which partitions each replica that answers speaks for.
async fn spoken_for(nats: &Nats) -> Vec<BTreeSet<u32>> {
    let inbox = nats.client.new_inbox();
    let mut replies = nats.client.subscribe(inbox.clone()).await.unwrap();
    let question =
        v1::CandidatesRequest { pickup: Some(north(0.0).into()), limit: 9, ..Default::default() };
    let question = question.encode_to_vec().into();
    let asked = nats.client.publish_with_reply(subject::QUERY_CANDIDATES, inbox, question);
    asked.await.unwrap();
    let mut all = Vec::new();
    while let Ok(Some(reply)) = tokio::time::timeout(Duration::from_secs(1), replies.next()).await {
        let reply = v1::CandidatesReply::decode(reply.payload).unwrap();
        all.push(reply.read.iter().map(|read| read.partition).collect());
    }
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_of_location_each_speak_for_their_partitions_and_together_for_all() {
    let Cut { broker, direct, .. } = cut(PARTITIONS).await;
    let mut running = JoinSet::new();
    let first = start_location(&broker, &direct, 0, &mut running).await;
    let _second = start_location(&broker, &direct, 1, &mut running).await;
    let cars = [driver_in(&direct, 0), driver_in(&direct, 1)];
    let drivers = EventStore::<DriverDecider>::new(&direct);
    for car in cars {
        let id = CommandId::fresh();
        drivers.execute(car, id, &Cause::default(), &DriverCommand::GoOnline).await.unwrap();
    }
    let driving = async {
        for seq in 1.. {
            ping(&direct, cars[0], seq, north(300.0)).await;
            ping(&direct, cars[1], seq, north(900.0)).await;
        }
    };
    let asking = async {
        let own = [BTreeSet::from([0]), BTreeSet::from([1])];
        eventually_within(deadline::RECOVERY * 2, "each speaks for its own", async || {
            spoken_for(&direct).await == own
        })
        .await;
        everybody_is_known(&direct, &cars).await;
        // Whoever is left speaks for all, as soon as it has taken over.
        first.cancel();
        eventually_within(deadline::RECOVERY, "the other speaks for all", async || {
            spoken_for(&direct).await == [BTreeSet::from([0, 1])]
        })
        .await;
        everybody_is_known(&direct, &cars).await;
    };
    tokio::select! {
        () = driving => (),
        () = asking => (),
    }
}

/// The asker hears of both, the nearer first, and that nobody is missing.
async fn everybody_is_known(nats: &Nats, cars: &[DriverId; 2]) {
    let question = Question { pickup: north(0.0), limit: 9, eta_max_s: 900, excluded: Vec::new() };
    eventually("both are known", async || {
        let answer = ask(&nats.client, &question, deadline::FACT).await.ok()?;
        let found: Vec<DriverId> = answer.candidates.iter().map(|it| it.driver).collect();
        (answer.is_complete && found == cars).then_some(())
    })
    .await;
}
