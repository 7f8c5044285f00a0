//! The whole system on one simulated broker: the services' own code, the ways between them, and what
//! they keep on their disks.

mod broker;
mod calls;
mod follow;
pub mod gateways;
mod location;
mod provider;
mod reader;
mod rider;
mod services;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use ::rider::store::Store;
use bytes::Bytes;
use common::{
    clock::{Clock, Timestamp},
    id::{DriverId, TripId},
    log::LogPort,
    subject::Partitions,
};
use tokio::sync::{Notify, mpsc};

use self::{broker::SimLog, reader::Handler, services::Service};
pub use self::{calls::Way, provider::Book, services::Kind};
use super::{
    engine::{Host, Sim},
    faults::{Options, Wire},
    jetstream::{Output, Reader, SimJetStream},
    witness::Witness,
};

/// How long after it was brought up the first processes read the broker's time again.
const CLOCK_EVERY: Duration = Duration::from_secs(5);

/// A process of ours: a machine with a clock, and what runs on it.
struct Process {
    name: String,
    kind: Kind,
    machine_us: Arc<AtomicI64>,
    skew_us: i64,
    is_up: bool,
    /// Whether the broker can be reached from here.
    is_cut: bool,
    service: Option<Service>,
    readers: Vec<Reader>,
    handlers: BTreeMap<&'static str, Handler>,
}

/// What is shared by all that runs.
struct Shared {
    broker: SimJetStream,
    is_broker_up: bool,
    processes: BTreeMap<Host, Process>,
    inboxes: BTreeMap<Reader, mpsc::UnboundedSender<Output>>,
    live: BTreeMap<String, Vec<mpsc::UnboundedSender<Bytes>>>,
    readers: u64,
    book: Book,
    silent: BTreeMap<DriverId, Timestamp>,
    heard: BTreeMap<DriverId, Timestamp>,
    pins: BTreeMap<TripId, String>,
    witness: Witness,
}

/// See the module.
pub struct World {
    /// Time and chance.
    pub sim: Sim,
    /// What was drawn from the seed.
    pub options: Options,
    partitions: Partitions,
    shared: Mutex<Shared>,
    stored: BTreeMap<&'static str, Notify>,
    /// The rider service's disk: what is committed survives its process.
    pub store: Store,
    has_faults: AtomicBool,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("options", &self.options).finish_non_exhaustive()
    }
}

impl World {
    /// A system that is provisioned and in which nothing runs yet.
    ///
    /// # Errors
    /// When the broker or the store cannot be set up.
    pub fn new(sim: Sim, options: Options) -> anyhow::Result<Arc<Self>> {
        let partitions = Partitions::new(options.partitions).unwrap_or_default();
        let mut broker = SimJetStream::new(options.of_broker());
        broker.provision(sim.now(), partitions)?;
        let shared = Shared {
            broker,
            is_broker_up: true,
            processes: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            live: BTreeMap::new(),
            readers: 0,
            book: Book::new(Duration::from_secs(options.keys_forgotten_s)),
            silent: BTreeMap::new(),
            heard: BTreeMap::new(),
            pins: BTreeMap::new(),
            witness: Witness::default(),
        };
        let streams = [common::stream::TRIP, common::stream::DRIVER];
        let world = Arc::new(Self {
            sim,
            options,
            partitions,
            shared: Mutex::new(shared),
            stored: streams.into_iter().map(|stream| (stream, Notify::new())).collect(),
            store: Store::inline()?,
            has_faults: AtomicBool::new(true),
        });
        for (number, kind) in Kind::PROCESSES.into_iter().enumerate() {
            let host = Host(u32::try_from(number + 1).unwrap_or(u32::MAX));
            world.install(host, kind, number);
            world.start(host);
        }
        Ok(world)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn install(&self, host: Host, kind: Kind, number: usize) {
        let most = i64::try_from(self.options.clock_skew_s * 1_000_000).unwrap_or(0);
        let drawn = self.sim.pick(0..self.options.clock_skew_s * 2_000_000 + 1);
        let skew_us = i64::try_from(drawn).unwrap_or(0) - most;
        let machine = self.sim.now().micros() + skew_us;
        let process = Process {
            name: format!("{}-{number}", kind.name()),
            kind,
            machine_us: Arc::new(AtomicI64::new(machine)),
            skew_us,
            is_up: false,
            is_cut: false,
            service: None,
            readers: Vec::new(),
            handlers: BTreeMap::new(),
        };
        self.shared().processes.insert(host, process);
    }

    /// Lets the broker and the machines' clocks catch up with the time; says when the broker has
    /// something to do by itself.
    pub fn elapse(self: &Arc<Self>, now: Timestamp) -> Option<Timestamp> {
        {
            let shared = self.shared();
            for process in shared.processes.values() {
                process.machine_us.store(now.micros() + process.skew_us, Ordering::Relaxed);
            }
        }
        self.with_broker(|broker| {
            broker.advance(now);
            broker.next_wake()
        })
    }

    /// Starts a process.
    pub fn start(self: &Arc<Self>, host: Host) {
        let machine_us = {
            let mut shared = self.shared();
            let Some(process) = shared.processes.get_mut(&host).filter(|process| !process.is_up)
            else {
                return;
            };
            process.is_up = true;
            Arc::clone(&process.machine_us)
        };
        let port = LogPort {
            log: Arc::new(SimLog { world: Arc::clone(self), host }),
            clock: Clock::by_hand(machine_us),
            partitions: self.partitions,
        };
        let world = Arc::clone(self);
        self.sim.spawn(host, async move { services::run(world, host, port).await });
    }

    /// Kills a process: what it was about to do does not happen, what it sent is under way.
    pub fn kill(self: &Arc<Self>, host: Host) {
        let readers = {
            let mut shared = self.shared();
            let Some(process) = shared.processes.get_mut(&host).filter(|process| process.is_up)
            else {
                return;
            };
            process.is_up = false;
            process.service = None;
            process.handlers.clear();
            std::mem::take(&mut process.readers)
        };
        self.sim.tell(format!("{} dies", self.name(host)));
        self.sim.kill(host);
        for reader in readers {
            self.shared().inboxes.remove(&reader);
            let now = self.sim.now();
            self.with_broker(|broker| broker.disconnect(now, reader));
        }
    }

    /// The processes there are.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        self.shared().processes.keys().copied().collect()
    }

