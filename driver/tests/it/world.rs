//! What is around the service: the broker, and the words that `trip` and `location` say.

use std::time::Duration;

use common::{
    auth::{Issuer, Role},
    clock::{self, Hlc, Timestamp},
    contract::v1,
    decider::Recorder as _,
    envelope::Envelope,
    event_store::{Cause, EventStore, Loaded},
    id::{CommandId, DriverId, EventId, OfferId, TripId},
    money::{Currency, Money},
    nats::{Nats, NatsConfig},
    room::RoomConfig,
    stream,
    subject::Partitions,
    telemetry::TelemetryConfig,
    testing::{self, TestBroker, eventually},
};
use driver::{
    Config, GatherConfig, TrimConfig,
    domain::{Driver, DriverCommand, DriverEvent, OfferTerms, Pair},
    record::DriverDecider,
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::phone::Phone;

const TOKEN_TTL: Duration = Duration::from_secs(600);

/// What the service is told that the broker may store.
pub(crate) const STORE_MAX_BYTES: u64 = 32 << 20;

pub(crate) struct World {
    pub(crate) broker: TestBroker,
    pub(crate) nats: Nats,
    /// The same histories as the service writes.
    pub(crate) drivers: EventStore<DriverDecider>,
    pub(crate) issuer: Issuer,
    pub(crate) base: String,
    shutdown: CancellationToken,
    service: JoinSet<anyhow::Result<()>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let broker = testing::broker().await;
        let nats = Nats::new(broker.client().await, Partitions::new(2).unwrap());
        nats.prepare().await.unwrap();
        let issuer = Issuer::generate(nats.clock.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config {
            listen: listener.local_addr().unwrap(),
            nats: NatsConfig {
                nats_url: broker.url().to_owned(),
                partitions: nats.partitions,
                consuming: nats.consuming,
            },
            auth: issuer.config(),
            gathering: GatherConfig::default(),
            room: RoomConfig { store_max_bytes: Some(STORE_MAX_BYTES), ..RoomConfig::default() },
            trimming: TrimConfig::default(),
            telemetry: TelemetryConfig { log: "warn".into(), log_json: false },
        };
        let mut world = Self {
            drivers: EventStore::new(&nats),
            base: format!("http://{}", config.listen),
            shutdown: CancellationToken::new(),
            service: JoinSet::new(),
            broker,
            nats,
            issuer,
        };
        let stop = world.shutdown.clone();
        world.service.spawn(async move { driver::serve(config, listener, stop).await });
        let probe = world.phone(DriverId::fresh());
        eventually("the service is ready", async || probe.get("/readyz").await.status == 200).await;
        world
    }

    /// Asks the service to stop, and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        self.service.join_next().await.unwrap().unwrap().unwrap();
    }

    pub(crate) fn phone(&self, driver: DriverId) -> Phone {
        self.phone_as(Role::Driver, driver.0, TOKEN_TTL)
    }

    pub(crate) fn phone_as(&self, role: Role, id: Uuid, ttl: Duration) -> Phone {
        Phone::new(&self.base, self.issuer.issue(role, id, ttl).unwrap())
    }

    /// A driver who is online, and the phone.
    pub(crate) async fn online(&self) -> (DriverId, Phone) {
        let driver = DriverId::fresh();
        let phone = self.phone(driver);
        phone.duty("online").await.expect(200);
        (driver, phone)
    }

    /// A driver who has an offer in hand.
    pub(crate) async fn offered(&self) -> (DriverId, Phone, Pair) {
        let (driver, phone) = self.online().await;
        let pair = pair();
        self.execute(driver, DriverCommand::Offer { pair, terms: terms() }).await;
        (driver, phone, pair)
    }

    /// A driver who has accepted, and not heard from the trip.
    pub(crate) async fn engaged(&self) -> (DriverId, Phone, Pair) {
        let (driver, phone, pair) = self.offered().await;
        self.execute(driver, DriverCommand::Accept { offer: pair.offer }).await;
        (driver, phone, pair)
    }

    /// What another process of the service would do.
    pub(crate) async fn execute(&self, driver: DriverId, command: DriverCommand) {
        let id = CommandId::fresh();
        self.drivers.execute(driver, id, &Cause::default(), &command).await.unwrap();
    }

    /// The same histories, written by somebody whose clock is this much behind.
    pub(crate) async fn drivers_in_the_past(&self, by: Duration) -> EventStore<DriverDecider> {
        let nats = Nats::new(self.nats.client.clone(), self.nats.partitions);
        let behind = clock::machine_time().micros() - i64::try_from(by.as_micros()).unwrap();
        nats.clock.observe(Timestamp::from_micros(behind), Duration::ZERO);
        EventStore::new(&nats)
    }

    pub(crate) async fn load(&self, driver: DriverId) -> Loaded<DriverDecider> {
        self.drivers.load(driver).await.unwrap()
    }

    pub(crate) async fn eventually(
        &self,
        what: &str,
        driver: DriverId,
        is_so: impl Fn(&Driver) -> bool,
    ) -> Loaded<DriverDecider> {
        eventually(what, async || {
            let loaded = self.load(driver).await;
            is_so(&loaded.state).then_some(loaded)
        })
        .await
    }

    /// Everything that happened to a driver, oldest first.
    pub(crate) async fn history(&self, driver: DriverId) -> Vec<DriverEvent> {
        let subject = self.nats.partitions.driver_event(driver);
        let stream = self.nats.jetstream.get_stream_no_info(stream::DRIVER).await.unwrap();
        let (mut events, mut next) = (Vec::new(), 1);
        while let Ok(message) =
            stream.direct_get_next_for_subject(subject.as_str(), Some(next)).await
        {
            events.push(DriverDecider::decode(&message.payload).unwrap().event);
            next = message.sequence + 1;
        }
        events
    }

    /// What `trip` or `location` puts on the work queue.
    pub(crate) async fn command(
        &self,
        driver: DriverId,
        id: CommandId,
        kind: v1::driver_command::Kind,
    ) {
        let command = v1::DriverCommand {
            command_id: id.to_vec(),
            driver_id: driver.to_vec(),
            kind: Some(kind),
        };
        self.raw_command(driver, command.encode_to_vec()).await;
    }

    pub(crate) async fn raw_command(&self, driver: DriverId, payload: Vec<u8>) {
        let subject = self.nats.partitions.driver_command(driver);
        self.nats.jetstream.publish(subject, payload.into()).await.unwrap().await.unwrap();
    }

    /// Nothing is left on the work queue: every command so far was handled.
    pub(crate) async fn all_commands_handled(&self) {
        eventually("the work queue is empty", async || {
            let mut stream = self.nats.jetstream.get_stream(stream::DRIVER_CMD).await.unwrap();
            stream.info().await.unwrap().state.messages == 0
        })
        .await;
    }

    /// What the trip service stores.
    pub(crate) async fn trip_says(
        &self,
        trip: TripId,
        version: u64,
        kind: &str,
        state: v1::TripState,
    ) {
        let event = v1::TripEvent {
            stamp: Some(v1::Stamp { version, ..v1::Stamp::default() }),
            state: Some(state),
            kind: Some(v1::trip_event::Kind::WaitOver(v1::TripWaitOver {})),
        };
        let envelope = Envelope {
            id: EventId::fresh(),
            kind: kind.to_owned(),
            source: "trip".into(),
            time: self.nats.clock.now(),
            subject: trip.0,
            correlation: None,
            causation: None,
            hlc: Hlc::default(),
            traceparent: None,
        };
        let headers = envelope.to_headers("trip.proto#TripEvent");
        let subject = self.nats.partitions.trip_event(trip);
        let payload = event.encode_to_vec().into();
        let ack = self.nats.jetstream.publish_with_headers(subject, headers, payload).await;
        ack.unwrap().await.unwrap();
    }
}

