//! The window of pings: frames in order, many in flight, and none of them pays for another.

use std::collections::BTreeSet;

use common::{
    consumer::{Class, Delivery, Failure, dead},
    nats::Nats,
    stream::{self, ConsumerSpec, PINGS_IN_FLIGHT},
    subject,
    testing::{deadline, eventually, eventually_within},
};
use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::{
    Process, Seen, dead_letter, dead_letters,
    kinds::{holding, in_hand_and_waiting, noting},
    prepared,
};

const PINGS: ConsumerSpec = stream::LOCATION_PINGS;

async fn frame(nats: &Nats, text: &str) -> u64 {
    let published = nats.jetstream.publish(subject::ping(0), text.to_owned().into()).await.unwrap();
    published.await.unwrap().sequence
}

/// Returns when the broker has waited in vain for an ack of somebody else, a few times.
async fn acks_were_waited_for(nats: &Nats) {
    frame(nats, "bystander").await;
    let held = nats.admin.get_stream(stream::PINGS).await.unwrap();
    let bystander = held
        .create_consumer(async_nats::jetstream::consumer::pull::Config {
            ack_wait: stream::ACK_WAIT,
            ..Default::default()
        })
        .await
        .unwrap();
    let mut given = bystander.stream().max_messages_per_batch(1).messages().await.unwrap();
    let mut times = 0;
    while times < 4 {
        let message = given.next().await.unwrap().unwrap();
        times = message.info().unwrap().delivered;
    }
}

#[tokio::test]
async fn an_owner_gets_its_window_in_order_and_what_waits_in_it_keeps_its_tries() {
    let (_broker, nats) = prepared().await;
    let window = usize::try_from(PINGS_IN_FLIGHT).unwrap();
    for n in 0..window + 40 {
        frame(&nats, &n.to_string()).await;
    }
    let (seen, gate) = (Seen::default(), watch::Sender::new(false));
    let owner = Process::start(&nats, PINGS, holding(&seen, &gate));
    let is_full = async || in_hand_and_waiting(&nats, PINGS).await == (window, 40);
    eventually("its window is full", is_full).await;
    acks_were_waited_for(&nats).await;
    assert_eq!(seen.count(), 1, "one after the other");
    gate.send_replace(true);
    eventually("all were read", async || seen.count() > window + 40).await;
    owner.stop().await;
    let numbers = (0..window + 40).map(|n| (n.to_string(), 1));
    let expected: Vec<_> = numbers.chain([("bystander".to_owned(), 1)]).collect();
    assert_eq!(seen.all(), expected, "each once, in order");
}

#[tokio::test]
async fn a_frame_that_kills_five_owners_takes_none_of_its_window_along() {
    let (_broker, nats) = prepared().await;
    let mut bad = 0;
    for n in 0..60 {
        let sequence = frame(&nats, &if n == 20 { "bad".to_owned() } else { n.to_string() }).await;
        bad = if n == 20 { sequence } else { bad };
    }
    let seen = Seen::default();
    for killed in 1..=5 {
        let handler = {
            let seen = seen.clone();
            move |delivery: Delivery, _| {
                let (text, _) = seen.note(&delivery);
                async move {
                    if text == "bad" {
                        std::future::pending::<()>().await;
                    }
                    Ok::<(), Failure>(())
                }
            }
        };
        let owner = Process::start(&nats, PINGS, handler);
        let is_in_hand = async || seen.tries_of("bad").len() == killed;
        eventually_within(deadline::RECOVERY, "it is in hand", is_in_hand).await;
        owner.kill().await;
    }
    assert_eq!(seen.tries_of("bad"), [1, 2, 3, 4, 5]);
    let sixth = Seen::default();
    let owner = Process::start(&nats, PINGS, noting(&sixth));
    let is_done = async || in_hand_and_waiting(&nats, PINGS).await == (0, 0);
    eventually_within(deadline::RECOVERY, "all are done with", is_done).await;
    owner.stop().await;
    assert_eq!(dead_letters(&nats).await, 1);
    let letter = dead_letter(&nats, PINGS, bad).await.unwrap();
    assert_eq!(letter.headers.get(dead::CLASS).unwrap().as_str(), Class::Fatal.name());
    let all: Vec<_> = seen.all().into_iter().chain(sixth.all()).collect();
    let texts: BTreeSet<&str> = all.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts.len(), 60, "every frame was handled, but for that one");
    let innocent = all.iter().filter(|(text, _)| text != "bad");
    let most = innocent.map(|(_, attempt)| *attempt).max().unwrap();
    // Once in its window, once more when the next owner took it up, and a lost ack.
    assert!(most <= 3, "{most} deliveries of a frame that did nothing");
}
