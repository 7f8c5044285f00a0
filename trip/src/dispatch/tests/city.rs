//! A scripted city that answers `location.query.candidates`, and a stage to dispatch on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use common::{
    consumer::ConsumerConfig,
    contract::v1,
    event_store::{Cause, EventStore},
    geo::Point,
    id::{CommandId, DriverId, OfferId, TripId},
    nats::{Nats, NatsConfig},
    stream,
    subject::{self, Partitions},
    testing::{TestBroker, broker, eventually},
    view::Stored,
};
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    dispatch::{DispatchConfig, Dispatcher, Inspector, run},
    domain::{OfferEnd, OfferRecord, TripCommand, tests::given},
    record::TripDecider,
};

const PARTITIONS: u32 = 2;

/// Seconds from each driver to the pickup on a parallel.
type Ways = HashMap<i32, Vec<(DriverId, u32)>>;

/// What a city was asked, in order.
pub(super) type Questions = Arc<Mutex<Vec<v1::CandidatesRequest>>>;

/// A trip's number is also the parallel of its pickup, so that a question tells whose it is.
pub(super) fn trip(number: u32) -> TripId {
    TripId(Uuid::from_u128(number.into()))
}

fn pickup(number: u32) -> Point {
    Point::new(f64::from(number), 11.97).unwrap()
}

/// A real broker with its streams, and no dispatcher yet.
pub(super) struct Stage {
    pub(super) nats: Nats,
    pub(super) store: EventStore<TripDecider>,
    shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
    _broker: TestBroker,
}

impl Stage {
    pub(super) async fn set() -> Self {
        let broker = broker().await;
        let config = NatsConfig {
            nats_url: broker.url().to_owned(),
            partitions: Partitions::new(PARTITIONS).unwrap(),
            consuming: ConsumerConfig::default(),
        };
        let nats = Nats::connect(&config, "dispatch-test").await.unwrap();
        nats.prepare().await.unwrap();
        let store = EventStore::new(&nats);
        let shutdown = CancellationToken::new();
        Self { nats, store, shutdown, tasks: JoinSet::new(), _broker: broker }
    }

    /// From now on drivers are so many seconds away from the trips.
    pub(super) async fn city(&mut self, ways: &[(u32, &[(DriverId, u32)])]) -> Questions {
        let ways: Ways =
            ways.iter().map(|(trip, ways)| (pickup(*trip).to_e7().0, ways.to_vec())).collect();
        self.city_that(1, move |question, _| {
            let nobody = Vec::new();
            answer(question, ways.get(&question.pickup.unwrap().lat_e7).unwrap_or(&nobody))
        })
        .await
    }

    /// Questions are answered by this function, which is told how many came before; none until so
    /// many wait for an answer.
    pub(super) async fn city_that(
        &mut self,
        gather: usize,
        answer: impl Fn(&v1::CandidatesRequest, usize) -> v1::CandidatesReply + Send + 'static,
    ) -> Questions {
        let questions = Questions::default();
        let (asked, client) = (Arc::clone(&questions), self.nats.client.clone());
        let shutdown = self.shutdown.clone();
        let mut inbox = client.subscribe(subject::QUERY_CANDIDATES).await.unwrap();
        client.flush().await.unwrap();
        self.tasks.spawn(async move {
            let mut waiting = Vec::new();
            // A dispatcher that finds nobody asks until it stops: nobody waits for the last answer.
            while let Some(Some(message)) = shutdown.run_until_cancelled(inbox.next()).await {
                let question = v1::CandidatesRequest::decode(message.payload).unwrap();
                let before = asked.lock().unwrap().len();
                let reply = answer(&question, before).encode_to_vec();
                asked.lock().unwrap().push(question);
                waiting.push((message.reply.unwrap(), reply));
                if waiting.len() == gather {
                    for (inbox, reply) in waiting.drain(..) {
                        client.publish(inbox, reply.into()).await.unwrap();
                    }
                }
            }
            Ok(())
        });
        questions
    }

