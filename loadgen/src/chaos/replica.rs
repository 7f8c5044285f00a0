//! One replica of a service: a process that is started again whenever it ends, as an orchestrator
//! would, and a record of why it ended.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use common::failpoint;
use rustix::process::Signal;
use serde::Serialize;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::process::{Process, Start};

/// An orchestrator takes so long to start what has ended.
pub(super) const START_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// A service that has not stopped by then is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Orders that may wait; more are never given at a time.
const ORDERS_MAX: usize = 16;

/// What to run and where.
#[derive(Debug, Clone)]
pub(super) struct ReplicaPlan {
    /// Such as `trip-2`.
    pub(super) name: String,
    pub(super) service: &'static str,
    pub(super) listen: SocketAddr,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// What to log, as `RUST_LOG` has it.
    pub(super) log: String,
    pub(super) logs: PathBuf,
}

impl ReplicaPlan {
    /// The file that says how wrong its clock is.
    fn clock(&self) -> PathBuf {
        self.logs.join(format!("{}.clock", self.name))
    }
}

/// Why a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    /// `kill -9`, ordered.
    Killed,
    /// SIGTERM, ordered.
    Stopped,
    /// At the failpoint that it was started with.
    Failpoint,
    /// By a message that takes the process with it.
    Aborted,
    /// By itself, with an error: as a service does that cannot start without the broker.
    GaveUp,
}

impl Why {
    /// Whether it had no time to put anything in order.
    pub(super) fn is_crash(self) -> bool {
        matches!(self, Self::Killed | Self::Failpoint | Self::Aborted)
    }
}

/// A failpoint to die at, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Armed {
    pub(super) name: &'static str,
    pub(super) times: u32,
}

/// What the next process is started with.
#[derive(Debug, Clone, Default)]
struct Settings {
    /// Taken by the next start.
    armed: Option<Armed>,
}

/// What became of the processes of a replica.
#[derive(Debug, Default)]
struct Record {
    ends: BTreeMap<Why, u64>,
    failpoints: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Signal(Signal),
}

/// The process that runs now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Life {
    /// Counts from 1.
    pub(super) number: u64,
    pub(super) pid: Option<u32>,
}

/// A supervised replica.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) plan: ReplicaPlan,
    settings: Arc<Mutex<Settings>>,
    record: Arc<Mutex<Record>>,
    orders: mpsc::Sender<Order>,
    life: watch::Receiver<Life>,
}

impl Replica {
    /// Starts it and keeps it running until `over`; `tasks` ends when it has stopped.
    pub(super) fn start(
        plan: ReplicaPlan,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        over: CancellationToken,
    ) -> Self {
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let (alive, life) = watch::channel(Life::default());
        let (settings, record) = (Arc::default(), Arc::default());
        let supervisor = Supervisor {
            plan: plan.clone(),
            settings: Arc::clone(&settings),
            record: Arc::clone(&record),
            ordered,
            alive,
        };
        tasks.spawn(supervisor.run(over));
        Self { plan, settings, record, orders, life }
    }

    /// The process that runs now.
    pub(super) fn life(&self) -> Life {
        *self.life.borrow()
    }

    /// Waits until another process than this one runs.
    pub(super) async fn reborn(&self, before: Life) {
        let mut life = self.life.clone();
        let is_next = |now: &Life| now.number > before.number && now.pid.is_some();
        // The supervisor is gone only when all is over.
        drop(life.wait_for(is_next).await);
    }

    /// `kill -9`
    pub(super) async fn kill(&self) {
        self.signal(Signal::KILL).await;
    }

    /// SIGTERM: it puts everything in order, and is started again.
    pub(super) async fn restart(&self) {
        self.signal(Signal::TERM).await;
    }

    /// SIGSTOP: to everybody else it looks dead, to itself no time passes.
    pub(super) async fn pause(&self) {
        self.signal(Signal::STOP).await;
    }

    /// SIGCONT
    pub(super) async fn resume(&self) {
        self.signal(Signal::CONT).await;
    }

    async fn signal(&self, signal: Signal) {
        if self.orders.send(Order::Signal(signal)).await.is_err() {
            tracing::debug!(replica = self.plan.name, "is not supervised any more");
        }
    }

    /// The next process dies at this place.
    pub(super) fn arm(&self, armed: Option<Armed>) {
        self.with_settings(|settings| settings.armed = armed);
    }

    /// From now on its machine's clock on the wall is wrong by so much.
    pub(super) fn skew(&self, skew_ms: i64) -> std::io::Result<()> {
        std::fs::write(self.plan.clock(), skew_ms.to_string())
    }

