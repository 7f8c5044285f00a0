//! Interactive commands: a phone waits for the answer, which comes after the event is stored. Past
//! its deadline a command has no effect.

mod wire;

use std::{sync::Arc, time::Duration};

use async_nats::{HeaderMap, Message};
use common::{
    contract::v1,
    envelope::header::{self, TRACEPARENT},
    event_store::{Cause, EventStore, ExecuteError, Loaded},
    failpoint,
    id::TripId,
    nats::Nats,
    subject,
};
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use wire::code;
use wire::{Wanted, read};

use crate::{
    domain::{Rejection, refusal},
    record::TripDecider,
};

/// One instance answers each command.
const QUEUE_GROUP: &str = "trip";
/// Commands in hand at a time. The rest waits in the subscription, where its deadline may pass.
const IN_HAND_MAX: usize = 256;
/// How long a stopping service may take for the commands in hand.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Answers commands until shutdown, and then those in hand.
///
/// # Errors
/// When the subscription cannot be made.
pub(crate) async fn run(
    nats: &Nats,
    store: EventStore<TripDecider>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut commands =
        nats.client.queue_subscribe(subject::TRIP_COMMANDS, QUEUE_GROUP.to_owned()).await?;
    let free = Arc::new(Semaphore::new(IN_HAND_MAX));
    let in_hand = TaskTracker::new();
    while let Some(Some(message)) = shutdown.run_until_cancelled(commands.next()).await {
        let Ok(place) = Arc::clone(&free).acquire_owned().await else { break };
        let (nats, store) = (nats.clone(), store.clone());
        in_hand.spawn(async move {
            answer(&nats, &store, message).await;
            drop(place);
        });
    }
    // What others send from now on goes to another instance, or is surely not done.
    if let Err(err) = commands.unsubscribe().await {
        tracing::debug!(error = %err, "not unsubscribed");
    }
    in_hand.close();
    if tokio::time::timeout(DRAIN_MAX, in_hand.wait()).await.is_err() {
        tracing::warn!("commands in hand left unanswered");
    }
    // Without its commands the service would look alive and serve nobody.
    anyhow::ensure!(shutdown.is_cancelled(), "the subscription to commands ended");
    Ok(())
}

async fn answer(nats: &Nats, store: &EventStore<TripDecider>, message: Message) {
    let Some(reply_to) = message.reply.clone() else {
        tracing::debug!(subject = %message.subject, "a command that wants no answer is not done");
        return;
    };
    if let Some(headers) = &message.headers {
        nats.clock.merge_from(headers);
    }
    let reply = reply(store, &message.payload, traceparent(&message)).await;
    failpoint::reach("command.done");
    let mut headers = HeaderMap::new();
    headers.insert(header::HLC, nats.clock.tick().to_string());
    let payload = reply.encode_to_vec().into();
    if let Err(err) = nats.client.publish_with_headers(reply_to, headers, payload).await {
        tracing::debug!(error = %err, "answer not sent");
    }
}

/// Carries out the command that these bytes are, and says what came of it.
pub async fn reply(
    store: &EventStore<TripDecider>,
    payload: &[u8],
    traceparent: Option<String>,
) -> v1::TripReply {
    v1::TripReply { outcome: Some(outcome(store, payload, traceparent).await) }
}

async fn outcome(
    store: &EventStore<TripDecider>,
    payload: &[u8],
    traceparent: Option<String>,
) -> v1::trip_reply::Outcome {
    use v1::trip_reply::Outcome;
    let Wanted { trip, command_id, deadline, command } = match read(payload) {
        Ok(wanted) => wanted,
        Err(malformed) => {
            return Outcome::Rejected(v1::TripRejection {
                code: "validation_failed".to_owned(),
                detail: malformed.to_string(),
                ..v1::TripRejection::default()
            });
        }
    };
    if deadline <= store.port().clock.now() {
        let detail = "the deadline had passed, nothing was done".to_owned();
        return Outcome::Failed(v1::TripFailure { detail, unknown: false });
    }
    let cause = Cause { id: Some(command_id.0), traceparent };
    match store.execute(trip, command_id, &cause, &command).await {
        Ok(outcome) => match refusal(&command, &outcome.now.state) {
            Some(rejection) => Outcome::Rejected(rejected(trip, rejection, &outcome.now)),
            None => Outcome::Done(snapshot(trip, &outcome.now)),
        },
        Err(ExecuteError::Rejected { rejection, now }) => {
            tracing::debug!(trip.id = %trip, code = code(&rejection), "refused");
            Outcome::Rejected(rejected(trip, rejection, &now))
        }
        Err(err) => {
            tracing::warn!(trip.id = %trip, error = %err, "command failed");
            let unknown = match err {
                ExecuteError::Unsettled | ExecuteError::Unavailable(_) => true,
                ExecuteError::Corrupt(_) | ExecuteError::Rejected { .. } => false,
            };
            Outcome::Failed(v1::TripFailure { detail: err.to_string(), unknown })
        }
    }
}

fn traceparent(message: &Message) -> Option<String> {
    let headers = message.headers.as_ref()?;
    headers.get(TRACEPARENT).map(|value| value.as_str().to_owned())
}

/// The trip as its rider, its driver or operations may see it.
#[must_use]
pub(crate) fn snapshot(trip: TripId, loaded: &Loaded<TripDecider>) -> v1::TripSnapshot {
    v1::TripSnapshot {
        trip_id: trip.to_vec(),
        version: loaded.version,
        sequence: loaded.sequence,
        at_us: loaded.at.micros(),
        state: Some((&loaded.state).into()),
    }
}

fn rejected(trip: TripId, rejection: Rejection, now: &Loaded<TripDecider>) -> v1::TripRejection {
    let tries_left =
        if let Rejection::PinInvalid { tries_left } = rejection { tries_left } else { 0 };
    // Nobody learns anything of a trip that is not theirs, not even that it exists.
    let hidden = matches!(rejection, Rejection::NotYours | Rejection::UnknownTrip);
    let shown = if hidden { Rejection::UnknownTrip } else { rejection };
    v1::TripRejection {
        code: code(&rejection).to_owned(),
        detail: shown.to_string(),
        tries_left,
        current: (!hidden).then(|| snapshot(trip, now)),
    }
}
