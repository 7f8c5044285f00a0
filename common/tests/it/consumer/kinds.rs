//! Workers, lanes and views; who takes over from whom; and that the slow hurt nobody else.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use common::{
    consumer::{self, Delivery, Failure},
    id::TripId,
    metrics,
    nats::Nats,
    stream::{self, ConsumerSpec, WORKER_IN_FLIGHT},
    subject,
    testing::{deadline, eventually, eventually_within},
    view::{self, CaughtUp, Start, ViewSpec},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Process, Seen, hurried, prepared, publish};

const WORKER: ConsumerSpec = stream::RIDER_PAYMENTS;
const LANE: ConsumerSpec = stream::TRIP_REQUESTS;

async fn trip_event(nats: &Nats, text: &str) -> u64 {
    let subject = nats.partitions.trip_event(TripId::fresh());
    let ack = nats.jetstream.publish(subject, text.to_owned().into()).await.unwrap();
    ack.await.unwrap().sequence
}

/// A handler that keeps every message in hand until the gate opens.
pub(super) fn holding(
    seen: &Seen,
    gate: &watch::Sender<bool>,
) -> impl Fn(Delivery, u32) -> futures_util::future::BoxFuture<'static, Result<(), Failure>>
+ Clone
+ Send
+ Sync
+ 'static {
    let (seen, gate) = (seen.clone(), gate.subscribe());
    move |delivery, _| {
        seen.note(&delivery);
        let mut gate = gate.clone();
        Box::pin(async move {
            delivery.wait(gate.wait_for(|is_open| *is_open)).await.unwrap();
            Ok(())
        })
    }
}

pub(super) fn noting(
    seen: &Seen,
) -> impl Fn(Delivery, u32) -> std::future::Ready<Result<(), Failure>> + Clone + Send + Sync + 'static
{
    let seen = seen.clone();
    move |delivery, _| {
        seen.note(&delivery);
        std::future::ready(Ok(()))
    }
}

/// What a consumer has in hand, and what it has not been given yet.
pub(super) async fn in_hand_and_waiting(nats: &Nats, spec: ConsumerSpec) -> (usize, u64) {
    let held = nats.admin.get_stream(spec.stream).await.unwrap();
    let info = held.consumer_info(spec.durable(0)).await.unwrap();
    (info.num_ack_pending, info.num_pending)
}

#[tokio::test]
async fn a_worker_hands_back_what_fails_and_goes_on_with_the_others_meanwhile() {
    let (_broker, nats) = prepared().await;
    for text in ["fails once", "a", "b"] {
        trip_event(&nats, text).await;
    }
    let seen = Seen::default();
    let worker = Process::start(&nats, WORKER, {
        let seen = seen.clone();
        move |delivery: Delivery, _| {
            let (text, attempt) = seen.note(&delivery);
            std::future::ready(if text == "fails once" && attempt == 1 {
                Err(Failure::Transient(anyhow::anyhow!("away")))
            } else {
                Ok(())
            })
        }
    });
    eventually("all were handled", async || seen.count() == 4).await;
    worker.stop().await;
    let (last, attempt) = seen.all().pop().unwrap();
    assert_eq!((last.as_str(), attempt), ("fails once", 2), "the others did not wait for it");
}

#[tokio::test]
async fn a_worker_has_no_more_in_hand_than_its_window_and_harms_no_other_consumer() {
    let (_broker, nats) = prepared().await;
    let window = usize::try_from(WORKER_IN_FLIGHT).unwrap();
    for n in 0..window + 50 {
        trip_event(&nats, &n.to_string()).await;
    }
    let (slow, gate) = (Seen::default(), watch::Sender::new(false));
    let worker = Process::start(&nats, WORKER, holding(&slow, &gate));
    eventually("its window is full", async || slow.count() == window).await;
    // The process manager reads the same stream, all of it, while the worker is stuck.
    let quick = Seen::default();
    let others = Process::start(&nats, stream::TRIP_PROCESS, noting(&quick));
    eventually("others read on", async || quick.count() == window + 50).await;
    assert_eq!(slow.count(), window);
    assert_eq!(in_hand_and_waiting(&nats, WORKER).await, (window, 50));
    gate.send_replace(true);
    eventually("all were handled", async || slow.count() == window + 50).await;
    worker.stop().await;
    others.stop().await;
    assert!(slow.all().iter().all(|(_, attempt)| *attempt == 1), "nothing lost a try by waiting");
}

