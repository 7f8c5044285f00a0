//! What runs in the processes: the services' own code on the simulated log, wired as their `run`
//! wires it.

use std::{sync::Arc, time::Duration};

use common::{
    event_store::EventStore,
    log::LogPort,
    stream::{self, ConsumerSpec},
    subject,
    timer::{SWEEP_EVERY, Sweeper},
    view::Start,
};
use driver::record::DriverDecider;
use futures_util::{FutureExt as _, future::BoxFuture};
use trip::{
    consumers::Reactions,
    dispatch::{DispatchConfig, Dispatcher, Inspector},
    domain::Terms,
    record::TripDecider,
};

use super::{
    CLOCK_EVERY, Way, World, location,
    reader::{Durable, Handler},
    rider,
};
use crate::sim::engine::Host;

/// How long a try to read the broker's time takes at most.
const CLOCK_PATIENCE: Duration = Duration::from_secs(2);

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A replica of `trip`.
    Trip,
    /// A replica of `driver`.
    Driver,
    /// `rider`.
    Rider,
    /// `location`.
    Location,
}

impl Kind {
    /// All processes of the system.
    pub const PROCESSES: [Self; 6] =
        [Self::Trip, Self::Trip, Self::Driver, Self::Driver, Self::Rider, Self::Location];

    /// The service's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Trip => "trip",
            Self::Driver => "driver",
            Self::Rider => "rider",
            Self::Location => "location",
        }
    }
}

/// What callers reach in a process that runs.
#[derive(Debug, Clone)]
pub enum Service {
    /// `trip`: its histories.
    Trip(EventStore<TripDecider>),
    /// `driver`: its histories, and its connection.
    Driver(EventStore<DriverDecider>),
    /// `rider`: its connection. The store is the world's.
    Rider(LogPort),
    /// `location`: who does what.
    Location(Arc<location::Roll>),
}

impl Service {
    /// The service's connection; `location` is only asked.
    #[must_use]
    pub fn port(&self) -> Option<&LogPort> {
        match self {
            Self::Trip(store) => Some(store.port()),
            Self::Driver(store) => Some(store.port()),
            Self::Rider(port) => Some(port),
            Self::Location(_) => None,
        }
    }
}

/// How long trips wait for what: minutes instead of hours, in the same order as the standard terms.
pub(super) const TERMS: Terms = Terms {
    match_deadline: Duration::from_secs(90),
    offer_lease: Duration::from_secs(30),
    pickup_grace: Duration::from_secs(25),
    no_show_wait: Duration::from_secs(20),
    ride_grace: Duration::from_secs(30),
    free_cancellation: Duration::from_secs(15),
    rating_window: Duration::from_secs(3600),
};

/// Runs a process from its start to its death.
pub(super) async fn run(world: Arc<World>, host: Host, port: LogPort) {
    while !read_clock(&world, host, &port).await {
        world.sim.sleep(Duration::from_millis(200)).await;
    }
    let kind = {
        let shared = world.shared();
        shared.processes.get(&host).map(|process| process.kind)
    };
    let site = Site { world: Arc::clone(&world), host, port };
    match kind {
        Some(Kind::Trip) => site.trip(),
        Some(Kind::Driver) => site.driver(),
        Some(Kind::Rider) => rider::start(&site),
        Some(Kind::Location) => location::start(&site),
        None => return,
    }
    world.sim.tell(format!("{} runs", world.name(host)));
    loop {
        world.sim.sleep(CLOCK_EVERY).await;
        read_clock(&world, host, &site.port).await;
    }
}

async fn read_clock(world: &Arc<World>, host: Host, port: &LogPort) -> bool {
    let asked = world.sim.now();
    let now = world.request(Way::Broker, CLOCK_PATIENCE, move |world| {
        world.is_connected(host).then(|| world.sim.now())
    });
    let Some(now) = now.await else { return false };
    port.clock.observe(now, world.sim.now().since(asked));
    true
}

/// Where a service is being started.
pub(super) struct Site {
    pub(super) world: Arc<World>,
    pub(super) host: Host,
    pub(super) port: LogPort,
}

