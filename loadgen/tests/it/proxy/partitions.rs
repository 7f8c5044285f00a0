//! A process that is cut off from the broker, in each way, and what arrives when it heals.

use async_nats::jetstream::context::PublishErrorKind;
use common::{
    consumer::{self, Delivery, Failure},
    nats::Nats,
    stream::TRIP_REQUESTS,
    testing::{deadline, eventually, eventually_within},
};
use loadgen::chaos::proxy::{Fault, Partition};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

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

/// What the broker knows the owner of the lane by.
async fn pin(nats: &Nats) -> Option<String> {
    let held = nats.admin.get_stream(TRIP_REQUESTS.stream).await.unwrap();
    let info = held.consumer_info(TRIP_REQUESTS.durable(0)).await.unwrap();
    info.priority_groups.into_iter().find_map(|group| group.pinned_client_id)
}

#[tokio::test]
async fn an_owner_whose_connection_is_reset_goes_on_with_its_pin() {
    const ROUNDS: usize = 20;
    let Cut { broker: _broker, direct, proxy, through } = cut(1).await;
    let (stop, handled) = (CancellationToken::new(), watch::Sender::new(0));
    let (stopped, noted) = (stop.clone(), handled.clone());
    let mut running = JoinSet::new();
    running.spawn(async move {
        let handler = move |delivery: Delivery, _| {
            noted.send_replace(delivery.sequence);
            std::future::ready(Ok::<(), Failure>(()))
        };
        consumer::run(&through, TRIP_REQUESTS, stopped, handler).await
    });
    let mut handled = handled.subscribe();
    let mut is_handled = async |text| {
        let sequence = publish(&direct, text).await.unwrap();
        let is_this = |handled: &u64| *handled == sequence;
        tokio::time::timeout(deadline::RECOVERY, handled.wait_for(is_this)).await.unwrap().unwrap();
    };
    is_handled("first").await;
    let mut before = pin(&direct).await;
    // On a machine that stands still for long the pin may time out all the same: then it goes again.
    for _ in 0..ROUNDS {
        proxy.reset();
        is_handled("after the reset").await;
        let after = pin(&direct).await;
        assert!(after.is_some());
        if after == before {
            stop.cancel();
            running.join_next().await.unwrap().unwrap().unwrap();
            return;
        }
        before = after;
    }
    panic!("after {ROUNDS} resets it was never the same owner");
}