    /// What a process is called.
    #[must_use]
    pub fn name(&self, host: Host) -> String {
        let shared = self.shared();
        shared.processes.get(&host).map_or_else(|| "phone".to_owned(), |it| it.name.clone())
    }

    /// Whether a process and the broker do not reach each other.
    pub fn cut(&self, host: Host, is_cut: bool) {
        if let Some(process) = self.shared().processes.get_mut(&host) {
            process.is_cut = is_cut;
        }
    }

    /// A driver's phone is silent until then.
    pub fn silence(&self, driver: DriverId, until: Timestamp) {
        self.shared().silent.insert(driver, until);
    }

    /// Whether a driver's phone is silent.
    #[must_use]
    pub fn is_silent(&self, driver: DriverId) -> bool {
        let now = self.sim.now();
        self.shared().silent.get(&driver).is_some_and(|until| now < *until)
    }

    /// Whether any phone is silent.
    #[must_use]
    pub fn is_somebody_silent(&self) -> bool {
        let now = self.sim.now();
        self.shared().silent.values().any(|until| now < *until)
    }

    /// A driver's phone sent its position.
    pub fn hear(&self, driver: DriverId) {
        let now = self.sim.now();
        self.shared().heard.insert(driver, now);
    }

    /// The rider's app shows this PIN.
    pub fn show_pin(&self, trip: TripId, pin: String) {
        self.shared().pins.insert(trip, pin);
    }

    /// What the rider of a trip tells the driver, if the rider is there.
    #[must_use]
    pub fn pin(&self, trip: TripId) -> Option<String> {
        self.shared().pins.get(&trip).cloned()
    }

    /// Does something with the payment provider's books.
    pub fn with_book<T>(&self, work: impl FnOnce(&mut Book) -> T) -> T {
        work(&mut self.shared().book)
    }

    /// Does something with what is remembered for the audit.
    pub fn with_witness<T>(&self, work: impl FnOnce(&mut Witness) -> T) -> T {
        work(&mut self.shared().witness)
    }

    /// Counts something that the coverage table lists.
    pub fn seen(&self, what: impl Into<String>) {
        self.with_witness(|witness| witness.seen(what));
    }

    /// No more faults: everything is whole again, and stays so.
    pub fn heal(&self) {
        self.has_faults.store(false, Ordering::Relaxed);
    }

    /// Whether faults may happen.
    #[must_use]
    pub fn has_faults(&self) -> bool {
        self.has_faults.load(Ordering::Relaxed)
    }

    /// The rates of faults on a kind of way, now.
    fn wire(&self, way: Way) -> Wire {
        if !self.has_faults() {
            return Wire::default();
        }
        match way {
            Way::Broker => self.options.broker,
            Way::Call => self.options.calls,
            Way::Provider => self.options.provider,
        }
    }
}
