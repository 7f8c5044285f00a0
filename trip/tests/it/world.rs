//! What is around the service: the broker, and what riders, drivers and dispatchers say.

use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, pull};
use common::{
    auth::{Issuer, Role},
    clock::{Hlc, Timestamp},
    consumer::{self, Delivery, Failure},
    contract::v1,
    decider::Recorder as _,
    envelope::Envelope,
    event_store::{Cause, EventStore, ExecuteError, Loaded, Outcome},
    geo::Point,
    id::{CommandId, DriverId, EventId, OfferId, RiderId, TripId},
    money::{Currency, Money},
    nats::{Nats, NatsConfig},
    stream::{self, ConsumerSpec},
    subject::{self, Partitions},
    telemetry::TelemetryConfig,
    testing::{self, TestBroker, deadline, eventually, eventually_within},
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use trip::{
    Config, TermsConfig,
    consumers::Reactions,
    dispatch::DispatchConfig,
    domain::{Rejection, Terms, TripCommand},
    record::TripDecider,
};
use uuid::Uuid;

use crate::console::Console;

const TOKEN_TTL: Duration = Duration::from_secs(600);
pub(crate) const PIN: &str = "0417";
/// The lanes of the service.
pub(crate) const LANES: [ConsumerSpec; 3] =
    [stream::TRIP_REQUESTS, stream::TRIP_DRIVERS, stream::TRIP_PROCESS];

/// How often a reaction runs for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Once,
    /// The service dies after the write and before the ack, and the message comes again.
    DyingAfterTheWrite,
    /// The same message comes twice.
    Twice,
}

pub(crate) const EVERY_WAY: [How; 3] = [How::Once, How::DyingAfterTheWrite, How::Twice];

pub(crate) struct World {
    pub(crate) broker: TestBroker,
    pub(crate) nats: Nats,
    /// The same histories as the service writes.
    pub(crate) store: EventStore<TripDecider>,
    issuer: Issuer,
    base: String,
    shutdown: CancellationToken,
    service: JoinSet<anyhow::Result<()>>,
}

/// A trip, its people, and the offer that binds the driver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ride {
    pub(crate) trip: TripId,
    pub(crate) rider: RiderId,
    pub(crate) driver: DriverId,
    pub(crate) offer: OfferId,
}

impl Ride {
    pub(crate) fn new() -> Self {
        Self {
            trip: TripId::fresh(),
            rider: RiderId::fresh(),
            driver: DriverId::fresh(),
            offer: OfferId::fresh(),
        }
    }
}

pub(crate) fn pickup() -> Point {
    Point::new(57.7, 11.97).unwrap()
}

pub(crate) fn dropoff() -> Point {
    Point::new(57.72, 12.0).unwrap()
}

impl World {
    /// A broker, and nobody on it.
    pub(crate) async fn empty() -> Self {
        let broker = testing::broker().await;
        let nats = Nats::new(broker.client().await, Partitions::new(2).unwrap());
        nats.prepare().await.unwrap();
        Self {
            store: EventStore::open(&nats).await.unwrap(),
            issuer: Issuer::generate(nats.clock.clone()).unwrap(),
            base: String::new(),
            shutdown: CancellationToken::new(),
            service: JoinSet::new(),
            broker,
            nats,
        }
    }

    /// With the whole service.
    pub(crate) async fn serving(terms: Terms) -> Self {
        let mut world = Self::empty().await;
        world.serve(terms).await;
        world
    }

    /// With the service's reactions alone.
    pub(crate) async fn reacting(how: How, terms: Terms) -> Self {
        let mut world = Self::empty().await;
        world.react(how, terms);
        world
    }

