//! The saga's table of reactions, as lanes. A reaction stores one event or sends one command, and
//! may run any number of times: what it does is named after the message that caused it.

use common::{
    clock::Timestamp,
    consumer::{self, Delivery, Failure},
    contract::{self, v1},
    decider::{Recorded, Recorder as _},
    envelope::Envelope,
    event_store::{Cause, EventStore, ExecuteError},
    id::{CommandId, DriverId, TripId},
    nats::Nats,
    planted::{self, Planted},
    stream, subject, timer,
};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Rejection, Terms, Trip, TripCommand, TripEvent, releases},
    driver_commands::{Because, DriverCommands, Offer},
    record::{self, TripDecider},
};

/// Runs all lanes until shutdown.
///
/// # Errors
/// When a lane ends that should not.
pub async fn run(
    nats: &Nats,
    reactions: Reactions,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let lane = |spec| (nats, spec, shutdown.clone(), reactions.clone());
    let requests = async {
        let (nats, spec, shutdown, reactions) = lane(stream::TRIP_REQUESTS);
        consumer::run(nats, spec, shutdown, move |delivery, _| {
            let reactions = reactions.clone();
            async move { reactions.on_rider_event(&delivery).await }
        })
        .await
    };
    let process = async {
        let (nats, spec, shutdown, reactions) = lane(stream::TRIP_PROCESS);
        consumer::run(nats, spec, shutdown, move |delivery, _| {
            let reactions = reactions.clone();
            async move { reactions.on_trip_message(&delivery).await }
        })
        .await
    };
    let drivers = async {
        let (nats, spec, shutdown, reactions) = lane(stream::TRIP_DRIVERS);
        consumer::run(nats, spec, shutdown, move |delivery, _| {
            let reactions = reactions.clone();
            async move { reactions.on_driver_event(&delivery).await }
        })
        .await
    };
    tokio::try_join!(requests, process, drivers)?;
    Ok(())
}

/// What `trip` does when others, or its own trips, have spoken.
#[derive(Debug, Clone)]
pub struct Reactions {
    store: EventStore<TripDecider>,
    drivers: DriverCommands,
    terms: Terms,
}

impl Reactions {
    /// On this store; new trips get these terms.
    #[must_use]
    pub fn new(store: EventStore<TripDecider>, terms: Terms) -> Self {
        let drivers = DriverCommands::new(store.port());
        Self { store, drivers, terms }
    }

