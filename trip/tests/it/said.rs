//! What riders, drivers and their phones say.

use common::{
    clock::{Hlc, Timestamp},
    contract::v1,
    envelope::Envelope,
    id::{CommandId, EventId, TripId},
    testing::deadline,
};
use prost::Message as _;
use uuid::Uuid;

use crate::{
    rides::{PIN, Ride, dropoff, pickup, quote},
    world::World,
};

impl World {
    /// The rider's service: a ride is requested. Returns the message's sequence.
    pub(crate) async fn rider_requests(&self, ride: Ride) -> u64 {
        let event = EventId::derived(ride.rider.0, CommandId(ride.trip.0));
        self.rider_requests_as(ride, event).await
    }

    pub(crate) async fn rider_requests_as(&self, ride: Ride, event: EventId) -> u64 {
        self.rider_requested_at(ride, event, self.nats.clock.now()).await
    }

    pub(crate) async fn rider_requested_at(
        &self,
        ride: Ride,
        event: EventId,
        asked_at: Timestamp,
    ) -> u64 {
        let requested = v1::RideRequested {
            trip_id: ride.trip.to_vec(),
            rider_id: ride.rider.to_vec(),
            pickup: Some(pickup().into()),
            dropoff: Some(dropoff().into()),
            quote: Some(quote()),
            pin: PIN.to_owned(),
        };
        let payload = v1::RiderEvent {
            at_us: asked_at.micros(),
            kind: Some(v1::rider_event::Kind::RideRequested(requested)),
        };
        let subject = self.nats.partitions.rider_event(ride.rider);
        let envelope = self.envelope(event, "rider.ride_requested", "rider", ride.rider.0);
        self.publish(subject, &envelope, payload.encode_to_vec()).await
    }

    /// The driver's service: the driver accepted.
    pub(crate) async fn driver_accepts(&self, ride: Ride) -> u64 {
        let (trip_id, offer_id) = (ride.trip.to_vec(), ride.offer.to_vec());
        let accepted = v1::DriverOfferAccepted { trip_id, offer_id };
        let kind = v1::driver_event::Kind::OfferAccepted(accepted);
        self.driver_says(ride, "driver.offer_accepted", kind, None).await
    }

    /// The driver's service: the offer ended on the driver's side.
    pub(crate) async fn driver_ends(&self, ride: Ride, why: v1::OfferEnd) -> u64 {
        use v1::driver_event::Kind;
        let (trip_id, offer_id) = (ride.trip.to_vec(), ride.offer.to_vec());
        let ended = v1::EndedOffer {
            trip_id: trip_id.clone(),
            offer_id: offer_id.clone(),
            why: why.into(),
        };
        let kind = match why {
            v1::OfferEnd::Declined => Kind::OfferDeclined(v1::DriverOfferDeclined {
                trip_id,
                offer_id,
                reason: "too far".into(),
            }),
            v1::OfferEnd::Lapsed => Kind::OfferLapsed(v1::DriverOfferLapsed { trip_id, offer_id }),
            v1::OfferEnd::Lost => Kind::Lost(v1::DriverLost { silent_s: 61 }),
            v1::OfferEnd::Offline => Kind::WentOffline(v1::DriverWentOffline { silent: false }),
            other => {
                Kind::OfferRefused(v1::DriverOfferRefused { trip_id, offer_id, why: other.into() })
            }
        };
        self.driver_says(ride, "driver.offer_ended", kind, Some(ended)).await
    }

    async fn driver_says(
        &self,
        ride: Ride,
        name: &str,
        kind: v1::driver_event::Kind,
        ended_offer: Option<v1::EndedOffer>,
    ) -> u64 {
        let payload = v1::DriverEvent {
            stamp: Some(v1::Stamp { version: 1, ..v1::Stamp::default() }),
            state: Some(v1::DriverState::default()),
            ended_offer,
            kind: Some(kind),
        };
        // The same thing said twice has the same id.
        let event = EventId::derived(ride.driver.0, CommandId::step(EventId(ride.offer.0), name));
        let envelope = self.envelope(event, name, "driver", ride.driver.0);
        let subject = self.nats.partitions.driver_event(ride.driver);
        self.publish(subject, &envelope, payload.encode_to_vec()).await
    }

    fn envelope(&self, id: EventId, kind: &str, source: &str, subject: Uuid) -> Envelope {
        Envelope {
            id,
            kind: kind.to_owned(),
            source: source.to_owned(),
            time: self.nats.clock.now(),
            subject,
            correlation: None,
            causation: None,
            hlc: Hlc::default(),
            traceparent: None,
        }
    }

    async fn publish(&self, subject: String, envelope: &Envelope, payload: Vec<u8>) -> u64 {
        let headers = envelope.to_headers("test");
        let ack = self.nats.jetstream.publish_with_headers(subject, headers, payload.into()).await;
        ack.unwrap().await.unwrap().sequence
    }

    pub(crate) async fn publish_raw(&self, subject: String, payload: &'static str) -> u64 {
        let ack = self.nats.jetstream.publish(subject, payload.into()).await;
        ack.unwrap().await.unwrap().sequence
    }

    pub(crate) async fn command(
        &self,
        trip: TripId,
        actor: impl Into<Uuid>,
        kind: v1::trip_command::Kind,
    ) -> v1::trip_reply::Outcome {
        self.command_as(CommandId::fresh(), trip, actor, kind).await
    }

    pub(crate) async fn command_as(
        &self,
        command_id: CommandId,
        trip: TripId,
        actor: impl Into<Uuid>,
        kind: v1::trip_command::Kind,
    ) -> v1::trip_reply::Outcome {
        let command = v1::TripCommand {
            command_id: command_id.to_vec(),
            trip_id: trip.to_vec(),
            deadline_us: self.nats.clock.now().plus(deadline::FACT).micros(),
            actor_id: actor.into().as_bytes().to_vec(),
            kind: Some(kind),
        };
        self.request(trip, command.encode_to_vec()).await.expect("an answer")
    }

    /// `None`: nobody answers.
    pub(crate) async fn request(
        &self,
        trip: TripId,
        payload: Vec<u8>,
    ) -> Option<v1::trip_reply::Outcome> {
        let subject = self.nats.partitions.trip_command(trip);
        let answer = self.nats.client.request(subject, payload.into()).await.ok()?;
        v1::TripReply::decode(answer.payload).unwrap().outcome
    }
}