pub(crate) fn pair() -> Pair {
    Pair { trip: TripId::fresh(), offer: OfferId::fresh() }
}

pub(crate) fn terms() -> OfferTerms {
    OfferTerms {
        pickup_eta_s: 120,
        pickup_distance_m: 900,
        fare: Money::new(12_300, Currency::SEK),
        trip_distance_m: 4_000,
        trip_duration_s: 600,
    }
}

/// The command `offer` as the trip's process manager sends it.
pub(crate) fn offer(pair: Pair) -> v1::driver_command::Kind {
    v1::driver_command::Kind::Offer(v1::OfferTrip {
        trip_id: pair.trip.to_vec(),
        offer_id: pair.offer.to_vec(),
        terms: Some(terms().into()),
    })
}

/// The command `release`.
pub(crate) fn release(pair: Pair) -> v1::driver_command::Kind {
    v1::driver_command::Kind::Release(v1::Release {
        trip_id: pair.trip.to_vec(),
        offer_id: pair.offer.to_vec(),
        why: "cancelled".into(),
    })
}

pub(crate) const PICKUP: (i32, i32) = (577_000_000, 119_700_000);

/// A trip with this offer in this status.
pub(crate) fn trip_with(pair: Pair, driver: DriverId, status: v1::OfferStatus) -> v1::TripState {
    let is_assigned = status == v1::OfferStatus::Assigned;
    let phase = if is_assigned { v1::TripPhase::Assigned } else { v1::TripPhase::Matching };
    let (lat_e7, lng_e7) = PICKUP;
    v1::TripState {
        phase: phase.into(),
        pickup: Some(v1::Point { lat_e7, lng_e7 }),
        dropoff: Some(v1::Point { lat_e7: lat_e7 - 100_000, lng_e7 }),
        quote: Some(v1::Quote {
            fare: Some(Money::new(12_300, Currency::SEK).into()),
            ..v1::Quote::default()
        }),
        offers: vec![v1::OfferRecord {
            offer_id: pair.offer.to_vec(),
            driver_id: driver.to_vec(),
            status: status.into(),
            ..v1::OfferRecord::default()
        }],
        driver_id: if is_assigned { driver.to_vec() } else { Vec::new() },
        offer_id: if is_assigned { pair.offer.to_vec() } else { Vec::new() },
        ..v1::TripState::default()
    }
}
