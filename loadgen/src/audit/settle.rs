//! The saga is asynchronous, so an audit waits until nothing is on its way: every consumer has
//! handled all it has, and the rider's outbox and charges wait for nobody.

use std::{fmt, time::Duration};

use common::{nats::Nats, stream};
use futures_util::{StreamExt as _, TryStreamExt as _, stream::iter};
use rider::store::{Place, Store};
use tokio::time::Instant;

use super::books;

/// Between two looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);
/// One quiet look may fall between two steps of the saga.
const QUIET_LOOKS: u32 = 3;
/// Consumers that are asked at the same time.
const ASKED_AT_ONCE: usize = 16;

/// What was still on its way when the time was over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unsettled {
    /// Consumers with messages that are not handled, and how many.
    pub consumers: Vec<(String, u64)>,
    /// Events in the outbox.
    pub outbox: u64,
    /// Charges without an answer.
    pub charges: u64,
}

impl Unsettled {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self
            .consumers
            .iter()
            .map(|(name, waiting)| format!("`{name}` has {waiting} messages to handle"))
            .collect();
        if self.outbox > 0 {
            parts.push(format!("{} events wait in the outbox", self.outbox));
        }
        if self.charges > 0 {
            parts.push(format!("{} charges are pending", self.charges));
        }
        f.write_str(&parts.join(", "))
    }
}

/// Waits until nothing is on its way, or until the deadline; then says what still is.
///
/// # Errors
/// When the broker or the rider's store cannot be asked.
pub async fn settle(
    nats: &Nats,
    rider_store: Option<&Place>,
    deadline: Instant,
) -> anyhow::Result<Option<Unsettled>> {
    let store = match rider_store {
        Some(place) => Some(books::open(place).await?),
        None => None,
    };
    let mut quiet = 0;
    loop {
        let unsettled = look(nats, store.as_ref()).await?;
        quiet = if unsettled.is_nothing() { quiet + 1 } else { 0 };
        if quiet == QUIET_LOOKS {
            return Ok(None);
        }
        if Instant::now() >= deadline {
            return Ok(Some(unsettled).filter(|unsettled| !unsettled.is_nothing()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(nats: &Nats, store: Option<&Store>) -> anyhow::Result<Unsettled> {
    let names = stream::CONSUMERS.iter().flat_map(|spec| {
        spec.partitions(nats.partitions).map(|partition| (spec.stream, spec.durable(partition)))
    });
    let mut consumers: Vec<(String, u64)> = iter(names)
        .map(|(stream, durable)| waiting(nats, stream, durable))
        .buffer_unordered(ASKED_AT_ONCE)
        .try_filter(|(_, waiting)| std::future::ready(*waiting > 0))
        .try_collect()
        .await?;
    consumers.sort();
    let (outbox, charges) = match store {
        Some(store) => books::waiting(store).await?,
        None => (0, 0),
    };
    Ok(Unsettled { consumers, outbox, charges })
}

async fn waiting(nats: &Nats, stream: &str, durable: String) -> anyhow::Result<(String, u64)> {
    let stream = nats.admin.get_stream_no_info(stream).await?;
    let info = stream.consumer_info(&durable).await?;
    let unhandled = u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX);
    Ok((durable, info.num_pending.saturating_add(unhandled)))
}
