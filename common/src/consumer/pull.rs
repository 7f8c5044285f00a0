//! Asks for messages of a consumer that has one owner. The client's own stream of messages forgets its
//! pin when it breaks, and waits for itself to time out; and it always asks for the same number.

use std::time::Duration;

use async_nats::{HeaderMap, StatusCode, Subscriber, header::NATS_PIN_ID, jetstream};
use futures_util::{FutureExt as _, StreamExt as _};
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    nats::Nats,
    stream::{OWNER_GROUP, PULL_EXPIRES},
};

/// How many messages a pull that is over did not get.
const NATS_PENDING_MESSAGES: &str = "Nats-Pending-Messages";

/// What the broker knows an owner by, for as long as it pulls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Pin(String);

/// Nothing more comes here; what was given and not answered comes again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("no heartbeat")]
    Silent,
    #[error("the connection is another one")]
    Reconnected,
    #[error("the connection is closed")]
    Closed,
    #[error("refused with {0}: {1}")]
    Refused(StatusCode, String),
    #[error("cannot ask")]
    Unasked(#[from] async_nats::Error),
}

/// A pull as the broker reads it; times in nanoseconds.
#[derive(Serialize)]
struct Ask<'a> {
    batch: usize,
    expires: u128,
    idle_heartbeat: u128,
    group: &'static str,
    #[serde(rename = "id", skip_serializing_if = "Option::is_none")]
    pin: Option<&'a Pin>,
}

/// Messages as they come.
pub(super) struct Pull {
    nats: Nats,
    subject: String,
    inbox: String,
    given: Subscriber,
    /// So many messages were asked for and have not come.
    asked: usize,
    /// Silence is no heartbeat any more.
    until: Option<Instant>,
    connections: watch::Receiver<u64>,
}

impl Pull {
    pub(super) async fn open(nats: &Nats, stream: &str, durable: &str) -> Result<Self, Broken> {
        let inbox = nats.client.new_inbox();
        let given = nats.client.subscribe(inbox.clone()).await.map_err(async_nats::Error::from)?;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}");
        let connections = nats.connections();
        Ok(Self { nats: nats.clone(), subject, inbox, given, asked: 0, until: None, connections })
    }

    /// The next message, with `batch` of them on their way. Nothing is lost if it is not waited for,
    /// but the pin is if nobody waits for longer than it lasts.
    pub(super) async fn next(
        &mut self,
        batch: usize,
        pin: &mut Option<Pin>,
    ) -> Result<jetstream::Message, Broken> {
        loop {
            if self.asked <= batch / 2 {
                self.ask(batch, pin.as_ref()).await?;
            }
            let until = *self.until.get_or_insert_with(|| Instant::now() + 2 * heartbeat());
            let given = tokio::select! {
                biased;
                // The broker forgot what was asked for on the old connection, and who owns what.
                () = changed(&mut self.connections) => return Err(Broken::Reconnected),
                given = timeout_at(until, self.given.next()) => given,
            };
            let message = given.map_err(|_| Broken::Silent)?.ok_or(Broken::Closed)?;
            self.until = None;
            match message.status.unwrap_or(StatusCode::OK) {
                StatusCode::OK => {
                    self.asked = self.asked.saturating_sub(1);
                    if let Some(fresh) = pin_of(message.headers.as_ref()) {
                        *pin = Some(fresh);
                    }
                    let context = self.nats.jetstream.clone();
                    return Ok(jetstream::Message { message, context });
                }
                StatusCode::IDLE_HEARTBEAT => {}
                StatusCode::TIMEOUT => self.ended(message.headers.as_ref()),
                StatusCode::PIN_ID_MISMATCH => {
                    *pin = None;
                    self.ended(message.headers.as_ref());
                }
                status => {
                    return Err(Broken::Refused(
                        status,
                        message.description.unwrap_or_default().to_string(),
                    ));
                }
            }
        }
    }

    async fn ask(&mut self, batch: usize, pin: Option<&Pin>) -> Result<(), Broken> {
        let (expires, idle_heartbeat) = (PULL_EXPIRES.as_nanos(), heartbeat().as_nanos());
        let ask = Ask { batch, expires, idle_heartbeat, group: OWNER_GROUP, pin };
        let ask = serde_json::to_vec(&ask).map_err(async_nats::Error::from)?;
        let (subject, inbox) = (self.subject.clone(), self.inbox.clone());
        let asked = self.nats.client.publish_with_reply(subject, inbox, ask.into()).await;
        asked.map_err(async_nats::Error::from)?;
        self.asked += batch;
        self.until = None;
        Ok(())
    }

    /// A pull is over: of how many messages it says itself.
    fn ended(&mut self, headers: Option<&HeaderMap>) {
        let left = headers.and_then(|headers| headers.get(NATS_PENDING_MESSAGES));
        let left = left.and_then(|left| left.as_str().parse().ok());
        self.asked = self.asked.saturating_sub(left.unwrap_or(self.asked));
    }

    /// What came and was not read. The pull ends here: what the broker gives from now on goes to
    /// others.
    pub(super) fn left(mut self) -> Vec<jetstream::Message> {
        let mut left = Vec::new();
        while let Some(Some(message)) = self.given.next().now_or_never() {
            if message.status.is_none_or(|status| status == StatusCode::OK) {
                left.push(jetstream::Message { message, context: self.nats.jetstream.clone() });
            }
        }
        left
    }
}

/// Never ends for a client that nobody hears of.
async fn changed(connections: &mut watch::Receiver<u64>) {
    if connections.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How often the broker says that a pull is still there.
fn heartbeat() -> Duration {
    PULL_EXPIRES / 2
}

/// The broker's own word comes last: a message may have been stored with such a header.
fn pin_of(headers: Option<&HeaderMap>) -> Option<Pin> {
    Some(Pin(headers?.get_last(NATS_PIN_ID)?.to_string()))
}
