//! Each fault alone, always, for a while: what the two ends see of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::jetstream::context::PublishErrorKind;
use common::{
    consumer::{self, Delivery},
    stream::{self, ACK_WAIT},
    testing::{deadline, eventually, eventually_within},
};
use loadgen::chaos::proxy::{Fault, Faults};
use tokio_util::sync::CancellationToken;

use super::{Cut, NEVER, always, cut, injected, publish, stored};

#[tokio::test]
async fn a_dropped_publish_is_not_stored_and_its_publisher_waits_in_vain() {
    let Cut { broker: _broker, direct, proxy, through } = cut(1).await;
    proxy.set(always(Fault::PublishDropped));
    assert_eq!(publish(&through, "lost").await, Err(PublishErrorKind::TimedOut));
    proxy.calm();
    publish(&through, "kept").await.unwrap();
    assert_eq!((stored(&direct).await, proxy.counts().of(Fault::PublishDropped)), (1, 1));
    assert_eq!(proxy.counts().total(), 1);
}

#[tokio::test]
async fn a_dropped_publish_ack_leaves_its_publisher_unsure_of_what_is_stored() {
    let Cut { broker: _broker, direct, proxy, through } = cut(1).await;
    proxy.set(always(Fault::PublishAckDropped));
    assert_eq!(publish(&through, "stored").await, Err(PublishErrorKind::TimedOut));
    assert_eq!((stored(&direct).await, proxy.counts().of(Fault::PublishAckDropped)), (1, 1));
}

#[tokio::test]
async fn a_doubled_publish_is_stored_twice_where_nothing_is_expected() {
    let Cut { broker: _broker, direct, proxy, through } = cut(1).await;
    proxy.set(always(Fault::PublishDoubled));
    publish(&through, "twice").await.unwrap();
    eventually("both are stored", async || stored(&direct).await == 2).await;
    assert_eq!(proxy.counts().of(Fault::PublishDoubled), 1);
}

#[tokio::test]
async fn a_delayed_publish_is_stored_although_its_process_is_gone() {
    let Cut { broker: _broker, direct, proxy, through } = cut(1).await;
    let delay = Duration::from_millis(300);
    proxy.set(Faults { publish_delay: delay..=delay, ..always(Fault::PublishDelayed) });
    let subject = through.partitions.rider_event(common::id::RiderId::fresh());
    drop(through.jetstream.publish(subject, "late".into()).await.unwrap());
    injected(&proxy, Fault::PublishDelayed).await;
    assert_eq!(stored(&direct).await, 0);
    drop(through);
    eventually("it is stored", async || stored(&direct).await == 1).await;
}

#[tokio::test]
async fn what_is_held_back_leaves_when_the_proxy_calms_down() {
    let Cut { broker: _broker, direct, proxy, through } = cut(1).await;
    proxy.set(Faults { publish_delay: NEVER..=NEVER, ..always(Fault::PublishDelayed) });
    let publishing = publish(&through, "late");
    let watching = async {
        injected(&proxy, Fault::PublishDelayed).await;
        assert_eq!(stored(&direct).await, 0);
        proxy.calm();
        eventually("it is stored", async || stored(&direct).await == 1).await;
    };
    tokio::join!(publishing, watching).0.unwrap();
}

#[tokio::test]
async fn a_stalled_connection_stands_still_until_the_proxy_calms_down() {
    let Cut { broker: _broker, direct, proxy, through } = cut(1).await;
    proxy.set(Faults { stall: NEVER..=NEVER, ..always(Fault::ConnectionStalled) });
    let publishing = publish(&through, "late");
    let watching = async {
        injected(&proxy, Fault::ConnectionStalled).await;
        assert_eq!(stored(&direct).await, 0);
        proxy.calm();
        eventually("it is stored", async || stored(&direct).await == 1).await;
    };
    tokio::join!(publishing, watching).0.unwrap();
}

#[tokio::test]
async fn a_lost_request_or_answer_is_a_time_out_and_nothing_else() {
    let Cut { broker: _broker, proxy, through, .. } = cut(1).await;
    for fault in [Fault::RequestDropped, Fault::AnswerDropped] {
        proxy.set(always(fault));
        through.jetstream.get_stream(stream::TRIP).await.unwrap_err();
        assert!(proxy.counts().of(fault) > 0);
        proxy.calm();
        through.jetstream.get_stream(stream::TRIP).await.unwrap();
    }
}

#[tokio::test]
async fn a_reset_connection_is_made_anew_and_its_publisher_cannot_know() {
    let Cut { broker: _broker, direct, proxy, through } = cut(1).await;
    let connects =
        || through.client.statistics().connects.load(std::sync::atomic::Ordering::SeqCst);
    let before = connects();
    proxy.set(always(Fault::ConnectionReset));
    publish(&through, "who knows").await.unwrap_err();
    assert!(stored(&direct).await <= 1);
    assert!(proxy.counts().of(Fault::ConnectionReset) > 0);
    proxy.calm();
    eventually("it is connected again", async || connects() > before).await;
    publish(&through, "known").await.unwrap();
}

