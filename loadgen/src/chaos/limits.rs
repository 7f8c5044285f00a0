//! Streams without room: for a while one may hold nothing at all, so that the broker refuses every
//! publish as it does when a limit is reached (error 10077).

use anyhow::Context as _;
use common::{
    nats::Nats,
    stream::{self, DRIVER_CMD, RIDER},
};

/// Commands to drivers: what sends them has to try again.
pub(super) const COMMANDS: &str = DRIVER_CMD;
/// What riders ask for: the outbox has to keep it.
pub(super) const REQUESTS: &str = RIDER;
/// No message fits.
const NO_ROOM_BYTES: i64 = 1;

/// Takes the stream's room.
pub(super) async fn fill(nats: &Nats, name: &str) -> anyhow::Result<()> {
    set(nats, name, Some(NO_ROOM_BYTES)).await
}

/// Gives the stream back what it is declared with.
pub(super) async fn free(nats: &Nats, name: &str) -> anyhow::Result<()> {
    set(nats, name, None).await
}

async fn set(nats: &Nats, name: &str, max_bytes: Option<i64>) -> anyhow::Result<()> {
    let mut config = stream::streams(nats.partitions)
        .into_iter()
        .find(|config| config.name == name)
        .with_context(|| format!("there is no stream `{name}`"))?;
    if let Some(max_bytes) = max_bytes {
        config.max_bytes = max_bytes;
    }
    super::insist("change a stream's limit", || async {
        Ok(nats.admin.update_stream(&config).await.map(drop)?)
    })
    .await
}
