//! Virtual time and one thread that runs everything: tasks are polled one at a time, in an order that
//! the seed chooses, and time jumps to what is due next. Nothing else decides what happens when.

mod trace;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use common::clock::Timestamp;
use futures_util::future::{Either, select};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use tokio::sync::oneshot;

pub use trace::Trace;

/// When every simulation begins: 2027-01-15 08:00 UTC.
pub const BEGINNING: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// A process, or the world outside (phones, the payment provider, whoever breaks things).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub u32);

/// Everything that no process of ours is.
pub const OUTSIDE: Host = Host(0);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

enum Due {
    Wake(oneshot::Sender<()>),
    Act(Box<dyn FnOnce() + Send>),
}

enum Order {
    Kill(Host),
    Pause(Host),
    Resume(Host),
}

struct State {
    now: Timestamp,
    chance: ChaCha8Rng,
    due: BTreeMap<(Timestamp, u64), Due>,
    numbered: u64,
    born: Vec<(u64, Host, Task)>,
    orders: Vec<Order>,
    trace: Trace,
}

/// Access to virtual time, chance and tasks; cheap to clone.
#[derive(Clone)]
pub struct Sim {
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").finish_non_exhaustive()
    }
}

impl Sim {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.state().now
    }

    /// Whether something with this probability (0 to 1) happens now.
    #[must_use]
    pub fn happens(&self, probability: f64) -> bool {
        probability > 0.0 && self.state().chance.random_bool(probability.min(1.0))
    }

    /// A number from this range.
    #[must_use]
    pub fn pick(&self, range: std::ops::Range<u64>) -> u64 {
        if range.is_empty() { range.start } else { self.state().chance.random_range(range) }
    }

    /// A time between two.
    #[must_use]
    pub fn between(&self, least: Duration, most: Duration) -> Duration {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.pick(micros(least)..micros(most).saturating_add(1)))
    }

    /// One of these.
    #[must_use]
    pub fn one_of<'a, T>(&self, all: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(all.len()).unwrap_or(0);
        all.get(usize::try_from(self.pick(0..count)).unwrap_or(0))
    }

    /// A fresh id.
    #[must_use]
    pub fn id(&self) -> uuid::Uuid {
        uuid::Uuid::from_u128(self.state().chance.random())
    }

    /// Waits.
    pub async fn sleep(&self, time: Duration) {
        let (wake, woken) = oneshot::channel();
        {
            let mut state = self.state();
            let at = state.now.plus(time);
            state.put(at, Due::Wake(wake));
        }
        // Whoever sleeps when everything ends is dropped with it.
        woken.await.ok();
    }

    /// Waits no longer than this for something.
    pub async fn within<T>(&self, time: Duration, work: impl Future<Output = T>) -> Option<T> {
        match select(std::pin::pin!(work), std::pin::pin!(self.sleep(time))).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    /// Does something later.
    pub fn after(&self, time: Duration, act: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        let at = state.now.plus(time);
        state.put(at, Due::Act(Box::new(act)));
    }

    /// Starts a task of a host.
    pub fn spawn(&self, host: Host, task: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.state();
        state.numbered += 1;
        let number = state.numbered;
        state.born.push((number, host, Box::pin(task)));
    }

    /// Ends all tasks of a host where they stand.
    pub fn kill(&self, host: Host) {
        self.state().orders.push(Order::Kill(host));
    }

    /// Stops a host; it does not notice.
    pub fn pause(&self, host: Host) {
        self.state().orders.push(Order::Pause(host));
    }

    /// Lets a stopped host go on.
    pub fn resume(&self, host: Host) {
        self.state().orders.push(Order::Resume(host));
    }

    /// Writes a line into the history.
    pub fn tell(&self, line: impl Into<String>) {
        let mut state = self.state();
        let now = state.now;
        state.trace.tell(now, &line.into());
    }
}

impl State {
    fn put(&mut self, at: Timestamp, due: Due) {
        self.numbered += 1;
        self.due.insert((at, self.numbered), due);
    }
}

/// The tasks that want to be polled.
#[derive(Debug, Default)]
struct Ready(Mutex<BTreeSet<u64>>);

struct TaskWaker {
    task: u64,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.0.lock().unwrap_or_else(PoisonError::into_inner).insert(self.task);
    }
}

