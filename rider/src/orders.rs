//! Taking up a ride: committed in the store first, announced to the relay afterwards.

use common::{
    log::{LogPort, ReadFrom},
    planted::{self, Planted},
    stream,
};

use crate::{
    publisher::Publisher,
    relay::Bell,
    store::{
        Store,
        outbox::Waiting,
        requests::{Accepted, OrderError, RideOrder, accept},
    },
    wire,
};

/// Takes up a ride, once however often it is asked for with the same key. What is answered is on
/// disk.
///
/// # Errors
/// When it is refused, or could not be written.
pub async fn place(
    store: &Store,
    bell: &Bell,
    port: &LogPort,
    order: RideOrder,
) -> Result<Accepted, OrderError> {
    if planted::is_on(Planted::PublishBeforeCommit) {
        publish_first(store, port, &order).await;
    }
    let accepted = store.try_write(move |tx| accept(tx, &order)).await?;
    if !accepted.is_replay {
        bell.ring();
    }
    Ok(accepted)
}

/// What must not be done: whoever dies in between leaves a ride that nobody has asked for.
async fn publish_first(store: &Store, port: &LogPort, order: &RideOrder) {
    let Ok((ride, _)) = &order.ride else { return };
    let requested = wire::ride_requested(ride);
    let event = wire::ride_requested_event(ride, requested, order.cause.clone());
    let row = Waiting {
        id: 0,
        key: event.key,
        event: event.event,
        kind: event.kind.to_owned(),
        correlation: event.correlation,
        cause: event.cause,
        payload: event.payload,
        at: event.at,
        after: 0,
    };
    let subject = port.partitions.rider_event(row.key);
    let last = port.log.last(stream::RIDER, &subject, ReadFrom::Leader).await;
    let after = last.ok().flatten().map_or(0, |last| last.sequence);
    let publisher = Publisher::new(port.clone(), store.clone());
    if let Err(err) = publisher.attempt(&row, Some(after)).await {
        tracing::debug!(error = %err, "not published");
    }
}
