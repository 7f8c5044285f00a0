//! The broker as its own process, which is killed, restarted and paused on order, and started again
//! whenever it has ended.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use common::{
    broker::{Broker, Environment, Options},
    room,
    subject::Partitions,
};
use rustix::process::Signal;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{process::send, replica::START_AGAIN_AFTER};

/// Orders that may wait; more are never given at a time.
const ORDERS_MAX: usize = 4;
/// What streams without a limit may take beside those with one: more than a run of hours needs.
const BESIDE_BYTES: u64 = 2 << 30;
/// With this nothing more fits in, whatever there is.
const FULL_BYTES: u64 = 1;

#[derive(Debug)]
enum Order {
    Kill,
    Restart,
    Pause,
    Resume,
    /// The account may store so many bytes.
    Limit(u64),
}

type Ordered = (Order, oneshot::Sender<()>);

/// How often the broker ended.
#[derive(Debug, Default)]
struct Record {
    kills: AtomicU64,
    restarts: AtomicU64,
    crashes: AtomicU64,
}

/// A supervised broker.
#[derive(Debug)]
pub(super) struct BrokerHost {
    pub(super) url: String,
    pub(super) address: SocketAddr,
    orders: mpsc::Sender<Ordered>,
    record: Arc<Record>,
}

impl BrokerHost {
    /// Starts it with its streams in this directory.
    pub(super) async fn start(
        store: std::path::PathBuf,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        over: CancellationToken,
    ) -> anyhow::Result<Self> {
        let environment = Environment { nats_url: None, ..Environment::of_process() };
        let options = Options {
            store: Some(store),
            account_max_file_bytes: Some(account_bytes()),
            ..Options::new(environment)
        };
        let broker = Broker::start(options).await.context("no broker")?;
        let url = broker.url().to_owned();
        let address = url.trim_start_matches("nats://").parse();
        let address = address.with_context(|| format!("the broker's address `{url}`"))?;
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let record = Arc::<Record>::default();
        tasks.spawn(supervise(broker, ordered, Arc::clone(&record), over));
        Ok(Self { url, address, orders, record })
    }

    /// `kill -9`; returns when it runs again.
    pub(super) async fn kill(&self) {
        self.order(Order::Kill).await;
    }

    /// Stops it in order; returns when it runs again.
    pub(super) async fn restart(&self) {
        self.order(Order::Restart).await;
    }

    pub(super) async fn pause(&self) {
        self.order(Order::Pause).await;
    }

    pub(super) async fn resume(&self) {
        self.order(Order::Resume).await;
    }

    /// Leaves the account no room: nothing is stored any more, and no timer fires.
    pub(super) async fn fill(&self) {
        self.order(Order::Limit(FULL_BYTES)).await;
    }

    /// Gives it back.
    pub(super) async fn free(&self) {
        self.order(Order::Limit(account_bytes())).await;
    }

    async fn order(&self, order: Order) {
        let (done, carried_out) = oneshot::channel();
        if self.orders.send((order, done)).await.is_ok() {
            // Dropped unanswered when all is over.
            carried_out.await.ok();
        }
    }

    /// How often it was killed.
    pub(super) fn kills(&self) -> u64 {
        self.record.kills.load(Ordering::Relaxed)
    }

    /// How often it was stopped in order and started again.
    pub(super) fn restarts(&self) -> u64 {
        self.record.restarts.load(Ordering::Relaxed)
    }

    /// How often it ended by itself.
    pub(super) fn crashes(&self) -> u64 {
        self.record.crashes.load(Ordering::Relaxed)
    }
}

/// What the account may store while it is not full.
fn account_bytes() -> u64 {
    room::limited_bytes(Partitions::default()).saturating_add(BESIDE_BYTES)
}

async fn supervise(
    mut broker: Broker,
    mut orders: mpsc::Receiver<Ordered>,
    record: Arc<Record>,
    over: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            Some((order, done)) = orders.recv() => {
                carry_out(&mut broker, &order, &record).await?;
                // Whoever gave the order may have given up waiting.
                done.send(()).ok();
            }
            status = broker.exited() => {
                tracing::error!(status = ?status?, "the broker ended by itself");
                record.crashes.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(START_AGAIN_AFTER).await;
                broker.restart().await?;
            }
            () = over.cancelled() => {
                send(broker.pid(), Signal::CONT)?;
                broker.stop().await?;
                return Ok(());
            }
        }
    }
}

async fn carry_out(broker: &mut Broker, order: &Order, record: &Record) -> anyhow::Result<()> {
    match order {
        Order::Kill => {
            record.kills.fetch_add(1, Ordering::Relaxed);
            broker.kill().await?;
            tokio::time::sleep(START_AGAIN_AFTER).await;
            broker.restart().await?;
        }
        Order::Restart => {
            record.restarts.fetch_add(1, Ordering::Relaxed);
            broker.restart_in_order().await?;
        }
        Order::Pause => send(broker.pid(), Signal::STOP)?,
        Order::Resume => send(broker.pid(), Signal::CONT)?,
        Order::Limit(bytes) => {
            broker.limit_account(*bytes)?;
            send(broker.pid(), Signal::HUP)?;
        }
    }
    Ok(())
}
