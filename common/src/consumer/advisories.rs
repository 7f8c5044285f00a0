//! What used up its tries without an answer: its handler killed the process or blocked it. The
//! broker gives such a message to nobody any more and says so once; that is stored, and read here.

use async_nats::{
    HeaderMap,
    jetstream::stream::{DirectGetErrorKind, Stream},
};
use bytes::Bytes;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{Class, Delivery, Failure, dead, dead::Obituary, replay::Returned};
use crate::{
    clock::Timestamp,
    contract::Malformed,
    nats::Nats,
    stream::{self, ConsumerSpec, ReplaySpec, TRIP_ADVISORIES},
};

/// What the broker says.
#[derive(Debug, Deserialize)]
struct Advisory {
    stream: String,
    consumer: String,
    stream_seq: u64,
    deliveries: i64,
}

/// Reads advisories until shutdown.
///
/// # Errors
/// When the consumer ends that should not.
pub async fn run(nats: &Nats, shutdown: CancellationToken) -> anyhow::Result<()> {
    let reader = nats.clone();
    super::run(nats, TRIP_ADVISORIES, shutdown, move |delivery: Delivery, _| {
        let nats = reader.clone();
        async move { put_aside(&nats, &delivery).await }
    })
    .await
}

/// Keeps the copy that the consumer itself could not store, and lets the message go.
async fn put_aside(nats: &Nats, delivery: &Delivery) -> Result<(), Failure> {
    let advisory: Advisory =
        serde_json::from_slice(&delivery.payload).map_err(|err| Malformed::new("advisory", err))?;
    let is_replay = ReplaySpec::of_durable(&advisory.consumer).is_some();
    if !is_replay && ConsumerSpec::of_durable(&advisory.consumer).is_none() {
        tracing::debug!(consumer = advisory.consumer, "a consumer of somebody else");
        return Ok(());
    }
    let held = nats.jetstream.get_stream_no_info(&advisory.stream).await.map_err(transient)?;
    let original = Original::find(&held, advisory.stream_seq).await.map_err(transient)?;
    let why = format!("no answer to {} deliveries", advisory.deliveries);
    if is_replay {
        fail_replay(nats, &advisory, original.as_ref(), &why).await?;
    } else {
        bury(nats, &advisory, original.as_ref(), why, delivery.published).await?;
    }
    // On a work queue it would lie for ever. That it is gone already is as good.
    if original.is_some() && stream::is_work_queue(&advisory.stream) {
        held.delete_message(advisory.stream_seq).await.map_err(transient)?;
    }
    Ok(())
}

fn transient(err: impl Into<anyhow::Error>) -> Failure {
    Failure::Transient(err.into())
}

/// The message that was not answered.
struct Original {
    subject: String,
    stored_at: Timestamp,
    headers: HeaderMap,
    payload: Bytes,
}

impl Original {
    async fn find<I>(held: &Stream<I>, sequence: u64) -> anyhow::Result<Option<Self>> {
        match held.direct_get(sequence).await {
            Ok(message) => Ok(Some(Self {
                subject: message.subject.to_string(),
                stored_at: Timestamp::from(message.time),
                headers: message.headers,
                payload: message.payload,
            })),
            Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(err) => Err(err.into()),
        }
    }
}

async fn bury(
    nats: &Nats,
    advisory: &Advisory,
    original: Option<&Original>,
    why: String,
    advised_at: Timestamp,
) -> Result<(), Failure> {
    tracing::error!(
        consumer = advisory.consumer,
        stream = advisory.stream,
        sequence = advisory.stream_seq,
        attempt = advisory.deliveries,
        "message goes to the dead-letter queue: nobody answered for it",
    );
    let obituary = Obituary {
        consumer: &advisory.consumer,
        stream: &advisory.stream,
        sequence: advisory.stream_seq,
        subject: original.map_or("", |original| original.subject.as_str()),
        stored_at: original.map_or(advised_at, |original| original.stored_at),
        attempts: advisory.deliveries,
        class: Class::Fatal,
        // A stream may let a message go for its age. That it was there has to be known all the same.
        error: if original.is_some() { why } else { format!("{why}, and it is gone since") },
        headers: original.map(|original| &original.headers),
        payload: original.map(|original| original.payload.clone()).unwrap_or_default(),
    };
    dead::store(nats, &obituary).await.map_err(transient)
}

async fn fail_replay(
    nats: &Nats,
    advisory: &Advisory,
    original: Option<&Original>,
    why: &str,
) -> Result<(), Failure> {
    // A replay leaves its stream only once what became of it is recorded.
    let Some(original) = original else { return Ok(()) };
    let seen = Delivery::new(
        original.subject.clone(),
        advisory.stream_seq,
        original.stored_at,
        original.headers.clone(),
        original.payload.clone(),
    );
    let returned = Returned::read(&seen)?;
    let attempts = advisory.deliveries;
    returned.failed(nats, attempts, Class::Fatal, why).await.map_err(Failure::Transient)
}