    /// Starts an instance of the service.
    pub(crate) async fn serve(&mut self, terms: Terms) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config {
            listen: listener.local_addr().unwrap(),
            nats: NatsConfig {
                nats_url: self.broker.url().to_owned(),
                partitions: self.nats.partitions,
            },
            auth: self.issuer.config(),
            telemetry: TelemetryConfig { log: "warn".into(), log_json: false },
            terms: TermsConfig::from(terms),
            dispatch: DispatchConfig::default(),
        };
        self.base = format!("http://{}", config.listen);
        let stop = self.shutdown.clone();
        self.service.spawn(async move { trip::serve(config, listener, stop).await });
        let console = self.console();
        eventually("it is ready", async || console.get("/readyz").await.status == 200).await;
        eventually("it answers", async || self.request(TripId::fresh(), vec![]).await.is_some())
            .await;
    }

    fn react(&mut self, how: How, terms: Terms) {
        let reactions = Reactions::new(self.store.clone(), terms);
        for spec in LANES {
            let (nats, stop, reactions) =
                (self.nats.clone(), self.shutdown.clone(), reactions.clone());
            self.service.spawn(async move {
                consumer::run(&nats, spec, stop, move |delivery, _| {
                    let reactions = reactions.clone();
                    async move {
                        react(&reactions, spec, &delivery).await?;
                        match how {
                            How::DyingAfterTheWrite if delivery.attempt == 1 => {
                                Err(Failure::Transient(anyhow::anyhow!("died before the ack")))
                            }
                            How::Twice => react(&reactions, spec, &delivery).await,
                            How::Once | How::DyingAfterTheWrite => Ok(()),
                        }
                    }
                })
                .await
            });
        }
    }

    /// Reactions that carry out their write and are then in hand for ever.
    pub(crate) fn react_and_hang(&mut self) {
        let reactions = Reactions::new(self.store.clone(), Terms::STANDARD);
        for spec in LANES {
            let (nats, stop, reactions) =
                (self.nats.clone(), self.shutdown.clone(), reactions.clone());
            self.service.spawn(async move {
                consumer::run(&nats, spec, stop, move |delivery, _| {
                    let reactions = reactions.clone();
                    async move {
                        react(&reactions, spec, &delivery).await?;
                        std::future::pending().await
                    }
                })
                .await
            });
        }
    }

    /// Kills whatever runs of the service, as `kill -9` would.
    pub(crate) async fn kill_service(&mut self) {
        self.service.abort_all();
        while self.service.join_next().await.is_some() {}
    }

    /// Asks the service to stop, and waits until it has.
    pub(crate) async fn stop_service(&mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.service.join_next().await {
            ended.unwrap().unwrap();
        }
        self.shutdown = CancellationToken::new();
    }

    pub(crate) fn console(&self) -> Console {
        self.console_as(Role::Ops)
    }

    pub(crate) fn console_as(&self, role: Role) -> Console {
        Console::new(&self.base, self.issuer.issue(role, Uuid::nil(), TOKEN_TTL).unwrap())
    }

    // What others say.

    /// The rider's service: a ride is requested. Returns the message's sequence.
    pub(crate) async fn rider_requests(&self, ride: Ride) -> u64 {
        let event = EventId::derived(ride.rider.0, CommandId(ride.trip.0));
        self.rider_requests_as(ride, event).await
    }

    pub(crate) async fn rider_requests_as(&self, ride: Ride, event: EventId) -> u64 {
        let requested = v1::RideRequested {
            trip_id: ride.trip.to_vec(),
            rider_id: ride.rider.to_vec(),
            pickup: Some(pickup().into()),
            dropoff: Some(dropoff().into()),
            quote: Some(quote()),
            pin: PIN.to_owned(),
        };
        let payload = v1::RiderEvent {
            at_us: self.nats.clock.now().micros(),
            kind: Some(v1::rider_event::Kind::RideRequested(requested)),
        };
        let subject = self.nats.partitions.rider_event(ride.rider);
        let envelope = self.envelope(event, "rider.ride_requested", "rider", ride.rider.0);
        self.publish(subject, &envelope, payload.encode_to_vec()).await
    }

    /// The driver's service: the driver accepted.
    pub(crate) async fn driver_accepts(&self, ride: Ride) -> u64 {
        let (trip_id, offer_id) = (ride.trip.to_vec(), ride.offer.to_vec());
        let accepted = v1::DriverOfferAccepted { trip_id, offer_id };
        let kind = v1::driver_event::Kind::OfferAccepted(accepted);
        self.driver_says(ride, "driver.offer_accepted", kind, None).await
    }

    /// The driver's service: the offer ended on the driver's side.
    pub(crate) async fn driver_ends(&self, ride: Ride, why: v1::OfferEnd) -> u64 {
        use v1::driver_event::Kind;
        let (trip_id, offer_id) = (ride.trip.to_vec(), ride.offer.to_vec());
        let ended = v1::EndedOffer {
            trip_id: trip_id.clone(),
            offer_id: offer_id.clone(),
            why: why.into(),
        };
        let kind = match why {
            v1::OfferEnd::Declined => Kind::OfferDeclined(v1::DriverOfferDeclined {
                trip_id,
                offer_id,
                reason: "too far".into(),
            }),
            v1::OfferEnd::Lapsed => Kind::OfferLapsed(v1::DriverOfferLapsed { trip_id, offer_id }),
            v1::OfferEnd::Lost => Kind::Lost(v1::DriverLost { silent_s: 61 }),
            v1::OfferEnd::Offline => Kind::WentOffline(v1::DriverWentOffline { silent: false }),
            other => {
                Kind::OfferRefused(v1::DriverOfferRefused { trip_id, offer_id, why: other.into() })
            }
        };
        self.driver_says(ride, "driver.offer_ended", kind, Some(ended)).await
    }

    async fn driver_says(
        &self,
        ride: Ride,
        name: &str,
        kind: v1::driver_event::Kind,
        ended_offer: Option<v1::EndedOffer>,
    ) -> u64 {
        let payload = v1::DriverEvent {
            stamp: Some(v1::Stamp { version: 1, ..v1::Stamp::default() }),
            state: Some(v1::DriverState::default()),
            ended_offer,
            kind: Some(kind),
        };
        // The same thing said twice has the same id.
        let event = EventId::derived(ride.driver.0, CommandId::step(EventId(ride.offer.0), name));
        let envelope = self.envelope(event, name, "driver", ride.driver.0);
        let subject = self.nats.partitions.driver_event(ride.driver);
        self.publish(subject, &envelope, payload.encode_to_vec()).await
    }

    fn envelope(&self, id: EventId, kind: &str, source: &str, subject: Uuid) -> Envelope {
        Envelope {
            id,
            kind: kind.to_owned(),
            source: source.to_owned(),
            time: self.nats.clock.now(),
            subject,
            correlation: None,
            causation: None,
            hlc: Hlc::default(),
            traceparent: None,
        }
    }

    async fn publish(&self, subject: String, envelope: &Envelope, payload: Vec<u8>) -> u64 {
        let headers = envelope.to_headers("test");
        let ack = self.nats.jetstream.publish_with_headers(subject, headers, payload.into()).await;
        ack.unwrap().await.unwrap().sequence
    }

    pub(crate) async fn publish_raw(&self, subject: String, payload: &'static str) -> u64 {
        let ack = self.nats.jetstream.publish(subject, payload.into()).await;
        ack.unwrap().await.unwrap().sequence
    }

    // What is done to trips directly, as the dispatcher or another instance would.

    pub(crate) async fn execute(
        &self,
        trip: TripId,
        command: &TripCommand,
    ) -> Result<Outcome<TripDecider>, Rejection> {
        let id = CommandId::fresh();
        match self.store.execute(trip, id, &Cause::default(), command).await {
            Ok(outcome) => Ok(outcome),
            Err(ExecuteError::Rejected { rejection, .. }) => Err(rejection),
            Err(err) => panic!("{err}"),
        }
    }

    /// A trip in search with an open offer to its driver.
    pub(crate) async fn offered(&self, terms: Terms) -> Ride {
        let ride = Ride::new();
        self.execute(ride.trip, &request(ride, terms)).await.unwrap();
        self.execute(ride.trip, &offer(ride)).await.unwrap();
        ride
    }

    pub(crate) async fn assigned(&self, terms: Terms) -> Ride {
        let ride = self.offered(terms).await;
        let assign = TripCommand::Assign { driver: ride.driver, offer: ride.offer };
        self.execute(ride.trip, &assign).await.unwrap();
        ride
    }

    pub(crate) async fn arrived(&self, terms: Terms) -> Ride {
        let ride = self.assigned(terms).await;
        self.execute(ride.trip, &arrive(ride)).await.unwrap();
        ride
    }

    pub(crate) async fn on_the_road(&self, terms: Terms) -> Ride {
        let ride = self.arrived(terms).await;
        let start = TripCommand::Start { driver: ride.driver, pin: PIN.parse().unwrap() };
        self.execute(ride.trip, &start).await.unwrap();
        ride
    }

    /// The same histories, written by somebody whose clock is this much behind.
    pub(crate) async fn store_in_the_past(&self, by: Duration) -> EventStore<TripDecider> {
        let nats = Nats::new(self.nats.client.clone(), self.nats.partitions);
        let behind = i64::try_from(by.as_micros()).unwrap();
        let then = Timestamp::from_micros(self.nats.clock.now().micros() - behind);
        nats.clock.observe(then, Duration::ZERO);
        EventStore::open(&nats).await.unwrap()
    }

    // What a phone's gateway sends.

    pub(crate) async fn command(
        &self,
        trip: TripId,
        actor: impl Into<Uuid>,
        kind: v1::trip_command::Kind,
    ) -> v1::trip_reply::Outcome {
        self.command_as(CommandId::fresh(), trip, actor, kind).await
    }

    pub(crate) async fn command_as(
        &self,
        command_id: CommandId,
        trip: TripId,
        actor: impl Into<Uuid>,
        kind: v1::trip_command::Kind,
    ) -> v1::trip_reply::Outcome {
        let command = v1::TripCommand {
            command_id: command_id.to_vec(),
            trip_id: trip.to_vec(),
            deadline_us: self.nats.clock.now().plus(deadline::FACT).micros(),
            actor_id: actor.into().as_bytes().to_vec(),
            kind: Some(kind),
        };
        self.request(trip, command.encode_to_vec()).await.expect("an answer")
    }

    /// `None`: nobody answers.
    pub(crate) async fn request(
        &self,
        trip: TripId,
        payload: Vec<u8>,
    ) -> Option<v1::trip_reply::Outcome> {
        let subject = self.nats.partitions.trip_command(trip);
        let answer = self.nats.client.request(subject, payload.into()).await.ok()?;
        v1::TripReply::decode(answer.payload).unwrap().outcome
    }

    // What can be seen.

    pub(crate) async fn load(&self, trip: TripId) -> Loaded<TripDecider> {
        self.store.load(trip).await.unwrap()
    }

    /// What happened to a trip, in short: `requested`, `offered` …
    pub(crate) async fn kinds(&self, trip: TripId) -> Vec<String> {
        let subject = self.nats.partitions.trip_event(trip);
        self.stored(stream::TRIP, &subject)
            .await
            .into_iter()
            .map(|(kind, payload)| {
                TripDecider::decode(&payload).unwrap();
                kind.strip_prefix("trip.").unwrap().to_owned()
            })
            .collect()
    }

    /// What was sent to a driver: `offer` or `release`, and by which offer.
    pub(crate) async fn sent_to(&self, driver: DriverId) -> Vec<(&'static str, OfferId)> {
        use v1::driver_command::Kind;
        let subject = self.nats.partitions.driver_command(driver);
        let offer = |id: &[u8]| OfferId::try_from(id).unwrap();
        self.stored(stream::DRIVER_CMD, &subject)
            .await
            .into_iter()
            .map(|(_, payload)| {
                match v1::DriverCommand::decode(payload.as_slice()).unwrap().kind.unwrap() {
                    Kind::Offer(sent) => ("offer", offer(&sent.offer_id)),
                    Kind::Release(sent) => ("release", offer(&sent.offer_id)),
                    Kind::MarkLost(_) => panic!("trip does not know who is lost"),
                }
            })
            .collect()
    }

    /// Kind and payload of what is stored under a subject.
    async fn stored(&self, stream: &str, subject: &str) -> Vec<(String, Vec<u8>)> {
        let stream = self.nats.admin.get_stream(stream).await.unwrap();
        let mut found = Vec::new();
        let mut from = 1;
        while let Ok(message) = stream.direct_get_next_for_subject(subject, Some(from)).await {
            from = message.sequence + 1;
            let kind = message.headers.get("ce-type").unwrap().to_string();
            found.push((kind, message.payload.to_vec()));
        }
        found
    }

    /// Waits until every lane has handled, and acknowledged, all that is stored for it.
    pub(crate) async fn settled(&self) {
        eventually_within(deadline::RECOVERY, "all lanes are through", async || {
            // What a handler writes is stored before its message is acknowledged, so: first how
            // far the lanes are, then what is stored.
            let mut floors = Vec::new();
            for spec in LANES {
                for partition in self.nats.partitions.all() {
                    floors.push((spec, partition, self.floor(spec, partition).await));
                }
            }
            for (spec, partition, floor) in floors {
                let last = self.last(spec, partition).await;
                if floor.is_none_or(|floor| floor < last) {
                    return false;
                }
            }
            true
        })
        .await;
    }

    async fn floor(&self, spec: ConsumerSpec, partition: u32) -> Option<u64> {
        let durable = spec.durable(partition);
        let mut consumer: Consumer<pull::Config> =
            self.nats.admin.get_consumer_from_stream(&durable, spec.stream).await.ok()?;
        consumer.info().await.ok().map(|info| info.ack_floor.stream_sequence)
    }

    /// The last stored message that this consumer has to read.
    async fn last(&self, spec: ConsumerSpec, partition: u32) -> u64 {
        let stream = self.nats.admin.get_stream(spec.stream).await.unwrap();
        let mut last = 0;
        for prefix in spec.prefixes {
            let filter = subject::partition_filter(prefix, partition);
            if let Ok(message) = stream.get_last_raw_message_by_subject(&filter).await {
                last = last.max(message.sequence);
            }
        }
        last
    }
}

