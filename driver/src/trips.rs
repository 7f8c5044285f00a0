//! What this service sees of trips: their last event, their live events, and the commands that it
//! passes on. It changes no trip.

use std::time::Duration;

use async_nats::{
    Subscriber,
    client::{Request, RequestErrorKind},
    jetstream::stream::{DirectGetErrorKind, Stream},
};
use common::{
    clock::Timestamp,
    contract::{self, Malformed, v1},
    id::{CommandId, DriverId, OfferId, TripId},
    nats::Nats,
    stream,
};
use prost::Message as _;

/// How long a trip command may take; past it the handler refuses without effect.
const COMMAND_DEADLINE: Duration = Duration::from_secs(4);
/// How long its answer is waited for: longer, so that a refusal for lateness still arrives.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The broker or the trip service cannot be asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// Nothing happened.
    #[error("the trip service cannot be reached")]
    NotDelivered,
    /// It may have happened.
    #[error("the trip service did not answer in time")]
    Unknown,
    /// The broker cannot be asked.
    #[error("the broker cannot be asked: {0}")]
    Broker(String),
    /// What came back is not what the contract says.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// A trip as its last event, or an answer, tells it.
#[derive(Debug, Clone)]
pub(crate) struct TripSeen {
    pub(crate) trip: TripId,
    pub(crate) version: u64,
    pub(crate) state: v1::TripState,
}

/// What a trip says of an offer that the driver accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// The trip is this driver's, by this offer.
    Assigned,
    /// It is not, and will not be by this offer.
    Withdrawn,
    /// The trip has not said yet.
    Open,
}

impl TripSeen {
    /// Reads a trip event.
    pub(crate) fn from_event(trip: TripId, payload: &[u8]) -> Result<Self, Malformed> {
        let event: v1::TripEvent = contract::decode("trip event", payload)?;
        Ok(Self {
            trip,
            version: contract::required("stamp", event.stamp)?.version,
            state: contract::required("state", event.state)?,
        })
    }

    fn from_snapshot(trip: TripId, snapshot: v1::TripSnapshot) -> Self {
        let state = snapshot.state.unwrap_or_default();
        Self { trip, version: snapshot.version, state }
    }

    /// Whether the trip is this driver's, by this offer.
    pub(crate) fn confirms(&self, driver: DriverId, offer: OfferId) -> Confirmation {
        let state = &self.state;
        if state.driver_id == driver.0.as_bytes() && state.offer_id == offer.0.as_bytes() {
            return Confirmation::Assigned;
        }
        match state.offers.iter().find(|record| record.offer_id == offer.0.as_bytes()) {
            Some(record) if record.status() == v1::OfferStatus::Open => Confirmation::Open,
            // Closed; or assigned once, and the trip has moved on.
            Some(_) => Confirmation::Withdrawn,
            None if is_over(state.phase()) => Confirmation::Withdrawn,
            None => Confirmation::Open,
        }
    }
}

fn is_over(phase: v1::TripPhase) -> bool {
    match phase {
        v1::TripPhase::Completed | v1::TripPhase::Cancelled | v1::TripPhase::Unfulfilled => true,
        v1::TripPhase::Unspecified
        | v1::TripPhase::Matching
        | v1::TripPhase::Assigned
        | v1::TripPhase::Arrived
        | v1::TripPhase::InProgress => false,
    }
}

/// What came back from the trip service.
#[derive(Debug)]
pub(crate) enum Answer {
    Done(TripSeen),
    Rejected(v1::TripRejection),
}

/// Access to trips.
#[derive(Debug, Clone)]
pub(crate) struct Trips {
    nats: Nats,
    stream: Stream<()>,
}

impl Trips {
    pub(crate) async fn open(nats: &Nats) -> anyhow::Result<Self> {
        let stream = nats.jetstream.get_stream_no_info(stream::TRIP).await?;
        Ok(Self { nats: nats.clone(), stream })
    }

    /// The trip as its last event tells it; `None` when nothing is known of it.
    pub(crate) async fn last(&self, trip: TripId) -> Result<Option<TripSeen>, Unanswered> {
        let subject = self.nats.partitions.trip_event(trip);
        match self.stream.direct_get_last_for_subject(subject).await {
            Ok(message) => Ok(Some(TripSeen::from_event(trip, &message.payload)?)),
            Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(err) => Err(Unanswered::Broker(err.to_string())),
        }
    }

    /// The trip's events, as they are stored from now on. At most once: look with [`Self::last`]
    /// after this.
    pub(crate) async fn live(&self, trip: TripId) -> Result<Subscriber, Unanswered> {
        let subject = self.nats.partitions.live_trip(trip);
        self.nats.client.subscribe(subject).await.map_err(|err| Unanswered::Broker(err.to_string()))
    }

    /// Passes a driver's command on to the trip, and waits for what came of it. Repeating it under
    /// the same id is safe.
    pub(crate) async fn command(
        &self,
        driver: DriverId,
        trip: TripId,
        id: CommandId,
        kind: v1::trip_command::Kind,
    ) -> Result<Answer, Unanswered> {
        let deadline: Timestamp = self.nats.clock.now().plus(COMMAND_DEADLINE);
        let command = v1::TripCommand {
            command_id: id.to_vec(),
            trip_id: trip.to_vec(),
            deadline_us: deadline.micros(),
            actor_id: driver.to_vec(),
            kind: Some(kind),
        };
        let request =
            Request::new().payload(command.encode_to_vec().into()).timeout(Some(ANSWER_WITHIN));
        let subject = self.nats.partitions.trip_command(trip);
        let reply = match self.nats.client.send_request(subject, request).await {
            Ok(reply) => reply,
            Err(err) if err.kind() == RequestErrorKind::NoResponders => {
                return Err(Unanswered::NotDelivered);
            }
            Err(err) => {
                tracing::debug!(error = %err, "no answer to a trip command");
                return Err(Unanswered::Unknown);
            }
        };
        let reply: v1::TripReply = contract::decode("trip reply", &reply.payload)?;
        match contract::required("outcome", reply.outcome)? {
            v1::trip_reply::Outcome::Done(snapshot) => {
                Ok(Answer::Done(TripSeen::from_snapshot(trip, snapshot)))
            }
            v1::trip_reply::Outcome::Rejected(rejection) => Ok(Answer::Rejected(rejection)),
            v1::trip_reply::Outcome::Failed(failure) if failure.unknown => Err(Unanswered::Unknown),
            v1::trip_reply::Outcome::Failed(_) => Err(Unanswered::NotDelivered),
        }
    }
}
