//! The rider's view of trips: every trip event, in order, into the store; the position in the same
//! transaction, so that a restart goes on where it stopped. Only reads; nothing is decided here.

use common::{
    contract::{Malformed, v1},
    id::TripId,
    nats::Nats,
    stream, subject, trips,
    view::{CaughtUp, Start, Stored, ViewSpec, follow},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError, trips as rows};

/// The view's name in the store.
const VIEW: &str = "trips";
/// Events that may wait for the store.
const QUEUE_MAX: usize = 1024;
/// Events in one transaction: catching up costs one sync for so many.
const BATCH_MAX: usize = 256;

/// Keeps the view until shutdown.
///
/// # Errors
/// When the store fails: a view with a hole must not go on.
pub(crate) async fn run(
    nats: &Nats,
    store: &Store,
    caught_up: &CaughtUp,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let position = store.read(|tx| rows::position(tx, VIEW)).await;
    let start = match position.map_err(|err: StoreError| err)? {
        // Every event carries the state it led to, so a new view needs one message a trip.
        0 => Start::LastPerSubject,
        position => Start::After(position),
    };
    let spec = ViewSpec { stream: stream::TRIP, filter: subject::TRIP.events(), start };
    let (read, written) = mpsc::channel(QUEUE_MAX);
    let reading = async {
        let sent = follow(nats, spec, caught_up, shutdown.clone(), |stored| {
            let read = read.clone();
            async move { Ok(read.send(stored).await?) }
        });
        let result = sent.await;
        drop(read);
        result
    };
    tokio::try_join!(reading, async {
        // What is not written by then is read again.
        shutdown.run_until_cancelled(write_batches(store, written)).await.unwrap_or(Ok(()))
    })?;
    Ok(())
}

async fn write_batches(store: &Store, mut read: mpsc::Receiver<Stored>) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while read.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let events = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_MAX));
        store
            .outlast(move |tx| {
                let position = rows::resume(tx, VIEW)?;
                for event in events.iter().filter(|event| event.sequence > position) {
                    // Unreadable to this view is unreadable for ever. It is on the log for others.
                    match snapshot(event).map(|snapshot| rows::apply(tx, &snapshot)) {
                        Ok(Ok(())) => {}
                        Ok(Err(StoreError::Corrupt(err))) | Err(err) => {
                            let sequence = event.sequence;
                            tracing::warn!(sequence, error = %err, "trip event skipped");
                        }
                        Ok(Err(err)) => return Err(err),
                    }
                }
                match events.last() {
                    Some(last) => rows::advance(tx, VIEW, last.sequence),
                    None => Ok(()),
                }
            })
            .await?;
    }
    Ok(())
}

fn snapshot(stored: &Stored) -> Result<v1::TripSnapshot, Malformed> {
    trips::snapshot(TripId(stored.envelope()?.subject), stored.sequence, &stored.payload)
}
