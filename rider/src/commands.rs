//! Interactive commands to a trip: request and reply with a deadline in broker time. The reply comes
//! after the resulting event is stored, so a success is a fact.

use std::time::Duration;

use async_nats::{HeaderMap, Request, client::RequestErrorKind};
use common::{
    contract::{self, Malformed, v1},
    envelope::header,
    id::{CommandId, RiderId, TripId},
    nats::Nats,
};
use prost::Message as _;

/// Past it the trip refuses without effect.
const DEADLINE: Duration = Duration::from_secs(3);
/// An answer that was given at the deadline still needs to get here.
const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// Why a command has no good end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A rule stands in the way.
    #[error("rejected: {}", .0.detail)]
    Rejected(Box<v1::TripRejection>),
    /// Surely not carried out.
    #[error("not carried out: {0}")]
    NotDone(String),
    /// Nobody can say. Repeating it with the same id is safe.
    #[error("it is unknown whether it was carried out: {0}")]
    Unknown(String),
    /// The reply makes no sense.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Sends commands to trips.
#[derive(Debug, Clone)]
pub struct Commands {
    nats: Nats,
}

impl Commands {
    /// Over this connection.
    #[must_use]
    pub fn new(nats: Nats) -> Self {
        Self { nats }
    }

    /// Sends a rider's command and answers with the trip as it is afterwards.
    ///
    /// # Errors
    /// When it was rejected, not carried out, or nobody knows.
    pub async fn send(
        &self,
        trip: TripId,
        rider: RiderId,
        command_id: CommandId,
        traceparent: Option<String>,
        kind: v1::trip_command::Kind,
    ) -> Result<v1::TripSnapshot, CommandError> {
        if !self.nats.is_connected() {
            return Err(CommandError::NotDone("the broker is away".into()));
        }
        let command = v1::TripCommand {
            command_id: command_id.to_vec(),
            trip_id: trip.to_vec(),
            deadline_us: self.nats.clock.now().plus(DEADLINE).micros(),
            actor_id: rider.to_vec(),
            kind: Some(kind),
        };
        let request = Request::new()
            .payload(command.encode_to_vec().into())
            .timeout(Some(DEADLINE + ANSWER_GRACE));
        let request = match traceparent {
            Some(traceparent) => {
                let mut headers = HeaderMap::new();
                headers.insert(header::TRACEPARENT, traceparent);
                request.headers(headers)
            }
            None => request,
        };
        let subject = self.nats.partitions.trip_command(trip);
        let reply =
            self.nats.client.send_request(subject, request).await.map_err(|err| {
                match err.kind() {
                    RequestErrorKind::NoResponders => {
                        CommandError::NotDone("nobody listens".into())
                    }
                    RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                        CommandError::NotDone(err.to_string())
                    }
                    RequestErrorKind::TimedOut | RequestErrorKind::Other => {
                        CommandError::Unknown(err.to_string())
                    }
                }
            })?;
        let reply: v1::TripReply = contract::decode("TripReply", &reply.payload)?;
        match contract::required("outcome", reply.outcome)? {
            v1::trip_reply::Outcome::Done(snapshot) => Ok(snapshot),
            v1::trip_reply::Outcome::Rejected(why) => Err(CommandError::Rejected(Box::new(why))),
            v1::trip_reply::Outcome::Failed(failure) if failure.unknown => {
                Err(CommandError::Unknown(failure.detail))
            }
            v1::trip_reply::Outcome::Failed(failure) => Err(CommandError::NotDone(failure.detail)),
        }
    }
}
