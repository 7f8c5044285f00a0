//! The driver's event stream (SSE): first a snapshot, then the new state after every stored event
//! of the driver, and of the trip that the driver is engaged by.

use std::{collections::VecDeque, convert::Infallible};

use async_nats::{HeaderMap, Message, Subscriber};
use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use common::{
    auth::AsDriver,
    decider::Recorder as _,
    envelope::header,
    event_store::Loaded,
    http::sse::{self, HEARTBEAT_EVERY, RETRY},
    id::{DriverId, TripId},
    problem::{Problem, ProblemBody},
};
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;
use tokio::time::Interval;

use super::{Gateway, model::DriverView, problems, trip_seen::TripSeen};
use crate::{
    location::{self, Heard},
    record::DriverDecider,
};

/// Something changed: what, and the state since.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct StateChanged {
    /// What happened, such as `driver.offered` or `trip.assigned`.
    kind: String,
    state: DriverView,
}

/// The driver's state as it changes. Every state is whole, so the snapshot that opens the stream
/// makes up for whatever a phone missed: it resumes without loss, whatever its `Last-Event-ID`.
#[utoipa::path(
    get,
    path = "/v1/driver/events",
    tag = "duty",
    responses(
        (
            status = 200,
            body = StateChanged,
            content_type = "text/event-stream",
            description = "`snapshot` (a DriverView), then `state`"
        ),
        (status = "default", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn events(
    State(gateway): State<Gateway>,
    AsDriver(driver): AsDriver,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let feed = Feed::open(gateway, driver).await?;
    let events = stream::unfold(feed, |mut feed| async {
        let event = feed.next().await?;
        Some((Ok(event), feed))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT_EVERY)))
}

/// One phone's stream.
struct Feed {
    gateway: Gateway,
    driver: DriverId,
    loaded: Loaded<DriverDecider>,
    live_driver: Subscriber,
    trip: Option<Followed>,
    /// Counts of pings change with every ping; they are asked for at the heartbeat.
    heard: Heard,
    recheck: Interval,
    ready: VecDeque<Event>,
}

/// The trip that the driver is engaged by.
struct Followed {
    trip: TripId,
    live: Subscriber,
    seen: Option<TripSeen>,
}

impl Feed {
    async fn open(gateway: Gateway, driver: DriverId) -> Result<Self, Problem> {
        let subject = gateway.nats.partitions.live_driver(driver);
        // Listen, then look: what is stored in between is seen by one of both.
        let live_driver = gateway
            .nats
            .client
            .subscribe(subject)
            .await
            .map_err(|err| Problem::unavailable(err.to_string()))?;
        let loaded = gateway.drivers.load(driver).await.map_err(problems::of_driver)?;
        let heard = location::heard(&gateway.nats, driver).await;
        let recheck = sse::every(HEARTBEAT_EVERY);
        let (trip, ready) = (None, VecDeque::new());
        let mut feed = Self { gateway, driver, loaded, live_driver, trip, heard, recheck, ready };
        feed.follow_trip().await?;
        let snapshot = feed.event("snapshot", &feed.view());
        feed.ready.push_back(feed.identified(snapshot.retry(RETRY)));
        Ok(feed)
    }

    /// The next event for the phone; `None` when the service stops.
    async fn next(&mut self) -> Option<Event> {
        let shutdown = self.gateway.shutdown.clone();
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                message = self.live_driver.next() => self.driver_spoke(message?).await,
                message = next_of(self.trip.as_mut()) => self.trip_spoke(&message?),
                _ = self.recheck.tick() => self.look().await,
            }
        }
    }

    async fn driver_spoke(&mut self, message: Message) {
        let headers = message.headers.unwrap_or_default();
        let sequence = sse::sequence(&headers).unwrap_or(0);
        if sequence <= self.loaded.sequence {
            return;
        }
        match DriverDecider::decode(&message.payload) {
            Ok(recorded) => self.advance(Loaded::from_recorded(recorded, sequence)).await,
            Err(err) => tracing::warn!(sequence, error = %err, "a driver event cannot be read"),
        }
    }

    /// Takes over a newer state of the driver and tells the phone.
    async fn advance(&mut self, loaded: Loaded<DriverDecider>) {
        let kind = loaded.last.as_ref().map_or("driver", DriverDecider::kind);
        self.loaded = loaded;
        if let Err(problem) = self.follow_trip().await {
            tracing::debug!(code = problem.code(), "trip not seen yet");
        }
        let changed = self.changed(kind);
        self.ready.push_back(self.identified(changed));
    }

    fn trip_spoke(&mut self, message: &Message) {
        let Some(followed) = &mut self.trip else { return };
        let Ok(spoken) = TripSeen::from_event(followed.trip, &message.payload) else { return };
        if followed.seen.as_ref().is_some_and(|seen| spoken.version <= seen.version) {
            return;
        }
        followed.seen = Some(spoken);
        let kind = message.headers.as_ref().map_or("trip", |headers| text(headers, header::TYPE));
        let changed = self.changed(kind);
        self.ready.push_back(changed);
    }

    /// Listens to the trip that the driver is engaged by, and to no other.
    async fn follow_trip(&mut self) -> Result<(), Problem> {
        let wanted = self.loaded.state.engaged().map(|engaged| engaged.pair.trip);
        if self.trip.as_ref().map(|followed| followed.trip) == wanted {
            return Ok(());
        }
        self.trip = None;
        if let Some(trip) = wanted {
            let live = self.gateway.trips.live(trip).await?;
            // Followed even if the look fails: the next event or heartbeat makes up for it.
            let followed = self.trip.insert(Followed { trip, live, seen: None });
            followed.seen = self.gateway.last_of(trip).await?;
        }
        Ok(())
    }

    /// Closes gaps: live messages come at most once.
    async fn look(&mut self) {
        self.heard = location::heard(&self.gateway.nats, self.driver).await;
        match self.gateway.drivers.load(self.driver).await {
            Ok(loaded) if loaded.sequence > self.loaded.sequence => self.advance(loaded).await,
            Ok(_) => {}
            Err(err) => tracing::debug!(error = %err, "the driver's history was not looked at"),
        }
        let Some(followed) = &mut self.trip else { return };
        match self.gateway.last_of(followed.trip).await {
            Ok(Some(last))
                if followed.seen.as_ref().is_none_or(|seen| seen.version < last.version) =>
            {
                followed.seen = Some(last);
                let changed = self.changed("trip");
                self.ready.push_back(changed);
            }
            Ok(_) => {}
            Err(err) => tracing::debug!(error = %err, "the trip was not looked at"),
        }
    }

    fn view(&self) -> DriverView {
        let trip = self.trip.as_ref().and_then(|followed| followed.seen.as_ref());
        let now = self.gateway.nats.clock.now();
        DriverView::new(self.driver, &self.loaded, trip, self.heard, now)
    }

    fn changed(&self, kind: &str) -> Event {
        self.event("state", &StateChanged { kind: kind.to_owned(), state: self.view() })
    }

    fn event(&self, name: &str, content: &impl Serialize) -> Event {
        let event = Event::default().event(name);
        event.json_data(content).unwrap_or_else(|err| {
            tracing::error!(driver.id = %self.driver, error = %err, "an event cannot be written");
            Event::default().comment("unwritable")
        })
    }

    /// Driver events are numbered by their place in the stream DRIVER.
    fn identified(&self, event: Event) -> Event {
        event.id(self.loaded.sequence.to_string())
    }
}

/// The next word of the trip that is followed; waits for ever when there is none.
async fn next_of(followed: Option<&mut Followed>) -> Option<Message> {
    match followed {
        Some(followed) => followed.live.next().await,
        None => std::future::pending().await,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", async_nats::HeaderValue::as_str)
}