#[tokio::test]
async fn a_lane_goes_on_where_a_dead_owner_left_it_in_order() {
    let (_broker, nats) = prepared().await;
    for n in 0..20 {
        publish(&nats, n.to_string()).await;
    }
    let first = Seen::default();
    let dying = Process::start(&nats, LANE, {
        let seen = first.clone();
        move |delivery: Delivery, _| {
            let (text, _) = seen.note(&delivery);
            async move {
                if text == "7" {
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
        }
    });
    let second = Seen::default();
    let standby = Process::start(&nats, LANE, noting(&second));
    eventually("the owner is stuck", async || first.count() + second.count() >= 8).await;
    dying.kill().await;
    let is_all_read = async || second.all().last().is_some_and(|(text, _)| text == "19");
    eventually_within(deadline::RECOVERY, "the standby read on", is_all_read).await;
    standby.stop().await;
    let order: Vec<u32> = first
        .all()
        .into_iter()
        .chain(second.all())
        .map(|(text, _)| text.parse().unwrap())
        .collect();
    let repeated = order.iter().filter(|number| **number == 7).count();
    assert!(order.is_sorted(), "{order:?}");
    assert!(order.len() == 19 + repeated && repeated <= 2, "{order:?}");
}

#[tokio::test]
async fn an_owner_that_stops_hands_over_without_repeating_anything() {
    let (_broker, nats) = prepared().await;
    let (first, second) = (Seen::default(), Seen::default());
    let owner = Process::start(&nats, LANE, noting(&first));
    publish(&nats, "0").await;
    eventually("it has an owner", async || first.count() == 1).await;
    let standby = Process::start(&nats, LANE, noting(&second));
    for n in 1..30 {
        publish(&nats, n.to_string()).await;
    }
    eventually("the owner works", async || first.count() > 5).await;
    owner.stop().await;
    for n in 30..40 {
        publish(&nats, n.to_string()).await;
    }
    eventually("all were read", async || first.count() + second.count() == 40).await;
    standby.stop().await;
    assert!(second.count() >= 10);
    let all = first.all().into_iter().chain(second.all()).map(|(text, _)| text);
    let expected: Vec<_> = (0..40).map(|n: u32| n.to_string()).collect();
    assert_eq!(all.collect::<Vec<_>>(), expected, "once each, in order");
}

#[tokio::test]
async fn a_view_reads_on_after_its_own_position_and_misses_nothing() {
    let (_broker, nats) = prepared().await;
    let texts: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    for text in &texts[..30] {
        trip_event(&nats, text).await;
    }
    // Positions are the view's own, as if they were stored with it.
    let mut seen: Vec<String> = Vec::new();
    let mut position = 0;
    for until in [20, 30, 50] {
        if until == 50 {
            for text in &texts[30..] {
                trip_event(&nats, text).await;
            }
        }
        let stop = CancellationToken::new();
        let spec = ViewSpec {
            stream: stream::TRIP,
            filter: subject::TRIP.events(),
            start: Start::After(position),
        };
        view::follow(&nats, spec, &CaughtUp::default(), stop.clone(), |stored| {
            if seen.len() < until {
                seen.push(String::from_utf8(stored.payload.to_vec()).unwrap());
                position = stored.sequence;
            }
            if seen.len() == until {
                stop.cancel();
            }
            std::future::ready(Ok(()))
        })
        .await
        .unwrap();
    }
    assert_eq!(seen, texts);
}

#[tokio::test]
async fn whoever_dies_of_it_a_message_is_given_out_five_times_at_most() {
    let (_broker, nats) = hurried().await;
    trip_event(&nats, "bad").await;
    let deliveries = Arc::new(AtomicUsize::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    // Owners fail, hang and die of it in turn.
    for round in 0..8_u32 {
        let (deliveries, over) = (deliveries.clone(), is_over.clone());
        let before = deliveries.load(Ordering::Relaxed);
        let worker = Process::start(&nats, WORKER, {
            let deliveries = deliveries.clone();
            move |_: Delivery, _| {
                deliveries.fetch_add(1, Ordering::Relaxed);
                async move {
                    if round % 3 == 1 {
                        return Err(Failure::Transient(anyhow::anyhow!("away")));
                    }
                    std::future::pending().await
                }
            }
        });
        let happens = async || {
            let is_buried = super::dead_letters(&nats).await == 1;
            over.store(is_buried, Ordering::Relaxed);
            is_buried || deliveries.load(Ordering::Relaxed) > before
        };
        eventually_within(deadline::RECOVERY, "it is given out or put aside", happens).await;
        worker.kill().await;
        if is_over.load(Ordering::Relaxed) {
            break;
        }
    }
    assert!(is_over.load(Ordering::Relaxed), "it was put aside");
    assert_eq!(deliveries.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn lag_and_open_letters_are_shown_as_metrics_though_no_consumer_runs() {
    let (_broker, nats) = hurried().await;
    trip_event(&nats, "bad").await;
    let worker = Process::start(&nats, WORKER, |_: Delivery, _| {
        std::future::ready(Err(Failure::Permanent(anyhow::anyhow!("never"))))
    });
    eventually("it is put aside", async || super::dead_letters(&nats).await == 1).await;
    worker.stop().await;
    for _ in 0..3 {
        publish(&nats, "waits").await;
    }
    let shutdown = CancellationToken::new();
    let watching = consumer::watch_lag(&nats, shutdown.clone());
    let shown = async {
        for line in ["consumer_pending{consumer=\"trip-request\"} 3", "dlq_depth 1"] {
            eventually(line, async || metrics::render().contains(line)).await;
        }
        shutdown.cancel();
    };
    let (watched, ()) = tokio::join!(watching, shown);
    watched.unwrap();
}
