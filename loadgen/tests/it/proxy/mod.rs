//! The fault-injecting proxies before a real broker and real gateways: with each fault the expected
//! happens, and without faults nothing does.

mod balancer;
mod everything;
mod faults;
mod partitions;
mod quiet;

use std::{net::SocketAddr, time::Duration};

use async_nats::jetstream::context::PublishErrorKind;
use common::{
    consumer::ConsumerConfig,
    id::RiderId,
    nats::{Nats, NatsConfig},
    stream,
    subject::Partitions,
    testing::{self, TestBroker, deadline, eventually_within},
};
use loadgen::chaos::proxy::{Fault, Faults, Proxy, Rates};

/// The broker, who talks to it directly, and who talks through a proxy.
pub(crate) struct Cut {
    pub(crate) broker: TestBroker,
    pub(crate) direct: Nats,
    pub(crate) proxy: Proxy,
    pub(crate) through: Nats,
}

pub(crate) const SEED: u64 = 7;

pub(crate) fn address(broker: &TestBroker) -> SocketAddr {
    broker.url().trim_start_matches("nats://").parse().unwrap()
}

pub(crate) async fn connect(proxy: &Proxy, partitions: Partitions) -> Nats {
    let config =
        NatsConfig { nats_url: proxy.url(), partitions, consuming: ConsumerConfig::default() };
    Nats::connect(&config, "test").await.unwrap()
}

pub(crate) async fn cut(partitions: u32) -> Cut {
    let broker = testing::broker().await;
    let partitions = Partitions::new(partitions).unwrap();
    let direct = Nats::new(broker.client().await, partitions);
    direct.prepare().await.unwrap();
    let proxy = Proxy::start(address(&broker), SEED).await.unwrap();
    let through = connect(&proxy, partitions).await;
    Cut { broker, direct, proxy, through }
}

/// This fault hits whatever it can hit.
pub(crate) fn always(fault: Fault) -> Faults {
    Faults::new(Rates::NONE.with(fault, 1.0))
}

/// Publishes once and waits for the ack as long as a service would.
pub(crate) async fn publish(nats: &Nats, text: &str) -> Result<u64, PublishErrorKind> {
    let subject = nats.partitions.rider_event(RiderId::fresh());
    let ack = nats.jetstream.publish(subject, text.to_owned().into()).await;
    match ack.map_err(|err| err.kind())?.await {
        Ok(ack) => Ok(ack.sequence),
        Err(err) => Err(err.kind()),
    }
}

/// How many messages the stream of rider events holds.
pub(crate) async fn stored(direct: &Nats) -> u64 {
    direct.admin.get_stream(stream::RIDER).await.unwrap().cached_info().state.messages
}

/// Waits until the proxy has injected this fault.
pub(crate) async fn injected(proxy: &Proxy, fault: Fault) {
    eventually_within(deadline::RECOVERY, fault.name(), async || proxy.counts().of(fault) > 0)
        .await;
}

/// So long that it never happens by itself within a test.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);
