//! A process that is cut off from the broker, in each way, and what arrives when it heals.

use async_nats::jetstream::context::PublishErrorKind;
use common::testing::{deadline, eventually, eventually_within};
use loadgen::chaos::proxy::{Fault, Partition};

use super::{Cut, connect, cut, publish, stored};

#[tokio::test]
async fn nothing_reaches_the_broker_until_the_partition_heals_and_then_it_comes_late() {
    for partition in [Partition::ToBroker, Partition::Both] {
        let Cut { broker: _broker, direct, proxy, through } = cut(1).await;
        proxy.partition(partition);
        assert_eq!(publish(&through, "late").await, Err(PublishErrorKind::TimedOut));
        assert_eq!((stored(&direct).await, proxy.counts().of(Fault::Partitioned)), (0, 1));
        proxy.calm();
        // As a zombie's writes do, unless the log refuses them.
        eventually("what was sent arrives", async || stored(&direct).await == 1).await;
        publish(&through, "in time").await.unwrap();
    }
}

#[tokio::test]
async fn cut_off_from_the_brokers_answers_a_process_is_heard_and_hears_nothing() {
    let Cut { broker: _broker, direct, proxy, through } = cut(1).await;
    proxy.partition(Partition::FromBroker);
    assert_eq!(publish(&through, "heard").await, Err(PublishErrorKind::TimedOut));
    assert_eq!(stored(&direct).await, 1);
    proxy.partition(Partition::None);
    publish(&through, "answered").await.unwrap();
}

#[tokio::test]
async fn a_half_open_broker_accepts_and_never_speaks() {
    let Cut { broker: _broker, direct, proxy, through } = cut(1).await;
    proxy.partition(Partition::HalfOpen);
    eventually("the connection is gone", async || !through.is_connected()).await;
    assert!(publish(&through, "kept by the client").await.is_err());
    assert_eq!(stored(&direct).await, 0);
    proxy.calm();
    eventually("it is connected again", async || through.is_connected()).await;
    publish(&through, "in time").await.unwrap();
}

#[tokio::test]
async fn a_process_that_starts_while_it_is_cut_off_is_connected_when_that_ends() {
    let Cut { broker: _broker, direct, proxy, .. } = cut(1).await;
    proxy.partition(Partition::Both);
    let connecting = connect(&proxy, direct.partitions);
    let healing = async {
        // Another one, so that a connection has surely come and hangs.
        let hanging = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
        proxy.calm();
        drop(hanging);
    };
    let (late, ()) = tokio::join!(connecting, healing);
    publish(&late, "in time").await.unwrap();
}

#[tokio::test]
async fn a_broker_that_moved_is_found_at_its_new_address() {
    let Cut { broker, proxy, through, .. } = cut(1).await;
    let other = common::testing::broker().await;
    proxy.upstream(super::address(&other));
    drop(broker);
    eventually_within(deadline::RECOVERY, "it is connected to the other", async || {
        through.prepare().await.is_ok()
    })
    .await;
    publish(&through, "there").await.unwrap();
}