    /// A rider asked for a ride: the trip begins.
    ///
    /// # Errors
    /// When the message is malformed or the store cannot be reached.
    pub async fn on_rider_event(&self, delivery: &Delivery) -> Result<(), Failure> {
        let envelope = delivery.envelope()?;
        let event: v1::RiderEvent = contract::decode("rider event", &delivery.payload)?;
        let raw = match contract::required("kind", event.kind)? {
            v1::rider_event::Kind::RideRequested(raw) => raw,
            v1::rider_event::Kind::FareCharged(_) => return Ok(()),
        };
        let trip = contract::id("trip_id", &raw.trip_id)?;
        let command = TripCommand::Request {
            rider: contract::id("rider_id", &raw.rider_id)?,
            pickup: contract::point("pickup", raw.pickup.as_ref())?,
            dropoff: contract::point("dropoff", raw.dropoff.as_ref())?,
            quote: record::quote(raw.quote.as_ref())?,
            pin: record::pin(&raw.pin)?,
            terms: self.terms,
            asked_at: Timestamp::from_micros(event.at_us),
        };
        match self.execute(trip, &envelope, "request", &command).await? {
            // Somebody was promised a ride: people must see that it does not come.
            Some(refused @ Rejection::AskedTooLongAgo { .. }) => {
                Err(Failure::Permanent(refused.into()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A trip's own event, or one of its timers.
    ///
    /// # Errors
    /// When the message is malformed or the broker cannot be reached.
    pub async fn on_trip_message(&self, delivery: &Delivery) -> Result<(), Failure> {
        if delivery.subject.starts_with(subject::TRIP.due) {
            let cause = Cause::from(&delivery.envelope()?);
            return Ok(timer::on_due(&self.store, &delivery.payload, &cause).await?);
        }
        let envelope = delivery.envelope()?;
        let Recorded { event, state, .. } = TripDecider::decode(&delivery.payload)?;
        self.on_trip_event(&envelope, &event, &state).await
    }

    /// The process manager: tells drivers what a trip's event means for them.
    async fn on_trip_event(
        &self,
        envelope: &Envelope,
        event: &TripEvent,
        state: &Trip,
    ) -> Result<(), Failure> {
        let because = Because { trip: TripId(envelope.subject), event: envelope };
        note(because.trip, event);
        if let TripEvent::Offered { offer, driver, pickup_eta_s, pickup_distance_m, lease_until } =
            event
        {
            if *lease_until <= self.store.port().clock.now() {
                tracing::debug!(offer.id = %offer, "the lease is over, nobody is asked");
                return Ok(());
            }
            let request = contract::required("request", state.request())?;
            let offer = Offer {
                driver: *driver,
                offer: *offer,
                pickup_eta_s: *pickup_eta_s,
                pickup_distance_m: *pickup_distance_m,
                quote: &request.quote,
            };
            return self.drivers.offer(because, offer).await;
        }
        match releases(event, state) {
            Some(release) => {
                self.drivers.release(because, release.driver, release.offer, release.why).await
            }
            None => Ok(()),
        }
    }

    /// A driver accepted an offer, or their side ended it.
    ///
    /// # Errors
    /// When the message is malformed or the broker cannot be reached.
    pub async fn on_driver_event(&self, delivery: &Delivery) -> Result<(), Failure> {
        let envelope = delivery.envelope()?;
        let event: v1::DriverEvent = contract::decode("driver event", &delivery.payload)?;
        if let Some(ended) = &event.ended_offer {
            self.close_offer(&envelope, ended).await?;
        }
        if let v1::driver_event::Kind::OfferAccepted(accepted) =
            contract::required("kind", event.kind)?
        {
            self.assign(&envelope, &accepted).await?;
        }
        Ok(())
    }

    async fn close_offer(
        &self,
        envelope: &Envelope,
        ended: &v1::EndedOffer,
    ) -> Result<(), Failure> {
        let trip = contract::id("trip_id", &ended.trip_id)?;
        let command = TripCommand::CloseOffer {
            offer: contract::id("offer_id", &ended.offer_id)?,
            why: record::offer_end(ended.why())?,
        };
        // The trip ended the offer first, by itself or through an assignment: nothing is left to do.
        self.execute(trip, envelope, "close_offer", &command).await?;
        Ok(())
    }

    /// Assigns the trip; a driver who accepted in vain is set free.
    async fn assign(
        &self,
        envelope: &Envelope,
        accepted: &v1::DriverOfferAccepted,
    ) -> Result<(), Failure> {
        let driver = DriverId(envelope.subject);
        let trip = contract::id("trip_id", &accepted.trip_id)?;
        let offer = contract::id("offer_id", &accepted.offer_id)?;
        let command = TripCommand::Assign { driver, offer };
        match self.execute(trip, envelope, "assign", &command).await? {
            None => Ok(()),
            Some(rejection) => {
                let because = Because { trip, event: envelope };
                let why = format!("not assigned: {rejection}");
                self.drivers.release(because, driver, offer, &why).await
            }
        }
    }

    /// Carries a step of the saga out. That a rule stands in its way is an answer.
    async fn execute(
        &self,
        trip: TripId,
        envelope: &Envelope,
        step: &str,
        command: &TripCommand,
    ) -> Result<Option<Rejection>, Failure> {
        let command_id = CommandId::step(envelope.id, step);
        match self.store.execute(trip, command_id, &Cause::from(envelope), command).await {
            Ok(outcome)
                if planted::is_on(Planted::ReleaseOnRedelivery)
                    && outcome.event.is_none()
                    && matches!(command, TripCommand::Assign { .. }) =>
            {
                Ok(Some(Rejection::OfferAssigned))
            }
            Ok(_) => Ok(None),
            Err(ExecuteError::Rejected { rejection, .. }) => {
                tracing::debug!(trip.id = %trip, step, %rejection, "refused");
                Ok(Some(rejection))
            }
            Err(err) => Err(err.into()),
        }
    }
}

/// What operations may have to look at is logged louder than the rest.
fn note(trip: TripId, event: &TripEvent) {
    match event {
        TripEvent::Stalled => tracing::warn!(trip.id = %trip, "trip {trip} is stalled"),
        TripEvent::PinRefused { tries_left: 0 } => {
            tracing::warn!(trip.id = %trip, "trip {trip} is locked after too many wrong pins");
        }
        TripEvent::Unfulfilled => tracing::info!(trip.id = %trip, "nobody found for trip {trip}"),
        TripEvent::Requested { .. }
        | TripEvent::Offered { .. }
        | TripEvent::Assigned { .. }
        | TripEvent::OfferClosed { .. }
        | TripEvent::Cancelled { .. }
        | TripEvent::Unassigned { .. }
        | TripEvent::Arrived { .. }
        | TripEvent::WaitOver
        | TripEvent::PinRefused { .. }
        | TripEvent::PinUnlocked
        | TripEvent::Started { .. }
        | TripEvent::Completed { .. }
        | TripEvent::Rated { .. } => {
            tracing::debug!(trip.id = %trip, "trip {trip}: {}", TripDecider::kind(event));
        }
    }
}
