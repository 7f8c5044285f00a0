//! A service that starts before its broker waits for it.

use common::{
    nats::{Nats, NatsConfig},
    subject::Partitions,
    testing::{self, eventually},
};
use tokio_util::sync::CancellationToken;

fn config(url: &str) -> NatsConfig {
    NatsConfig {
        nats_url: url.to_owned(),
        partitions: Partitions::default(),
        consuming: common::consumer::ConsumerConfig::default(),
    }
}

#[tokio::test]
async fn who_starts_before_the_broker_is_prepared_when_it_comes() {
    let mut broker = testing::broker().await;
    broker.kill().await.unwrap();
    let nats = Nats::connect_lazily(&config(broker.url()), "early").await.unwrap();
    let stop = CancellationToken::new();
    let coming = async {
        assert!(nats.prepare().await.is_err());
        assert!(!nats.is_prepared());
        broker.restart().await.unwrap();
        eventually("the broker is prepared", async || nats.is_prepared()).await;
    };
    let (prepared, ()) = tokio::join!(nats.prepare_once_there(&stop), coming);
    assert!(prepared.unwrap());
    nats.jetstream.get_stream(common::stream::TRIP).await.unwrap();
}

#[tokio::test]
async fn who_waits_for_a_broker_stops_when_told_to() {
    let mut broker = testing::broker().await;
    broker.kill().await.unwrap();
    let nats = Nats::connect_lazily(&config(broker.url()), "early").await.unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    assert!(!nats.prepare_once_there(&stop).await.unwrap());
}