    pub(super) fn dispatcher(&mut self, config: DispatchConfig) -> Inspector {
        let inspector = Inspector::default();
        let (nats, shown, shutdown) = (self.nats.clone(), inspector.clone(), self.shutdown.clone());
        self.tasks.spawn(async move { run(&nats, config, shown, shutdown).await });
        inspector
    }

    /// A dispatcher that a test drives by hand. All it knows is that this trip was requested.
    pub(super) async fn dispatcher_that_saw_only(&self, number: u32) -> Dispatcher {
        let config = DispatchConfig { window_ms: 0, ..DispatchConfig::default() };
        let dispatcher = Dispatcher::new(
            &self.nats,
            Arc::new(self.nats.client.clone()),
            config,
            Inspector::default(),
        );
        let stream = self.nats.jetstream.get_stream(stream::TRIP).await.unwrap();
        let subject = self.nats.partitions.trip_event(trip(number));
        let requested = stream.direct_get_first_for_subject(subject).await.unwrap();
        dispatcher.see(&Stored {
            subject: requested.subject.to_string(),
            sequence: requested.sequence,
            published: requested.time.into(),
            headers: requested.headers,
            payload: requested.payload,
        });
        dispatcher
    }

    async fn command(&self, number: u32, step: &str, command: TripCommand) {
        let id = CommandId::keyed(trip(number).0, step);
        self.store.execute(trip(number), id, &Cause::default(), &command).await.unwrap();
    }

    pub(super) async fn request(&self, number: u32) {
        let mut request = given::request();
        if let TripCommand::Request { pickup: from, asked_at, .. } = &mut request {
            *from = pickup(number);
            *asked_at = self.store.port().clock.now();
        }
        self.command(number, "request", request).await;
    }

    pub(super) async fn close(&self, number: u32, offer: OfferId, why: OfferEnd) {
        self.command(number, &offer.to_string(), TripCommand::CloseOffer { offer, why }).await;
    }

    pub(super) async fn cancel(&self, number: u32) {
        let (rider, reason) = (given::RIDER, given::reason("change_of_plans"));
        let asked_at = self.store.port().clock.now();
        let cancel = TripCommand::CancelByRider { rider, reason, asked_at };
        self.command(number, "cancel", cancel).await;
    }

    /// Every offer of a trip, oldest first.
    pub(super) async fn offers(&self, number: u32) -> Vec<OfferRecord> {
        let loaded = self.store.load(trip(number)).await.unwrap();
        loaded.state.search().map(|search| search.offers.clone()).unwrap_or_default()
    }

    /// Waits until a trip has made so many offers.
    pub(super) async fn offered(&self, number: u32, count: usize) -> Vec<OfferRecord> {
        eventually("the trip is offered", async || {
            Some(self.offers(number).await).filter(|offers| offers.len() == count)
        })
        .await
    }

    /// Stops the dispatchers and waits until they have ended without an error.
    pub(super) async fn stop(mut self) {
        self.shutdown.cancel();
        self.nats.client.drain().await.unwrap();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap().unwrap();
        }
    }
}

/// Every partition says who of these is near enough and not excluded.
pub(super) fn answer(
    question: &v1::CandidatesRequest,
    ways: &[(DriverId, u32)],
) -> v1::CandidatesReply {
    let is_near = |(driver, eta_s): &&(DriverId, u32)| {
        *eta_s <= question.eta_max_s && !question.excluded.contains(&driver.to_vec())
    };
    let candidate = |(driver, eta_s): &(DriverId, u32)| v1::Candidate {
        driver_id: driver.to_vec(),
        position: question.pickup,
        eta_s: *eta_s,
        distance_m: eta_s * 8,
        idle_since_us: 0,
    };
    v1::CandidatesReply {
        candidates: ways.iter().filter(is_near).map(candidate).collect(),
        read: (0..PARTITIONS).map(|partition| v1::PartitionRead { partition, lag_ms: 0 }).collect(),
        partitions: PARTITIONS,
    }
}
