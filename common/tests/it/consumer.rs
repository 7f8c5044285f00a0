//! The loops against a real broker: order, tries, dead letters, hand-over.

use std::sync::{Arc, Mutex};

use async_nats::jetstream::stream::LastRawMessageErrorKind;
use common::{
    consumer::{self, Delivery, Failure, dead},
    id::RiderId,
    nats::Nats,
    stream,
    subject::Partitions,
    testing::{self, TestBroker, deadline, eventually, eventually_within},
};
use tokio_util::sync::CancellationToken;

async fn prepared() -> (TestBroker, Nats) {
    let broker = testing::broker().await;
    let nats = Nats::new(broker.client().await, Partitions::new(1).unwrap());
    nats.prepare().await.unwrap();
    (broker, nats)
}

async fn publish(nats: &Nats, text: &str) -> u64 {
    let subject = nats.partitions.rider_event(RiderId::fresh());
    let ack = nats.jetstream.publish(subject, text.to_owned().into()).await.unwrap();
    ack.await.unwrap().sequence
}

async fn dead_letter(
    nats: &Nats,
    sequence: u64,
) -> Option<async_nats::jetstream::message::StreamMessage> {
    let stream = nats.admin.get_stream(stream::DLQ).await.unwrap();
    let subject = format!("dlq.trip-request-0.RIDER.{sequence}");
    match stream.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => Some(message),
        Err(err) if err.kind() == LastRawMessageErrorKind::NoMessageFound => None,
        Err(err) => panic!("{err}"),
    }
}

type Seen = Arc<Mutex<Vec<(String, i64)>>>;

fn note(seen: &Seen, delivery: &Delivery) -> String {
    let text = String::from_utf8(delivery.payload.to_vec()).unwrap();
    seen.lock().unwrap().push((text.clone(), delivery.attempt));
    text
}

#[tokio::test]
async fn a_malformed_message_goes_to_the_dlq_on_the_first_try_and_the_lane_goes_on() {
    let (_broker, nats) = prepared().await;
    let bad = publish(&nats, "bad").await;
    publish(&nats, "good").await;
    let (seen, shutdown) = (Seen::default(), CancellationToken::new());
    let handler = {
        let seen = seen.clone();
        move |delivery: Delivery, _| {
            let text = note(&seen, &delivery);
            async move {
                if text == "bad" {
                    return Err(Failure::Permanent(anyhow::anyhow!("no sense\nat all")));
                }
                Ok(())
            }
        }
    };
    let lane = consumer::run(&nats, stream::TRIP_REQUESTS, shutdown.clone(), handler);
    let watch = async {
        eventually("both were seen", async || seen.lock().unwrap().len() == 2).await;
        let copy = eventually("a copy is kept", async || dead_letter(&nats, bad).await).await;
        assert_eq!(copy.payload.as_ref(), b"bad");
        assert_eq!(copy.headers.get(dead::ERROR).unwrap().as_str(), "no sense at all");
        assert_eq!(copy.headers.get(dead::ATTEMPTS).unwrap().as_str(), "1");
        shutdown.cancel();
    };
    let (ended, ()) = tokio::join!(lane, watch);
    ended.unwrap();
    let order = [("bad".to_owned(), 1), ("good".to_owned(), 1)];
    assert_eq!(*seen.lock().unwrap(), order);
}

#[tokio::test]
async fn a_lane_keeps_its_order_through_a_transient_failure() {
    let (_broker, nats) = prepared().await;
    for n in 0..4 {
        publish(&nats, &n.to_string()).await;
    }
    let (seen, shutdown) = (Seen::default(), CancellationToken::new());
    let handler = {
        let seen = seen.clone();
        move |delivery: Delivery, _| {
            let (text, attempt) = (note(&seen, &delivery), delivery.attempt);
            async move {
                if text == "1" && attempt == 1 {
                    return Err(Failure::Transient(anyhow::anyhow!("not yet")));
                }
                Ok(())
            }
        }
    };
    let lane = consumer::run(&nats, stream::TRIP_REQUESTS, shutdown.clone(), handler);
    let watch = async {
        eventually_within(deadline::RECOVERY, "all were seen", async || {
            seen.lock().unwrap().len() == 5
        })
        .await;
        shutdown.cancel();
    };
    let (ended, ()) = tokio::join!(lane, watch);
    ended.unwrap();
    let order: Vec<_> =
        [("0", 1), ("1", 1), ("1", 2), ("2", 1), ("3", 1)].map(|(t, n)| (t.to_owned(), n)).into();
    assert_eq!(*seen.lock().unwrap(), order);
}

#[tokio::test]
async fn what_was_handled_but_not_acknowledged_comes_again() {
    let (_broker, nats) = prepared().await;
    publish(&nats, "once").await;
    let first = Seen::default();
    {
        // An owner that dies after the effect and before the ack: its loop is dropped in the act.
        let seen = first.clone();
        let handler = move |delivery: Delivery, _| {
            note(&seen, &delivery);
            std::future::pending::<Result<(), Failure>>()
        };
        let lane = consumer::run(&nats, stream::TRIP_REQUESTS, CancellationToken::new(), handler);
        tokio::select! {
            _ = lane => panic!("a lane does not end by itself"),
            () = eventually("it was seen", async || !first.lock().unwrap().is_empty()) => (),
        }
    }
    let (second, shutdown) = (Seen::default(), CancellationToken::new());
    let handler = {
        let seen = second.clone();
        move |delivery: Delivery, _| {
            note(&seen, &delivery);
            std::future::ready(Ok(()))
        }
    };
    let lane = consumer::run(&nats, stream::TRIP_REQUESTS, shutdown.clone(), handler);
    let watch = async {
        eventually_within(deadline::RECOVERY, "the next owner saw it", async || {
            !second.lock().unwrap().is_empty()
        })
        .await;
        shutdown.cancel();
    };
    let (ended, ()) = tokio::join!(lane, watch);
    ended.unwrap();
    assert_eq!(second.lock().unwrap()[0].0, "once");
    assert!(second.lock().unwrap()[0].1 > 1, "the broker counted the first try");
}

#[tokio::test]
async fn a_lane_stops_although_its_message_takes_for_ever() {
    let (_broker, nats) = prepared().await;
    publish(&nats, "stuck").await;
    let (seen, shutdown) = (Seen::default(), CancellationToken::new());
    let handler = {
        let seen = seen.clone();
        move |delivery: Delivery, _| {
            note(&seen, &delivery);
            std::future::pending::<Result<(), Failure>>()
        }
    };
    let lane = consumer::run(&nats, stream::TRIP_REQUESTS, shutdown.clone(), handler);
    let watch = async {
        eventually("it was seen", async || !seen.lock().unwrap().is_empty()).await;
        shutdown.cancel();
    };
    let both = async { tokio::join!(lane, watch).0 };
    let ended = tokio::time::timeout(deadline::RECOVERY, both).await;
    ended.expect("the lane stops").unwrap();
}
