//! What can be seen from outside: histories, commands to drivers, how far the lanes are.

use async_nats::jetstream::consumer::{Consumer, pull};
use common::{
    contract::v1,
    decider::Recorder as _,
    event_store::Loaded,
    id::{DriverId, OfferId, TripId},
    stream::{self, ConsumerSpec},
    subject,
    testing::{deadline, eventually_within},
};
use prost::Message as _;
use trip::record::TripDecider;

use crate::world::{LANES, World};

impl World {
    pub(crate) async fn load(&self, trip: TripId) -> Loaded<TripDecider> {
        self.store.load(trip).await.unwrap()
    }

    /// What happened to a trip, in short: `requested`, `offered` …
    pub(crate) async fn kinds(&self, trip: TripId) -> Vec<String> {
        let subject = self.nats.partitions.trip_event(trip);
        self.stored(stream::TRIP, &subject)
            .await
            .into_iter()
            .map(|(kind, payload)| {
                TripDecider::decode(&payload).unwrap();
                kind.strip_prefix("trip.").unwrap().to_owned()
            })
            .collect()
    }

    /// What was sent to a driver: `offer` or `release`, and by which offer.
    pub(crate) async fn sent_to(&self, driver: DriverId) -> Vec<(&'static str, OfferId)> {
        use v1::driver_command::Kind;
        let subject = self.nats.partitions.driver_command(driver);
        let offer = |id: &[u8]| OfferId::try_from(id).unwrap();
        self.stored(stream::DRIVER_CMD, &subject)
            .await
            .into_iter()
            .map(|(_, payload)| {
                match v1::DriverCommand::decode(payload.as_slice()).unwrap().kind.unwrap() {
                    Kind::Offer(sent) => ("offer", offer(&sent.offer_id)),
                    Kind::Release(sent) => ("release", offer(&sent.offer_id)),
                    Kind::MarkLost(_) => panic!("trip does not know who is lost"),
                }
            })
            .collect()
    }

    /// Kind and payload of what is stored under a subject.
    async fn stored(&self, stream: &str, subject: &str) -> Vec<(String, Vec<u8>)> {
        let stream = self.nats.admin.get_stream(stream).await.unwrap();
        let mut found = Vec::new();
        let mut from = 1;
        while let Ok(message) = stream.direct_get_next_for_subject(subject, Some(from)).await {
            from = message.sequence + 1;
            let kind = message.headers.get("ce-type").unwrap().to_string();
            found.push((kind, message.payload.to_vec()));
        }
        found
    }

    /// Waits until every lane has handled, and acknowledged, all that is stored for it.
    pub(crate) async fn settled(&self) {
        eventually_within(deadline::RECOVERY, "all lanes are through", async || {
            // What a handler writes is stored before its message is acknowledged, so: first how
            // far the lanes are, then what is stored.
            let mut floors = Vec::new();
            for spec in LANES {
                for partition in self.nats.partitions.all() {
                    floors.push((spec, partition, self.floor(spec, partition).await));
                }
            }
            for (spec, partition, floor) in floors {
                let last = self.last(spec, partition).await;
                if floor.is_none_or(|floor| floor < last) {
                    return false;
                }
            }
            true
        })
        .await;
    }

    async fn floor(&self, spec: ConsumerSpec, partition: u32) -> Option<u64> {
        let durable = spec.durable(partition);
        let mut consumer: Consumer<pull::Config> =
            self.nats.admin.get_consumer_from_stream(&durable, spec.stream).await.ok()?;
        consumer.info().await.ok().map(|info| info.ack_floor.stream_sequence)
    }

    /// The last stored message that this consumer has to read.
    async fn last(&self, spec: ConsumerSpec, partition: u32) -> u64 {
        let stream = self.nats.admin.get_stream(spec.stream).await.unwrap();
        let mut last = 0;
        for prefix in spec.prefixes {
            let filter = subject::partition_filter(prefix, partition);
            if let Ok(message) = stream.get_last_raw_message_by_subject(&filter).await {
                last = last.max(message.sequence);
            }
        }
        last
    }
}
