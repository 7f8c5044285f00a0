//! Replays of dead letters that operations ordered: each runs beside the others until its end, and
//! keeps its own record of how far it is.

use common::{
    dead_letters::{self, OperationError, Replay, replay},
    nats::Nats,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Replays that may wait to begin.
const WAITING_MAX: usize = 4;
/// Replays that run at the same time. More would only compete for the same handlers.
const RUNNING_MAX: usize = 4;

/// Takes orders; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Replays(mpsc::Sender<Replay>);

/// What was ordered and did not begin yet.
#[derive(Debug)]
pub(crate) struct Ordered(mpsc::Receiver<Replay>);

/// Why a replay was not ordered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotOrdered {
    /// So many run and wait that no other can be taken.
    #[error("too many replays are under way")]
    TooMany,
    /// It could not be put on record.
    #[error(transparent)]
    Failed(#[from] OperationError),
}

/// Where to order replays, and what carries them out.
pub(crate) fn replays() -> (Replays, Ordered) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Replays(sender), Ordered(receiver))
}

impl Replays {
    /// Orders one. It is on record before this returns.
    pub(crate) async fn order(&self, nats: &Nats, replay: Replay) -> Result<(), NotOrdered> {
        let place = self.0.try_reserve().map_err(|_| NotOrdered::TooMany)?;
        dead_letters::announce(nats, &replay.order).await?;
        place.send(replay);
        Ok(())
    }
}

impl Ordered {
    /// Carries out what is ordered until shutdown.
    pub(crate) async fn run(
        mut self,
        nats: &Nats,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = running.join_next() => ended?,
                Some(order) = self.0.recv(), if running.len() < RUNNING_MAX => {
                    running.spawn(carry_out(nats.clone(), order, shutdown.clone()));
                }
            }
        }
        while let Some(ended) = running.join_next().await {
            ended?;
        }
        Ok(())
    }
}

async fn carry_out(nats: Nats, order: Replay, shutdown: CancellationToken) {
    let run = order.order.run;
    if let Err(err) = Box::pin(replay(&nats, order, shutdown)).await {
        tracing::error!(run = %run, error = format!("{err:#}"), "replay not carried out");
    }
}
