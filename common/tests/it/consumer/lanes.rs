//! Lanes: strict order and one owner.

use common::{
    consumer::{self, Delivery, Failure},
    stream,
    testing::{deadline, eventually, eventually_within},
};
use tokio_util::sync::CancellationToken;

use super::{Process, Seen, prepared, publish};

#[tokio::test]
async fn a_lane_keeps_its_order_through_transient_failures() {
    let (_broker, nats) = super::hurried().await;
    for n in 0..6 {
        publish(&nats, n.to_string()).await;
    }
    let seen = Seen::default();
    let handler = {
        let seen = seen.clone();
        move |delivery: Delivery, _| {
            let (text, attempt) = seen.note(&delivery);
            let fails = (text == "1" && attempt < 3) || (text == "4" && attempt < 5);
            std::future::ready(if fails {
                Err(Failure::Transient(anyhow::anyhow!("not yet")))
            } else {
                Ok(())
            })
        }
    };
    let lane = Process::start(&nats, stream::TRIP_REQUESTS, handler);
    eventually("all were seen", async || seen.count() == 12).await;
    lane.stop().await;
    let order = seen.all().into_iter().map(|(text, _)| text).collect::<String>();
    assert_eq!(order, "011123444445");
    assert_eq!(super::dead_letters(&nats).await, 0);
}

#[tokio::test]
async fn what_was_handled_but_not_acknowledged_comes_again() {
    let (_broker, nats) = prepared().await;
    publish(&nats, "once").await;
    let first = Seen::default();
    // An owner that dies after the effect and before the ack.
    let dying = Process::start(&nats, stream::TRIP_REQUESTS, {
        let seen = first.clone();
        move |delivery: Delivery, _| {
            seen.note(&delivery);
            std::future::pending::<Result<(), Failure>>()
        }
    });
    eventually("it was seen", async || first.count() == 1).await;
    dying.kill().await;
    let second = Seen::default();
    let next = Process::start(&nats, stream::TRIP_REQUESTS, {
        let seen = second.clone();
        move |delivery: Delivery, _| {
            seen.note(&delivery);
            std::future::ready(Ok(()))
        }
    });
    let is_seen = async || second.count() == 1;
    eventually_within(deadline::RECOVERY, "the next owner saw it", is_seen).await;
    next.stop().await;
    assert_eq!(second.all(), [("once".to_owned(), 2)], "the broker counted the first try");
}

#[tokio::test]
async fn a_lane_stops_although_its_message_takes_for_ever() {
    let (_broker, nats) = prepared().await;
    publish(&nats, "stuck").await;
    let (seen, shutdown) = (Seen::default(), CancellationToken::new());
    let handler = {
        let seen = seen.clone();
        move |delivery: Delivery, _| {
            seen.note(&delivery);
            std::future::pending::<Result<(), Failure>>()
        }
    };
    let lane = consumer::run(&nats, stream::TRIP_REQUESTS, shutdown.clone(), handler);
    let watch = async {
        eventually("it was seen", async || seen.count() == 1).await;
        shutdown.cancel();
    };
    let both = async { tokio::join!(lane, watch).0 };
    let ended = tokio::time::timeout(deadline::RECOVERY, both).await;
    ended.expect("the lane stops").unwrap();
}
