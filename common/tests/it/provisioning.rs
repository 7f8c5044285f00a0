//! Streams and consumers as declared, and keys where the broker itself would put them.

use async_nats::jetstream::{
    consumer::pull,
    stream::{Config, StorageType},
};
use common::{
    id::RiderId,
    nats::Nats,
    stream::{self, ProvisionError},
    subject::Partitions,
    testing,
};
use futures_util::StreamExt as _;
use uuid::Uuid;

#[tokio::test]
async fn provisioning_twice_changes_nothing() {
    let broker = testing::broker().await;
    let nats = Nats::new(broker.client().await, Partitions::new(4).unwrap());
    nats.prepare().await.unwrap();
    nats.prepare().await.unwrap();
    for spec in stream::CONSUMERS {
        let stream = nats.admin.get_stream(spec.stream).await.unwrap();
        for partition in spec.partitions(nats.partitions) {
            let info = stream.consumer_info(spec.durable(partition)).await.unwrap();
            // The loops count: whatever they miss comes again.
            assert_eq!(info.config.max_deliver, -1);
        }
    }
}

#[tokio::test]
async fn a_consumer_of_an_older_deployment_is_set_anew_and_knows_where_it_is() {
    let broker = testing::broker().await;
    let nats = Nats::new(broker.client().await, Partitions::new(1).unwrap());
    nats.prepare().await.unwrap();
    let spec = stream::TRIP_REQUESTS;
    let held = nats.admin.get_stream(spec.stream).await.unwrap();
    let older = pull::Config { max_deliver: stream::TRIES_MAX, ..spec.config(0) };
    let consumer = held.update_consumer(older).await.unwrap();
    for text in ["handled", "waits"] {
        let subject = nats.partitions.rider_event(RiderId::fresh());
        nats.jetstream.publish(subject, text.into()).await.unwrap().await.unwrap();
    }
    let pull = consumer.stream().group(stream::OWNER_GROUP).max_messages_per_batch(1);
    let handled = pull.messages().await.unwrap().next().await.unwrap().unwrap();
    handled.double_ack().await.unwrap();
    nats.prepare().await.unwrap();
    let info = held.consumer_info(spec.durable(0)).await.unwrap();
    assert_eq!(info.config.max_deliver, -1);
    assert_eq!((info.ack_floor.stream_sequence, info.num_pending), (1, 1));
}

#[tokio::test]
async fn a_stream_that_cannot_be_changed_in_place_is_refused_loudly() {
    let broker = testing::broker().await;
    let nats = Nats::new(broker.client().await, Partitions::default());
    let in_memory = Config {
        name: stream::TRIP.to_owned(),
        subjects: vec!["trip.event.>".to_owned()],
        storage: StorageType::Memory,
        ..Config::default()
    };
    nats.admin.create_stream(in_memory).await.unwrap();
    let refused = stream::provision(&nats.admin, nats.partitions).await;
    assert!(
        matches!(&refused, Err(ProvisionError::Unchangeable { stream, .. }) if stream == "TRIP"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let broker = testing::broker().await;
    let nats = Nats::new(broker.client().await, Partitions::new(4).unwrap());
    nats.prepare().await.unwrap();
    let refused = stream::provision(&nats.admin, Partitions::new(8).unwrap()).await;
    assert!(matches!(refused, Err(ProvisionError::OtherPartitions { .. })), "{refused:?}");
}

#[tokio::test]
async fn the_broker_puts_every_key_into_the_partition_that_we_compute() {
    let broker = testing::broker().await;
    let nats = Nats::new(broker.client().await, Partitions::default());
    let config = Config {
        name: "KEYS".to_owned(),
        subjects: vec!["key.*".to_owned()],
        storage: StorageType::Memory,
        subject_transform: Some(async_nats::jetstream::stream::SubjectTransform {
            source: "key.*".to_owned(),
            destination: format!(
                "key.{{{{partition({},1)}}}}.{{{{wildcard(1)}}}}",
                nats.partitions
            ),
        }),
        ..Config::default()
    };
    let stream = nats.admin.create_stream(config).await.unwrap();
    for n in 0..200 {
        let key = Uuid::from_u128(n * 0x9e37_79b9_7f4a_7c15).to_string();
        let ack = nats.jetstream.publish(format!("key.{key}"), "".into()).await.unwrap();
        let sequence = ack.await.unwrap().sequence;
        let stored = stream.get_raw_message(sequence).await.unwrap();
        assert_eq!(
            stored.subject.as_str(),
            format!("key.{}.{key}", nats.partitions.of(&key)),
            "of key {n}"
        );
    }
}

#[tokio::test]
async fn a_second_handler_of_a_command_is_refused_by_the_broker() {
    let broker = testing::broker().await;
    let nats = Nats::new(broker.client().await, Partitions::new(2).unwrap());
    nats.prepare().await.unwrap();
    let second = pull::Config {
        durable_name: Some("second-handler".to_owned()),
        filter_subject: "driver.command.0.>".to_owned(),
        ..Default::default()
    };
    let refused = nats.admin.create_consumer_on_stream(second, stream::DRIVER_CMD).await;
    assert!(refused.is_err(), "a work queue's subject has one consumer");
}

#[tokio::test]
async fn broker_time_is_learned_from_the_broker() {
    let broker = testing::broker().await;
    let nats = Nats::new(broker.client().await, Partitions::new(1).unwrap());
    nats.prepare().await.unwrap();
    // Broker and test share a machine, so the offset is the reading's error.
    assert!(nats.clock.offset_us().abs() < 1_000_000, "{}", nats.clock.offset_us());
}