struct Running {
    host: Host,
    task: Task,
    waker: Waker,
}

/// Runs tasks and time, step by step.
pub struct Machine {
    sim: Sim,
    ready: Arc<Ready>,
    running: BTreeMap<u64, Running>,
    paused: BTreeSet<Host>,
    steps: u64,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl Machine {
    /// A machine on which nothing runs yet. With `has_history` it keeps what it is told.
    #[must_use]
    pub fn new(seed: u64, has_history: bool) -> Self {
        let state = State {
            now: BEGINNING,
            chance: ChaCha8Rng::seed_from_u64(seed),
            due: BTreeMap::new(),
            numbered: 0,
            born: Vec::new(),
            orders: Vec::new(),
            trace: Trace::new(has_history),
        };
        Self {
            sim: Sim { state: Arc::new(Mutex::new(state)) },
            ready: Arc::default(),
            running: BTreeMap::new(),
            paused: BTreeSet::new(),
            steps: 0,
        }
    }

    /// What tasks see of it.
    #[must_use]
    pub fn sim(&self) -> &Sim {
        &self.sim
    }

    /// How many steps it has made.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What happened. The machine cannot go on afterwards.
    #[must_use]
    pub fn into_trace(self) -> Trace {
        let Self { sim, running, .. } = self;
        drop(running);
        std::mem::take(&mut sim.state().trace)
    }

    /// Makes one step: polls a task that wants it, or goes to the next moment at which something is
    /// due. `elapse` hears of the time that goes by, and says when it has something to do itself.
    /// `false`: nothing will ever happen again.
    pub fn step(&mut self, elapse: &mut dyn FnMut(Timestamp) -> Option<Timestamp>) -> bool {
        self.obey();
        self.steps += 1;
        if let Some(task) = self.next_ready() {
            self.poll(task);
            return true;
        }
        let own = self.sim.state().due.keys().next().map(|(at, _)| *at);
        let others = elapse(self.sim.now());
        let Some(at) = own.into_iter().chain(others).min() else { return false };
        let due = {
            let mut state = self.sim.state();
            state.now = state.now.max(at);
            let (now, steps) = (state.now, self.steps);
            state.trace.step(now, steps);
            match state.due.first_entry() {
                Some(first) if first.key().0 <= now => Some(first.remove()),
                Some(_) | None => None,
            }
        };
        elapse(self.sim.now());
        match due {
            Some(Due::Wake(wake)) => drop(wake.send(())),
            Some(Due::Act(act)) => act(),
            None => {}
        }
        true
    }

    fn obey(&mut self) {
        let (born, orders) = {
            let mut state = self.sim.state();
            (std::mem::take(&mut state.born), std::mem::take(&mut state.orders))
        };
        for order in orders {
            match order {
                Order::Kill(host) => {
                    self.paused.remove(&host);
                    self.running.retain(|_, running| running.host != host);
                }
                Order::Pause(host) => drop(self.paused.insert(host)),
                Order::Resume(host) => drop(self.paused.remove(&host)),
            }
        }
        for (number, host, task) in born {
            let waker = TaskWaker { task: number, ready: Arc::clone(&self.ready) };
            let waker = Waker::from(Arc::new(waker));
            waker.wake_by_ref();
            self.running.insert(number, Running { host, task, waker });
        }
    }

    /// Any of the tasks that could go on: their order is the seed's.
    fn next_ready(&mut self) -> Option<u64> {
        let mut ready = self.ready.0.lock().unwrap_or_else(PoisonError::into_inner);
        ready.retain(|task| self.running.contains_key(task));
        let may_run = |task: &&u64| {
            self.running.get(task).is_some_and(|running| !self.paused.contains(&running.host))
        };
        let all: Vec<u64> = ready.iter().filter(may_run).copied().collect();
        let task = *self.sim.one_of(&all)?;
        ready.remove(&task);
        Some(task)
    }

    fn poll(&mut self, task: u64) {
        let Some(running) = self.running.get_mut(&task) else { return };
        {
            let mut state = self.sim.state();
            let now = state.now;
            state.trace.step(now, task);
        }
        let mut context = Context::from_waker(&running.waker);
        if let Poll::Ready(()) = running.task.as_mut().poll(&mut context) {
            self.running.remove(&task);
        }
    }
}
