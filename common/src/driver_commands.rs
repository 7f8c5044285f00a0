//! Durable commands to drivers, on the work queue that `driver` alone reads. Whoever sends one
//! learns what came of it from the driver's events.

use std::time::Duration;

use async_nats::header::{NATS_MESSAGE_ID, NATS_MESSAGE_TTL};
use prost::Message as _;
use uuid::Uuid;

use crate::{
    contract::v1::{self, driver_command::Kind},
    envelope::Envelope,
    event_store::Cause,
    failpoint,
    id::{CommandId, DriverId, EventId},
    log::{Append, AppendError, LogPort},
};

const SCHEMA: &str = "driver.proto#DriverCommand";

/// A command to a driver.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// To whom.
    pub driver: DriverId,
    /// Under which id. It is derived, so that what is said twice is carried out once.
    pub id: CommandId,
    /// What.
    pub kind: Kind,
    /// The service that says it.
    pub source: &'static str,
    /// The ride that it belongs to, if any.
    pub correlation: Option<Uuid>,
    /// Why, and its trace.
    pub cause: Cause,
    /// A command that nobody took up within this time is gone; for ever there where `None`.
    pub ttl: Option<Duration>,
}

/// Puts a command on the work queue, and returns when it is stored.
///
/// # Errors
/// When the broker did not acknowledge it. It may be stored all the same; saying it again under the
/// same id is safe.
pub async fn send(port: &LogPort, outgoing: Outgoing) -> Result<(), AppendError> {
    let Outgoing { driver, id, kind, source, correlation, cause, ttl } = outgoing;
    let envelope = Envelope {
        id: EventId(id.0),
        kind: name(&kind).to_owned(),
        source: source.to_owned(),
        time: port.clock.now(),
        subject: driver.0,
        correlation,
        causation: cause.id,
        hlc: port.clock.tick(),
        traceparent: cause.traceparent,
    };
    let command =
        v1::DriverCommand { command_id: id.to_vec(), driver_id: driver.to_vec(), kind: Some(kind) };
    let mut headers = envelope.to_headers(SCHEMA);
    // Said again within the stream's window it is not even stored again; said again later, the
    // driver's history knows the command.
    headers.insert(NATS_MESSAGE_ID, id.to_string());
    if let Some(ttl) = ttl {
        headers.insert(NATS_MESSAGE_TTL, ttl.as_secs().to_string());
    }
    let subject = port.partitions.driver_command(driver);
    let payload = command.encode_to_vec().into();
    failpoint::reach("driver_command.sending");
    port.log.append(Append { subject, headers, payload, expected: None }).await?;
    failpoint::reach("driver_command.stored");
    Ok(())
}

fn name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Offer(_) => "driver.offer",
        Kind::Release(_) => "driver.release",
        Kind::MarkLost(_) => "driver.mark_lost",
    }
}
