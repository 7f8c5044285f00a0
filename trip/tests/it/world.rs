//! What is around the service: the broker, and the service itself, which may die.

use std::time::Duration;

use common::{
    auth::{Issuer, Role},
    consumer::{self, Delivery, Failure},
    event_store::EventStore,
    id::TripId,
    nats::{Nats, NatsConfig},
    stream::{self, ConsumerSpec},
    subject::Partitions,
    telemetry::TelemetryConfig,
    testing::{self, TestBroker, eventually},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use trip::{
    Config, TermsConfig, archive::ArchiveConfig, consumers::Reactions, dispatch::DispatchConfig,
    domain::Terms, record::TripDecider,
};
use uuid::Uuid;

use crate::console::Console;

const TOKEN_TTL: Duration = Duration::from_secs(600);
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
    /// Where its trips go that ended long ago.
    pub(crate) archive: TempDir,
    issuer: Issuer,
    base: String,
    shutdown: CancellationToken,
    service: JoinSet<anyhow::Result<()>>,
}

impl World {
    /// A broker, and nobody on it.
    pub(crate) async fn empty() -> Self {
        let broker = testing::broker().await;
        let nats = Nats::new(broker.client().await, Partitions::new(2).unwrap());
        nats.prepare().await.unwrap();
        Self {
            store: EventStore::new(&nats),
            issuer: Issuer::generate(nats.clock.clone()).unwrap(),
            archive: TempDir::new().unwrap(),
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
                consuming: self.nats.consuming,
            },
            auth: self.issuer.config(),
            telemetry: TelemetryConfig { log: "warn".into(), log_json: false },
            terms: TermsConfig::from(terms),
            dispatch: DispatchConfig::default(),
            archive: ArchiveConfig {
                archive_dir: Some(self.archive.path().to_owned()),
                ..ArchiveConfig::default()
            },
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

    /// The rider's service reads what ended trips cost.
    pub(crate) fn payments_read(&mut self) {
        let (nats, stop) = (self.nats.clone(), self.shutdown.clone());
        self.service.spawn(async move {
            consumer::run(&nats, stream::RIDER_PAYMENTS, stop, |_, _| async { Ok(()) }).await
        });
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
