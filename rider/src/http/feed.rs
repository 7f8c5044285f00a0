//! One phone's feed of one trip. What is live is only heard; what is sent comes in the order of the
//! log, without a hole: whatever was missed is read from the trip's history, by its literal subject.

use std::{collections::VecDeque, time::Duration};

use async_nats::{
    HeaderMap, Message, Subscriber, header::NATS_LAST_SEQUENCE,
    jetstream::stream::DirectGetErrorKind,
};
use axum::response::sse::Event;
use bytes::Bytes;
use common::{
    envelope::header,
    http::sse::{self, HEARTBEAT_EVERY, RETRY},
    id::TripId,
    problem::Problem,
    stream, trips,
};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::time::Interval;

use super::{
    Gateway,
    model::{self, PositionEvent, TripEvent, TripResource},
};
use crate::{
    domain::trip::Trip,
    store::{StoreError, ledger, ledger::ChargeLine},
    wire,
};

/// Positions come at most this often.
const POSITION_EVERY: Duration = Duration::from_secs(1);
/// Events of one trip that are read in one go; the rest follows with the next heartbeat.
const HISTORY_MAX: usize = 256;

/// One phone's feed.
pub(super) struct Feed {
    gateway: Gateway,
    live: Subscriber,
    trip: Trip,
    charge: Option<ChargeLine>,
    /// The sequence of the last event that was sent.
    seen: u64,
    ready: VecDeque<Event>,
    heartbeat: Interval,
    positions: Interval,
    last_position_us: i64,
}

impl Feed {
    /// Begins to listen and prepares the first events: a snapshot, or what was missed since `seen`.
    pub(super) async fn open(
        gateway: Gateway,
        trip: Trip,
        charge: Option<ChargeLine>,
        seen: Option<u64>,
    ) -> Result<Self, Problem> {
        // Listening begins before the log is read, so that nothing falls between the two.
        let live = gateway.trips.live(trip.ride.trip).await?;
        let mut feed = Self {
            gateway,
            live,
            seen: seen.unwrap_or(0),
            trip,
            charge,
            ready: VecDeque::from([Event::default().retry(RETRY)]),
            heartbeat: sse::every(HEARTBEAT_EVERY),
            positions: sse::every(POSITION_EVERY),
            last_position_us: 0,
        };
        match seen {
            Some(_) => feed.read_history().await,
            None => feed.take_snapshot().await,
        }
        Ok(feed)
    }

    /// The next event; nothing once the service stops.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let shutdown = self.gateway.shutdown.clone();
            tokio::select! {
                () = shutdown.cancelled() => return None,
                live = self.live.next() => self.hear(live?).await,
                _ = self.heartbeat.tick() => {
                    self.ready.push_back(Event::default().comment("heartbeat"));
                    self.read_history().await;
                }
                _ = self.positions.tick() => self.look_for_driver().await,
            }
        }
    }

    async fn hear(&mut self, message: Message) {
        let headers = message.headers.unwrap_or_default();
        let before: Option<u64> =
            headers.get(NATS_LAST_SEQUENCE).and_then(|last| last.as_str().parse().ok());
        match (sse::sequence(&headers), before) {
            (Some(sequence), _) if sequence <= self.seen => {}
            (Some(sequence), Some(before)) if before == self.seen => {
                self.take(sequence, &headers, &message.payload).await;
            }
            // Something was not heard, or this is the first: the log has all of it.
            _ => self.read_history().await,
        }
    }

    /// The newest state: from the log, or from the view where the log cannot be read.
    async fn take_snapshot(&mut self) {
        match self.gateway.trips.last(self.name()).await {
            Ok(Some(snapshot)) => match wire::trip(self.trip.ride.clone(), Some(&snapshot)) {
                Ok(trip) => self.trip = trip,
                Err(err) => tracing::warn!(error = %err, "a trip's state is unreadable"),
            },
            Ok(None) => {}
            Err(err) => tracing::debug!(error = %err, "snapshot from the view"),
        }
        self.seen = self.trip.progress.as_ref().map_or(0, |progress| progress.sequence);
        let resource = self.gateway.resource(&self.trip, self.charge.as_ref()).await;
        self.push("snapshot", (self.seen > 0).then_some(self.seen), &resource);
    }

    /// Sends on what the log has after the last event that was sent.
    async fn read_history(&mut self) {
        if let Err(err) = self.try_read_history().await {
            tracing::debug!(trip.id = %self.name(), error = %err, "history not read");
        }
    }

    async fn try_read_history(&mut self) -> anyhow::Result<()> {
        let nats = self.gateway.nats.clone();
        let stream = nats.jetstream.get_stream_no_info(stream::TRIP).await?;
        let subject = nats.partitions.trip_event(self.name());
        for _ in 0..HISTORY_MAX {
            let after = Some(self.seen + 1);
            match stream.direct_get_next_for_subject(subject.clone(), after).await {
                Ok(message) => {
                    self.take(message.sequence, &message.headers, &message.payload).await;
                }
                Err(err) if err.kind() == DirectGetErrorKind::NotFound => return Ok(()),
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }

    async fn take(&mut self, sequence: u64, headers: &HeaderMap, payload: &Bytes) {
        self.seen = sequence;
        let trip = trips::snapshot(self.name(), sequence, payload)
            .and_then(|snapshot| wire::trip(self.trip.ride.clone(), Some(&snapshot)));
        match trip {
            Ok(trip) => self.trip = trip,
            Err(err) => {
                tracing::warn!(sequence, error = %err, "trip event not shown");
                return;
            }
        }
        if self.trip.phase().is_end() {
            self.charge = self.newest_charge().await;
        }
        let kind = headers.get(header::TYPE).map(ToString::to_string).unwrap_or_default();
        let now = self.gateway.now();
        let trip = TripResource::new(&self.trip, self.charge.as_ref(), None, now);
        self.push("trip", Some(sequence), &TripEvent { kind, trip });
    }

    async fn newest_charge(&self) -> Option<ChargeLine> {
        let trip = self.name();
        let read =
            self.gateway.store.read::<_, StoreError, _>(move |tx| ledger::charge_of(tx, trip));
        read.await.unwrap_or_else(|err| {
            tracing::warn!(error = %err, "charge not read");
            None
        })
    }

    async fn look_for_driver(&mut self) {
        let Some(driver) = model::driver_under_way(&self.trip) else { return };
        let Ok(reply) = self.gateway.location.driver(driver).await else { return };
        if reply.heard_at_us == self.last_position_us {
            return;
        }
        if let Some(position) = PositionEvent::new(&reply, self.gateway.now()) {
            self.last_position_us = reply.heard_at_us;
            self.push("position", None, &position);
        }
    }

    fn push(&mut self, name: &str, id: Option<u64>, body: &impl Serialize) {
        let event = Event::default().event(name);
        let event = match id {
            Some(id) => event.id(id.to_string()),
            None => event,
        };
        match event.json_data(body) {
            Ok(event) => self.ready.push_back(event),
            Err(err) => tracing::warn!(error = %err, "event not written"),
        }
    }

    fn name(&self) -> TripId {
        self.trip.ride.trip
    }
}