/// Tries as a handler saw them.
type Tries = Arc<Mutex<Vec<i64>>>;

/// Publishes one message, and reads it through the proxy until `until`.
async fn delivered(cut: &Cut, until: impl AsyncFnOnce(&Tries)) -> Vec<i64> {
    publish(&cut.direct, "one").await.unwrap();
    let (tries, shutdown) = (Tries::default(), CancellationToken::new());
    let handler = {
        let tries = Arc::clone(&tries);
        move |delivery: Delivery, _| {
            tries.lock().unwrap().push(delivery.attempt);
            std::future::ready(Ok(()))
        }
    };
    let reading = consumer::run(&cut.through, stream::TRIP_REQUESTS, shutdown.clone(), handler);
    let watching = async {
        until(&tries).await;
        shutdown.cancel();
    };
    tokio::join!(reading, watching).0.unwrap();
    Arc::into_inner(tries).unwrap().into_inner().unwrap()
}

async fn seen(tries: &Tries, count: usize) {
    eventually_within(deadline::RECOVERY, "it was delivered so often", async || {
        tries.lock().unwrap().len() == count
    })
    .await;
}

async fn nothing_left(cut: &Cut) -> bool {
    let consumer = stream::TRIP_REQUESTS.durable(0);
    let mut consumer: async_nats::jetstream::consumer::PullConsumer =
        cut.direct.admin.get_consumer_from_stream(consumer, stream::RIDER).await.unwrap();
    let info = consumer.info().await.unwrap();
    info.num_pending == 0 && info.num_ack_pending == 0
}

#[tokio::test]
async fn what_was_acknowledged_in_vain_is_delivered_again() {
    let cut = cut(1).await;
    cut.proxy.set(always(Fault::AckDropped));
    let tries = delivered(&cut, async |tries| {
        injected(&cut.proxy, Fault::AckDropped).await;
        cut.proxy.calm();
        seen(tries, 2).await;
        eventually("it is acknowledged", async || nothing_left(&cut).await).await;
    })
    .await;
    assert_eq!(tries, [1, 2]);
}

#[tokio::test]
async fn what_was_handled_well_is_not_given_up_because_no_ack_arrives() {
    let cut = cut(1).await;
    cut.proxy.set(always(Fault::AckDropped));
    let acks = stream::TRIES_MAX.unsigned_abs() + 2;
    let tries = delivered(&cut, async |_| {
        eventually_within(deadline::RECOVERY, "that many acks are lost", async || {
            cut.proxy.counts().of(Fault::AckDropped) >= acks
        })
        .await;
        cut.proxy.calm();
        eventually("it is acknowledged", async || nothing_left(&cut).await).await;
    })
    .await;
    assert_eq!(tries, [1, 2, 3, 4, 5]);
    let letters = cut.direct.admin.get_stream(stream::DLQ).await.unwrap();
    assert_eq!(letters.cached_info().state.messages, 0);
}

#[tokio::test]
async fn a_lost_delivery_comes_again_as_the_second_try() {
    let cut = cut(1).await;
    cut.proxy.set(always(Fault::DeliveryDropped));
    let tries = delivered(&cut, async |tries| {
        injected(&cut.proxy, Fault::DeliveryDropped).await;
        cut.proxy.calm();
        seen(tries, 1).await;
    })
    .await;
    assert_eq!(tries.len(), 1);
    assert!(tries[0] > 1, "{tries:?}");
}

#[tokio::test]
async fn a_doubled_delivery_is_handled_twice_as_the_same_try() {
    let cut = cut(1).await;
    cut.proxy.set(always(Fault::DeliveryDoubled));
    let tries = delivered(&cut, async |tries| seen(tries, 2).await).await;
    assert_eq!(tries, [1, 1]);
    assert_eq!(cut.proxy.counts().of(Fault::DeliveryDoubled), 1);
}

#[tokio::test]
async fn a_delivery_delayed_beyond_the_ack_wait_comes_after_its_repetition() {
    let cut = cut(1).await;
    let delay = ACK_WAIT * 4;
    cut.proxy.set(Faults { delivery_delay: delay..=delay, ..always(Fault::DeliveryDelayed) });
    let tries = delivered(&cut, async |tries| {
        injected(&cut.proxy, Fault::DeliveryDelayed).await;
        // The first is held; what comes after it passes.
        cut.proxy.set(Faults::default());
        seen(tries, 2).await;
    })
    .await;
    assert_eq!(tries, [2, 1]);
}
