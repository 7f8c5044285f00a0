//! Trips as the other services see them: the last event, live events, and commands that a phone
//! waits for. Nothing is decided here; only `trip` changes a trip.

use std::time::Duration;

use async_nats::{
    HeaderMap, Request, Subscriber, client::RequestErrorKind, jetstream::stream::DirectGetErrorKind,
};
use axum::http::StatusCode;
use prost::Message as _;
use uuid::Uuid;

use crate::{
    contract::{self, Malformed, v1},
    envelope::header,
    id::{CommandId, TripId},
    nats::Nats,
    planted::{self, Planted},
    problem::Problem,
    stream,
    subject::Partitions,
};

/// Past it the handler refuses a command without effect.
const COMMAND_DEADLINE: Duration = Duration::from_secs(4);
/// How long the answer is waited for: longer, so that a refusal for lateness still arrives.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Why there is nothing to say about a trip, split by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum TripsError {
    /// Surely not carried out.
    #[error("the trip service did not carry it out: {0}")]
    NotDone(String),
    /// Nobody can say whether it was carried out. Repeating it under the same id is safe.
    #[error("it is unknown whether the trip service carried it out: {0}")]
    Unknown(String),
    /// The broker does not answer.
    #[error("trips cannot be read: {0}")]
    Unavailable(String),
    /// What came back is not what the contract says.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl From<TripsError> for Problem {
    fn from(err: TripsError) -> Self {
        match err {
            TripsError::NotDone(_) | TripsError::Unknown(_) | TripsError::Unavailable(_) => {
                Self::unavailable(err.to_string())
            }
            TripsError::Malformed(malformed) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", malformed.to_string())
            }
        }
    }
}

/// A command that somebody waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// To which trip.
    pub trip: TripId,
    /// Under which id: the same one is carried out once.
    pub id: CommandId,
    /// The rider or driver who wants it.
    pub actor: Uuid,
    /// What.
    pub kind: v1::trip_command::Kind,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
}

/// What the trip answered. A refusal is an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The trip as it is since.
    Done(v1::TripSnapshot),
    /// The fact that stands in the way.
    Rejected(v1::TripRejection),
}

/// Access to trips; cheap to clone.
#[derive(Debug, Clone)]
pub struct Trips {
    nats: Nats,
}

impl Trips {
    /// Over this connection.
    #[must_use]
    pub fn new(nats: &Nats) -> Self {
        Self { nats: nats.clone() }
    }

    /// The trip as its last event tells it: one direct get. `None` when nothing is known of it.
    ///
    /// # Errors
    /// When the broker does not answer, or the event cannot be read.
    pub async fn last(&self, trip: TripId) -> Result<Option<v1::TripSnapshot>, TripsError> {
        let unavailable = |err: &dyn std::fmt::Display| TripsError::Unavailable(err.to_string());
        let stream = self.nats.jetstream.get_stream_no_info(stream::TRIP).await;
        let stream = stream.map_err(|err| unavailable(&err))?;
        match stream.direct_get_last_for_subject(self.nats.partitions.trip_event(trip)).await {
            Ok(message) => {
                self.nats.clock.merge_from(&message.headers);
                Ok(Some(snapshot(trip, message.sequence, &message.payload)?))
            }
            Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(err) => Err(unavailable(&err)),
        }
    }

    /// The trip's events, as they are stored from now on. At most once: look with [`Self::last`]
    /// after this, and now and then.
    ///
    /// # Errors
    /// When the client is closed.
    pub async fn live(&self, trip: TripId) -> Result<Subscriber, TripsError> {
        let live = self.nats.client.subscribe(live_subject(self.nats.partitions, trip)).await;
        live.map_err(|err| TripsError::Unavailable(err.to_string()))
    }

    /// Has a command carried out, and waits for what came of it: the answer comes after the event
    /// is stored, so "done" is a fact.
    ///
    /// # Errors
    /// When it was not carried out, or nobody knows.
    pub async fn command(&self, wanted: Wanted) -> Result<Answer, TripsError> {
        let Wanted { trip, id, actor, kind, traceparent } = wanted;
        let command = v1::TripCommand {
            command_id: id.to_vec(),
            trip_id: trip.to_vec(),
            deadline_us: self.nats.clock.now().plus(COMMAND_DEADLINE).micros(),
            actor_id: actor.as_bytes().to_vec(),
            kind: Some(kind),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::HLC, self.nats.clock.tick().to_string());
        if let Some(traceparent) = traceparent {
            headers.insert(header::TRACEPARENT, traceparent);
        }
        let request = Request::new()
            .payload(command.encode_to_vec().into())
            .headers(headers)
            .timeout(Some(ANSWER_WITHIN));
        let subject = self.nats.partitions.trip_command(trip);
        let reply = self.nats.client.send_request(subject, request).await;
        let reply = reply.map_err(|err| match err.kind() {
            RequestErrorKind::NoResponders => TripsError::NotDone("nobody listens".to_owned()),
            RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                TripsError::NotDone(err.to_string())
            }
            RequestErrorKind::TimedOut | RequestErrorKind::Other => {
                TripsError::Unknown(err.to_string())
            }
        })?;
        if let Some(headers) = &reply.headers {
            self.nats.clock.merge_from(headers);
        }
        let reply: v1::TripReply = contract::decode("trip reply", &reply.payload)?;
        match contract::required("outcome", reply.outcome)? {
            v1::trip_reply::Outcome::Done(snapshot) => Ok(Answer::Done(snapshot)),
            v1::trip_reply::Outcome::Rejected(rejection) => Ok(Answer::Rejected(rejection)),
            v1::trip_reply::Outcome::Failed(failure) if failure.unknown => {
                Err(TripsError::Unknown(failure.detail))
            }
            v1::trip_reply::Outcome::Failed(failure) => Err(TripsError::NotDone(failure.detail)),
        }
    }
}

/// Where phones are fed from: what is republished once it is stored. On the stream's own subject one
/// would also hear what the stream refused.
#[must_use]
pub fn live_subject(partitions: Partitions, trip: TripId) -> String {
    if planted::is_on(Planted::PlainSubscription) {
        return partitions.trip_event(trip);
    }
    partitions.live_trip(trip)
}

/// What a trip's event, stored at this sequence, says of the trip.
///
/// # Errors
/// When it is no trip event, or carries no state.
pub fn snapshot(
    trip: TripId,
    sequence: u64,
    payload: &[u8],
) -> Result<v1::TripSnapshot, Malformed> {
    let event: v1::TripEvent = contract::decode("trip event", payload)?;
    let stamp = contract::required("stamp", event.stamp)?;
    Ok(v1::TripSnapshot {
        trip_id: trip.to_vec(),
        version: stamp.version,
        sequence,
        at_us: stamp.at_us,
        state: Some(contract::required("state", event.state)?),
    })
}

impl v1::TripPhase {
    /// Whether nothing more happens to a trip in this phase but ratings and a charge.
    #[must_use]
    pub fn is_end(self) -> bool {
        match self {
            Self::Completed | Self::Cancelled | Self::Unfulfilled => true,
            Self::Unspecified
            | Self::Matching
            | Self::Assigned
            | Self::Arrived
            | Self::InProgress => false,
        }
    }
}