async fn react(
    reactions: &Reactions,
    spec: ConsumerSpec,
    delivery: &Delivery,
) -> Result<(), Failure> {
    match spec.stream {
        stream::RIDER => reactions.on_rider_event(delivery).await,
        stream::DRIVER => reactions.on_driver_event(delivery).await,
        _ => reactions.on_trip_message(delivery).await,
    }
}

pub(crate) fn quote() -> v1::Quote {
    v1::Quote {
        fare_id: vec![7; 16],
        product: "standard".into(),
        fare: Some(Money::new(12_500, Currency::SEK).into()),
        distance_m: 3_500,
        duration_s: 600,
        surge_percent: 100,
        cancellation_fee: Some(Money::new(4_000, Currency::SEK).into()),
    }
}

pub(crate) fn request(ride: Ride, terms: Terms) -> TripCommand {
    TripCommand::Request {
        rider: ride.rider,
        pickup: pickup(),
        dropoff: dropoff(),
        quote: trip::domain::Quote {
            fare_id: vec![7; 16],
            product: "standard".into(),
            fare: Money::new(12_500, Currency::SEK),
            distance_m: 3_500,
            duration_s: 0,
            surge_percent: 100,
            cancellation_fee: Money::new(4_000, Currency::SEK),
        },
        pin: PIN.parse().unwrap(),
        terms,
    }
}

/// The way to the pickup takes no time: the watchdog waits for its grace alone.
pub(crate) fn offer(ride: Ride) -> TripCommand {
    TripCommand::Offer {
        driver: ride.driver,
        offer: ride.offer,
        pickup_eta_s: 0,
        pickup_distance_m: 40,
    }
}

pub(crate) fn arrive(ride: Ride) -> TripCommand {
    TripCommand::Arrive { driver: ride.driver, position: pickup(), forced: false }
}

pub(crate) fn rider_cancels(ride: Ride) -> TripCommand {
    TripCommand::CancelByRider { rider: ride.rider, reason: "other".parse().unwrap() }
}

pub(crate) fn driver_cancels(ride: Ride) -> TripCommand {
    TripCommand::CancelByDriver { driver: ride.driver, reason: "other".parse().unwrap() }
}

pub(crate) fn complete(ride: Ride) -> TripCommand {
    TripCommand::Complete { driver: ride.driver, position: dropoff(), distance_m: 3_600 }
}
