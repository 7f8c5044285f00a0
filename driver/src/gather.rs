//! Gathers pings of many phones into one message per partition, as a log's producer would: the
//! first waits a little for others, and so many frames may be unacknowledged. All partitions' frames
//! leave together: to wake the broker once for sixteen messages costs little more than for one.
//! A phone is answered only when the stream has acknowledged its frame.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use async_nats::{Subject, jetstream};
use common::{
    failpoint, metrics,
    nats::Nats,
    ping::{BatchHead, FrameBuilder, Ping},
    subject,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::config::GatherConfig;

/// Pings of one partition that may wait here. While the broker is slow frames grow up to this;
/// what comes then is refused.
const WAITING_PINGS_MAX: usize = 4_096;
/// How much rarer than usual a phone is asked to send when it was refused.
const REFUSED_FACTOR: u64 = 8;

/// Why pings were not stored. The phone keeps them and sends them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// As many wait already as may.
    #[error("too many pings wait for the broker")]
    Overloaded,
    /// The broker did not acknowledge; they may be stored all the same, which is harmless.
    #[error("the broker did not acknowledge")]
    Unacknowledged,
}

/// How a frame fared; `None` while that is not known.
type Fate = Option<Result<(), NotStored>>;

/// Gathers, for all partitions.
#[derive(Debug)]
pub struct Gatherer {
    jetstream: jetstream::Context,
    config: GatherConfig,
    partitions: Vec<Partition>,
    /// A frame was begun.
    begun: Notify,
    /// A frame has as many pings as it should.
    full: Notify,
    window: Arc<Semaphore>,
    accepted: AtomicU64,
}

#[derive(Debug)]
struct Partition {
    subject: Subject,
    open: Mutex<Frame>,
}

impl Partition {
    fn open(&self) -> MutexGuard<'_, Frame> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Frame {
    builder: FrameBuilder,
    fate: watch::Sender<Fate>,
}

impl Gatherer {
    /// On this connection. Nothing leaves before [`Self::run`] runs.
    #[must_use]
    pub fn new(nats: &Nats, config: GatherConfig) -> Self {
        let partition = |p| Partition {
            subject: Subject::from(subject::ping(p)),
            open: Mutex::new(Frame { builder: FrameBuilder::default(), fate: new_fate() }),
        };
        Self {
            jetstream: nats.jetstream.clone(),
            partitions: nats.partitions.all().map(partition).collect(),
            begun: Notify::new(),
            full: Notify::new(),
            window: Arc::new(Semaphore::new(config.ping_frames_in_flight)),
            accepted: AtomicU64::new(0),
            config,
        }
    }

    /// How many pings were answered with "stored" since the start.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Stores what one phone sent, and returns when the stream has it.
    ///
    /// # Errors
    /// When there is no room, or the broker did not acknowledge in time.
    pub async fn store(
        &self,
        partition: u32,
        head: &BatchHead,
        pings: &[Ping],
    ) -> Result<(), NotStored> {
        let mut fate = self.add(partition, head, pings)?;
        let fate = match fate.wait_for(Option::is_some).await {
            Ok(known) => (*known).unwrap_or(Err(NotStored::Unacknowledged)),
            // The gatherer stopped with this frame in hand.
            Err(_) => Err(NotStored::Unacknowledged),
        };
        if fate.is_ok() {
            let count = u64::try_from(pings.len()).unwrap_or(0);
            self.accepted.fetch_add(count, Ordering::Relaxed);
            metrics::PINGS_ACCEPTED.with(&metrics::NO_LABELS).increment(count);
        }
        fate
    }

    fn add(
        &self,
        partition: u32,
        head: &BatchHead,
        pings: &[Ping],
    ) -> Result<watch::Receiver<Fate>, NotStored> {
        let partition = usize::try_from(partition)
            .ok()
            .and_then(|index| self.partitions.get(index))
            .ok_or(NotStored::Overloaded)?;
        let mut frame = partition.open();
        let before = frame.builder.pings();
        if before + pings.len() > WAITING_PINGS_MAX {
            return Err(NotStored::Overloaded);
        }
        frame.builder.push(head, pings);
        if before == 0 {
            self.begun.notify_one();
        }
        if frame.builder.pings() >= self.config.ping_frame_pings {
            self.full.notify_one();
        }
        Ok(frame.fate.subscribe())
    }

    /// When a phone should send next: later, the fuller the window is.
    #[must_use]
    pub fn next_interval_ms(&self) -> u64 {
        let (free, all) = (self.window.available_permits(), self.config.ping_frames_in_flight);
        let factor = match free.saturating_mul(4) {
            quarters if quarters >= all.saturating_mul(2) => 1,
            quarters if quarters >= all => 2,
            _ => 4,
        };
        self.config.ping_interval_ms.saturating_mul(factor)
    }

    /// When a phone that was refused should try again.
    #[must_use]
    pub fn refused_interval_ms(&self) -> u64 {
        self.config.ping_interval_ms.saturating_mul(REFUSED_FACTOR)
    }

    /// Sends frames until shutdown, and then what is still waiting.
    ///
    /// # Errors
    /// Never; the signature lets it stand beside the service's other parts in a `try_join!`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut in_flight = JoinSet::new();
        while shutdown.run_until_cancelled(self.begun.notified()).await.is_some() {
            tokio::select! {
                () = tokio::time::sleep(self.config.linger()) => {}
                () = self.full.notified() => {}
            }
            self.send_all(&mut in_flight).await;
            while in_flight.try_join_next().is_some() {}
        }
        self.send_all(&mut in_flight).await;
        while in_flight.join_next().await.is_some() {}
        Ok(())
    }

    async fn send_all(&self, in_flight: &mut JoinSet<()>) {
        for partition in &self.partitions {
            self.send(partition, in_flight).await;
        }
    }

    /// Sends the open frame as soon as the window has a place; until then it grows.
    async fn send(&self, partition: &Partition, in_flight: &mut JoinSet<()>) {
        if partition.open().builder.is_empty() {
            return;
        }
        let Ok(place) = Arc::clone(&self.window).acquire_owned().await else { return };
        let (payload, fate) = {
            let mut frame = partition.open();
            (frame.builder.finish(), std::mem::replace(&mut frame.fate, new_fate()))
        };
        let (jetstream, subject) = (self.jetstream.clone(), partition.subject.clone());
        in_flight.spawn(publish(jetstream, subject, payload, fate, place));
    }
}

fn new_fate() -> watch::Sender<Fate> {
    watch::Sender::new(None)
}

async fn publish(
    jetstream: jetstream::Context,
    subject: Subject,
    payload: Vec<u8>,
    fate: watch::Sender<Fate>,
    place: OwnedSemaphorePermit,
) {
    failpoint::reach("gather.publishing");
    let stored = async { jetstream.publish(subject, payload.into()).await?.await };
    let known = stored.await.map(drop).map_err(|err| {
        tracing::warn!(error = %err, "a frame of pings was not acknowledged");
        NotStored::Unacknowledged
    });
    failpoint::reach("gather.stored");
    drop(place);
    fate.send_replace(Some(known));
}