    fn with_settings(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// How often its processes ended, by why.
    pub(super) fn ends(&self) -> BTreeMap<Why, u64> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).ends.clone()
    }

    /// How often each failpoint was hit here.
    pub(super) fn failpoints(&self) -> BTreeMap<&'static str, u64> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).failpoints.clone()
    }
}

struct Supervisor {
    plan: ReplicaPlan,
    settings: Arc<Mutex<Settings>>,
    record: Arc<Mutex<Record>>,
    ordered: mpsc::Receiver<Order>,
    alive: watch::Sender<Life>,
}

impl Supervisor {
    async fn run(mut self, over: CancellationToken) -> anyhow::Result<()> {
        for number in 1.. {
            let (mut process, armed) = self.start(number)?;
            self.alive.send_replace(Life { number, pid: process.pid() });
            let Some((status, asked)) = self.watch(&mut process, &over).await? else {
                return Ok(());
            };
            self.alive.send_replace(Life { number, pid: None });
            self.note(number, status, asked, armed);
            if over.run_until_cancelled(tokio::time::sleep(START_AGAIN_AFTER)).await.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn start(&self, number: u64) -> anyhow::Result<(Process, Option<Armed>)> {
        let armed = self.settings.lock().unwrap_or_else(PoisonError::into_inner).armed.take();
        let mut environment = vec![
            ("RUST_LOG", self.plan.log.clone()),
            (failpoint::POISONOUS, "1".to_owned()),
            (failpoint::CLOCK_SKEW_FILE, self.plan.clock().to_string_lossy().into_owned()),
        ];
        if let Some(armed) = &armed {
            environment.push((failpoint::ARMED, format!("{}:{}", armed.name, armed.times)));
        }
        let process = Process::start(&Start {
            program: &self.plan.program,
            arguments: &self.plan.arguments,
            environment: &environment,
            log: self.log(number),
        });
        let name = &self.plan.name;
        Ok((process.with_context(|| format!("`{name}` cannot be started"))?, armed))
    }

    fn log(&self, number: u64) -> PathBuf {
        self.plan.logs.join(format!("{}.{number:03}.log", self.plan.name))
    }

    /// Whether the last words of this process were those of one that dies where it was told to.
    fn says_it_was_there(&self, number: u64) -> bool {
        let log = std::fs::read(self.log(number)).unwrap_or_default();
        String::from_utf8_lossy(&log).contains(failpoint::LAST_WORDS)
    }

    /// Waits for its end, carrying out orders meanwhile. `None`: all is over, and it was stopped.
    async fn watch(
        &mut self,
        process: &mut Process,
        over: &CancellationToken,
    ) -> anyhow::Result<Option<(ExitStatus, Option<Signal>)>> {
        let mut asked = None;
        loop {
            tokio::select! {
                status = process.ended() => return Ok(Some((status?, asked))),
                Some(Order::Signal(signal)) = self.ordered.recv() => {
                    process.signal(signal)?;
                    if signal == Signal::KILL || signal == Signal::TERM {
                        asked = Some(signal);
                    }
                }
                () = over.cancelled() => {
                    stop(&self.plan.name, process).await?;
                    return Ok(None);
                }
            }
        }
    }

    fn note(&self, number: u64, status: ExitStatus, asked: Option<Signal>, armed: Option<Armed>) {
        let has_aborted = status.signal() == Some(Signal::ABORT.as_raw());
        // An armed process may be taken by a message before it comes by.
        let armed = armed.filter(|_| has_aborted && self.says_it_was_there(number));
        let why = match asked {
            Some(Signal::KILL) => Why::Killed,
            _ if has_aborted && armed.is_some() => Why::Failpoint,
            _ if has_aborted => Why::Aborted,
            Some(_) => Why::Stopped,
            None => Why::GaveUp,
        };
        tracing::info!(replica = self.plan.name, ?why, %status, ?armed, "ended");
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        *record.ends.entry(why).or_default() += 1;
        if let Some(armed) = armed.filter(|_| why == Why::Failpoint) {
            *record.failpoints.entry(armed.name).or_default() += 1;
        }
    }
}

/// Stops a process in order, or by force where it takes too long.
async fn stop(name: &str, process: &mut Process) -> anyhow::Result<()> {
    let asked = Instant::now();
    process.signal(Signal::CONT)?;
    process.signal(Signal::TERM)?;
    if tokio::time::timeout(STOP_WITHIN, process.ended()).await.is_err() {
        tracing::warn!("`{name}` did not stop within {:?}: killed", asked.elapsed());
        process.signal(Signal::KILL)?;
        process.ended().await?;
    }
    Ok(())
}
