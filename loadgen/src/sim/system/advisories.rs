//! What used up its tries without an answer is put aside, as `common::consumer` does it.

use std::sync::Arc;

use common::{
    consumer::{Delivery, Failure, dead},
    log::{Append, AppendError, LogPort},
    stream::TRIP_ADVISORIES,
    subject,
};
use futures_util::FutureExt as _;
use serde::Deserialize;

use super::{World, reader::Handler, services::Site};

#[derive(Debug, Deserialize)]
struct Advisory {
    stream: String,
    consumer: String,
    stream_seq: u64,
}

pub(super) fn read(site: &Site) {
    let (world, port) = (Arc::clone(&site.world), site.port.clone());
    let handler: Handler = Arc::new(move |delivery| {
        let (world, port) = (Arc::clone(&world), port.clone());
        async move { put_aside(&world, &port, &delivery).await }.boxed()
    });
    site.consume(TRIP_ADVISORIES, &handler);
}

async fn put_aside(world: &Arc<World>, port: &LogPort, delivery: &Delivery) -> Result<(), Failure> {
    let advisory: Advisory =
        serde_json::from_slice(&delivery.payload).map_err(|err| Failure::Permanent(err.into()))?;
    let Advisory { stream, consumer, stream_seq } = advisory;
    let found = world.with_broker(|broker| broker.get(&stream, stream_seq));
    let found = found.map_err(|err| Failure::Transient(err.into()))?;
    // It was handled after all, or has lived its time.
    let Some(message) = found else { return Ok(()) };
    let mut headers = dead::original_headers(&message.headers);
    headers.insert(dead::SUBJECT, message.subject.as_str());
    let copy = Append {
        subject: subject::dead_letter(&consumer, &stream, stream_seq),
        headers,
        payload: message.payload.clone(),
        expected: Some(0),
    };
    world.seen("message put aside");
    match port.log.append(copy).await {
        Ok(_) => Ok(()),
        // It is there already.
        Err(AppendError::Unknown(why)) if why.contains("wrong last sequence") => Ok(()),
        Err(err) => Err(Failure::Transient(err.into())),
    }
}
