//! How long a handler may take: the broker is told that a message is being worked on, but not for
//! ever. What panics is a failure of this message, not the end of the process.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::{self, AckKind};
use futures_util::FutureExt as _;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::Failure;
use crate::stream::ACK_WAIT;

/// How often the broker hears of a message at work.
pub(super) const PROGRESS_EVERY: Duration = Duration::from_millis(500);
const _: () = assert!(3 * PROGRESS_EVERY.as_millis() <= ACK_WAIT.as_millis());
/// The limit is looked at so many times at least before it is over.
const LOOKS_MIN: u32 = 8;

/// Says whether a handler waits for something that is nobody's fault, so that its time stands still.
#[derive(Debug, Clone, Default)]
pub(super) struct Patience(Arc<AtomicUsize>);

impl Patience {
    /// Waits without the handler's time running.
    pub(super) async fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.0);
        let done = work.await;
        drop(waiting);
        done
    }

    fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// Carries a handler's work out within `limit`, while the broker is told that it goes on.
pub(super) async fn within(
    limit: Duration,
    patience: &Patience,
    message: &jetstream::Message,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
    let look_every = PROGRESS_EVERY.min(limit / LOOKS_MIN).max(Duration::from_millis(1));
    let (mut looks, mut progress) = (every(look_every), every(PROGRESS_EVERY));
    let mut worked = Duration::ZERO;
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done.unwrap_or_else(|panic| Err(fatal(panic.as_ref()))),
            _ = progress.tick() => say_progress(message).await,
            _ = looks.tick() => if !patience.is_asked_for() {
                worked += look_every;
                if worked >= limit {
                    return Err(Failure::Hung(anyhow::anyhow!("no answer within {limit:?}")));
                }
            },
        }
    }
}

/// Tells the broker, while something takes its time, that it is being worked on.
pub(super) async fn with_progress<T>(
    message: &jetstream::Message,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    let mut progress = every(PROGRESS_EVERY);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = progress.tick() => say_progress(message).await,
        }
    }
}

pub(super) fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
    // Time that nobody was given to work in does not count.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

pub(super) async fn say_progress(message: &jetstream::Message) {
    if let Err(err) = message.ack_with(AckKind::Progress).await {
        tracing::debug!(error = %err, "progress not sent");
    }
}

fn fatal(panic: &(dyn Any + Send)) -> Failure {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a word");
    Failure::Fatal(anyhow::anyhow!("the handler panicked: {text}"))
}
