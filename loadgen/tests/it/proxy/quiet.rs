//! Without faults a proxy is not there; and a pull consumer survives more than it asked for.

use std::collections::BTreeMap;

use async_nats::jetstream::consumer::{PullConsumer, pull};
use common::{stream, testing::eventually};
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all};
use loadgen::chaos::proxy::{Fault, Faults, Rates};

use super::{Cut, always, cut, publish, stored};

const MESSAGES: usize = 120;
const BATCH: usize = 6;

#[tokio::test]
async fn without_faults_everything_passes_as_it_came() {
    let Cut { broker: _broker, direct, proxy, through } = cut(1).await;
    // Small ones in one write, and some larger than any buffer on the way.
    let texts: Vec<String> =
        (0..MESSAGES).map(|n| "x\r\nPING\r\n".repeat(1 + n % 40 * 2_500)).collect();
    let acks = join_all(texts.iter().map(|text| publish(&through, text))).await;
    let sequences: Vec<u64> = acks.into_iter().map(Result::unwrap).collect();
    let stream = through.jetstream.get_stream(stream::RIDER).await.unwrap();
    for (sequence, text) in sequences.into_iter().zip(&texts) {
        let message = stream.direct_get(sequence).await.unwrap();
        assert!(message.payload == text.as_bytes(), "message {sequence}");
    }
    assert_eq!((stored(&direct).await, proxy.counts().total()), (MESSAGES as u64, 0));
}

#[tokio::test]
async fn faults_may_spare_all_streams_but_one() {
    let Cut { broker: _broker, direct, proxy, through } = cut(1).await;
    let pings = Rates::NONE.with(Fault::PublishDropped, 1.0);
    proxy.set(Faults::default().of_stream(stream::PINGS, pings));
    publish(&through, "a fact").await.unwrap();
    let ping = through.jetstream.publish("ping.0", "a ping".into()).await.unwrap();
    ping.await.unwrap_err();
    assert_eq!((stored(&direct).await, proxy.counts().of(Fault::PublishDropped)), (1, 1));
}

async fn consumer(cut: &Cut) -> PullConsumer {
    let stream = cut.through.admin.get_stream(stream::RIDER).await.unwrap();
    let config = pull::Config {
        durable_name: Some("reader".to_owned()),
        ack_wait: stream::ACK_WAIT,
        ..Default::default()
    };
    stream.create_consumer(config).await.unwrap()
}

/// Reads until every message came twice, and acknowledges each time.
async fn twice(
    mut messages: impl futures_util::Stream<Item = async_nats::jetstream::Message> + Unpin,
) {
    let mut times = BTreeMap::<u64, usize>::new();
    while times.len() < MESSAGES || times.values().any(|count| *count < 2) {
        let message = messages.next().await.unwrap();
        *times.entry(message.info().unwrap().stream_sequence).or_default() += 1;
        message.ack().await.unwrap();
    }
    assert!(times.values().all(|count| *count == 2), "{times:?}");
}

#[tokio::test]
async fn a_pull_consumer_survives_twice_as_many_messages_as_it_asked_for() {
    let cut = cut(1).await;
    join_all((0..MESSAGES).map(|_| publish(&cut.direct, "x"))).await;
    cut.proxy.set(always(Fault::DeliveryDoubled));
    let mut consumer = consumer(&cut).await;
    let pull = consumer.stream().max_messages_per_batch(BATCH).messages().await.unwrap();
    twice(pull.map(Result::unwrap)).await;
    eventually("all are acknowledged", async || {
        let info = consumer.info().await.unwrap();
        info.num_pending == 0 && info.num_ack_pending == 0
    })
    .await;
}

#[tokio::test]
async fn a_batch_ends_although_more_came_than_it_asked_for() {
    let cut = cut(1).await;
    join_all((0..MESSAGES).map(|_| publish(&cut.direct, "x"))).await;
    cut.proxy.set(always(Fault::DeliveryDoubled));
    let consumer = consumer(&cut).await;
    for _ in 0..MESSAGES / BATCH {
        let batch = consumer.fetch().max_messages(BATCH).messages().await.unwrap();
        let batch: Vec<_> = batch.try_collect().await.unwrap();
        assert_eq!(batch.len(), BATCH);
    }
}