impl Site {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.world.sim.spawn(self.host, task);
    }

    /// Callers reach it from now on.
    pub(super) fn open(&self, service: Service) {
        if let Some(process) = self.world.shared().processes.get_mut(&self.host) {
            process.service = Some(service);
        }
    }

    pub(super) fn consume(&self, spec: ConsumerSpec, handler: &Handler) {
        if let Some(process) = self.world.shared().processes.get_mut(&self.host) {
            process.handlers.insert(spec.name, Arc::clone(handler));
        }
        for partition in spec.partitions(self.port.partitions) {
            let durable = Durable {
                world: Arc::clone(&self.world),
                host: self.host,
                port: self.port.clone(),
                spec,
                partition,
                handler: Arc::clone(handler),
            };
            self.spawn(durable.run());
        }
    }

    fn sweep<D: common::decider::Recorder>(&self, store: &EventStore<D>) {
        let sweeper = Arc::new(Sweeper::new(store.clone()));
        let (world, seen) = (Arc::clone(&self.world), Arc::clone(&sweeper));
        let follow = world.follow(
            self.host,
            D::STREAM,
            D::SUBJECTS.events(),
            Start::LastPerSubject,
            move |stored| seen.see(&stored),
        );
        self.spawn(follow);
        let sim = self.world.sim.clone();
        self.spawn(async move {
            loop {
                sweeper.fire_overdue().await;
                sim.sleep(SWEEP_EVERY).await;
            }
        });
    }

    fn trip(&self) {
        let store = EventStore::<TripDecider>::new(self.port.clone());
        let reactions = Arc::new(Reactions::new(store.clone(), TERMS));
        let handler = |react: Reaction| -> Handler {
            let reactions = Arc::clone(&reactions);
            Arc::new(move |delivery| {
                let reactions = Arc::clone(&reactions);
                async move { react(&reactions, &delivery).await }.boxed()
            })
        };
        self.consume(
            stream::TRIP_REQUESTS,
            &handler(|reactions, delivery| reactions.on_rider_event(delivery).boxed()),
        );
        self.consume(
            stream::TRIP_PROCESS,
            &handler(|reactions, delivery| reactions.on_trip_message(delivery).boxed()),
        );
        self.consume(
            stream::TRIP_DRIVERS,
            &handler(|reactions, delivery| reactions.on_driver_event(delivery).boxed()),
        );
        self.sweep(&store);
        self.dispatch();
        self.open(Service::Trip(store));
    }

    fn dispatch(&self) {
        let config = DispatchConfig::default();
        let nearby = Arc::new(location::Asked(Arc::clone(&self.world)));
        let dispatcher =
            Arc::new(Dispatcher::new(self.port.clone(), nearby, config, Inspector::default()));
        let seen = Arc::clone(&dispatcher);
        let follow = Arc::clone(&self.world).follow(
            self.host,
            stream::TRIP,
            subject::TRIP.events(),
            Start::LastPerSubject,
            move |stored| seen.see(&stored),
        );
        self.spawn(follow);
        let sim = self.world.sim.clone();
        self.spawn(async move {
            for number in 0.. {
                sim.sleep(config.window()).await;
                dispatcher.batch(number).await;
            }
        });
    }

    fn driver(&self) {
        let drivers = EventStore::<DriverDecider>::new(self.port.clone());
        let store = drivers.clone();
        let commands: Handler = Arc::new(move |delivery| {
            let store = store.clone();
            async move { driver::consumers::command(&store, &delivery).await }.boxed()
        });
        self.consume(stream::DRIVER_COMMANDS, &commands);
        let store = drivers.clone();
        let timers: Handler = Arc::new(move |delivery| {
            let store = store.clone();
            async move { driver::consumers::due(&store, &delivery).await }.boxed()
        });
        self.consume(stream::DRIVER_TIMERS, &timers);
        self.sweep(&drivers);
        self.open(Service::Driver(drivers));
    }
}

type Reaction = for<'a> fn(
    &'a Reactions,
    &'a common::consumer::Delivery,
) -> BoxFuture<'a, Result<(), common::consumer::Failure>>;
