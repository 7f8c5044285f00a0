//! What operations do about dead letters, with real consumers that fail and are mended.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use common::{
    consumer::{Class, Delivery, Failure},
    dead_letters::{
        self, Discarded, Filter, Order, Outcome, RATE_MAX, Replay, Run, Selection, State, Status,
    },
    id::{CommandId, TripId},
    nats::Nats,
    stream::{self, ConsumerSpec},
    testing::eventually,
};
use tokio_util::sync::CancellationToken;

use crate::consumer::{FAST, Process, hurried, publish};

const WORKER: ConsumerSpec = stream::RIDER_PAYMENTS;
const LANE: ConsumerSpec = stream::TRIP_REQUESTS;

/// Something outside that may be broken, and counts what is done to it, by id.
#[derive(Clone, Default)]
struct Outside {
    is_broken: Arc<AtomicBool>,
    effects: Arc<Mutex<BTreeMap<String, u32>>>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Outside {
    fn broken() -> Self {
        let outside = Self::default();
        outside.is_broken.store(true, Ordering::Relaxed);
        outside
    }

    fn mend(&self) {
        self.is_broken.store(false, Ordering::Relaxed);
    }

    /// As a worker does it: an effect once for each id, by a ledger.
    fn handler(
        &self,
    ) -> impl Fn(Delivery, u32) -> std::future::Ready<Result<(), Failure>> + Clone + Send + Sync + 'static
    {
        let outside = self.clone();
        move |delivery, _| {
            let text = String::from_utf8(delivery.payload.to_vec()).unwrap();
            outside.calls.lock().unwrap().push(text.clone());
            std::future::ready(
                if outside.is_broken.load(Ordering::Relaxed) || text.contains("hopeless") {
                    Err(Failure::Permanent(anyhow::anyhow!("refused")))
                } else {
                    outside.effects.lock().unwrap().entry(text).or_insert(1);
                    Ok(())
                },
            )
        }
    }

    fn effects(&self) -> usize {
        self.effects.lock().unwrap().len()
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

async fn trip_event(nats: &Nats, text: &str) {
    let subject = nats.partitions.trip_event(TripId::fresh());
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("ce-type", "trip.completed");
    headers.insert("ce-id", "kept");
    let ack = nats.jetstream.publish_with_headers(subject, headers, text.to_owned().into()).await;
    ack.unwrap().await.unwrap();
}

fn order(nats: &Nats) -> Order {
    Order {
        by: "somebody".into(),
        reason: "the provider is mended".into(),
        run: CommandId::fresh().0,
        at: nats.clock.now(),
    }
}

async fn list(nats: &Nats, filter: Filter) -> Vec<dead_letters::Letter> {
    dead_letters::list(nats, &filter, 0, 10_000).await.unwrap().items
}

async fn in_state(nats: &Nats, state: State) -> usize {
    list(nats, Filter { state: Some(state), ..Filter::default() }).await.len()
}

async fn replay(nats: &Nats, again: bool) -> Run {
    let replay = Replay {
        order: order(nats),
        selection: Selection::Filter(Filter {
            consumer: Some(WORKER.name.into()),
            ..Filter::default()
        }),
        rate_per_s: RATE_MAX,
        again,
    };
    dead_letters::replay(nats, replay, CancellationToken::new()).await.unwrap()
}

/// A broken worker and so many letters of it.
async fn with_letters(nats: &Nats, outside: &Outside, count: usize) -> Process {
    for n in 0..count {
        trip_event(nats, &format!("fare {n}")).await;
    }
    let worker = Process::start(nats, WORKER, outside.handler());
    eventually("all are put aside", async || list(nats, Filter::default()).await.len() == count)
        .await;
    worker
}

#[tokio::test]
async fn what_failed_while_something_was_broken_is_replayed_once_it_is_mended() {
    let (_broker, nats) = hurried().await;
    let outside = Outside::broken();
    let worker = with_letters(&nats, &outside, 40).await;
    outside.mend();
    let run = replay(&nats, false).await;
    assert_eq!((run.status, run.selected, run.sent), (Status::Done, 40, 40), "{run:?}");
    assert_eq!((run.handled, run.failed), (40, 0));
    assert_eq!(outside.effects(), 40);
    assert_eq!(in_state(&nats, State::Handled).await, 40);
    assert_eq!(dead_letters::last_run(&nats, run.order.run).await.unwrap().as_ref(), Some(&run));
    assert_eq!(dead_letters::runs(&nats, 10).await.unwrap(), [run]);
    worker.stop().await;
}

#[tokio::test]
async fn a_replayed_message_is_the_one_that_failed() {
    let (_broker, nats) = hurried().await;
    let seen = Arc::new(Mutex::new(Vec::<Delivery>::new()));
    let is_mended = Arc::new(AtomicBool::new(false));
    let handler = {
        let (seen, is_mended) = (seen.clone(), is_mended.clone());
        move |delivery: Delivery, partition| {
            assert_eq!(partition, 0);
            seen.lock().unwrap().push(delivery);
            std::future::ready(if is_mended.load(Ordering::Relaxed) {
                Ok(())
            } else {
                Err(Failure::Permanent(anyhow::anyhow!("no")))
            })
        }
    };
    trip_event(&nats, "fare").await;
    let worker = Process::start(&nats, WORKER, handler);
    eventually("it is put aside", async || in_state(&nats, State::Open).await == 1).await;
    is_mended.store(true, Ordering::Relaxed);
    assert_eq!(replay(&nats, false).await.handled, 1);
    worker.stop().await;
    let seen = seen.lock().unwrap();
    let (first, second) = (&seen[0], &seen[1]);
    assert_eq!(first.subject, second.subject);
    assert_eq!(first.sequence, second.sequence);
    assert_eq!(first.published, second.published);
    assert_eq!(first.payload, second.payload);
    assert_eq!(first.headers, second.headers, "its own id among them");
}

#[tokio::test]
async fn whoever_dies_in_the_middle_of_a_replay_every_letter_is_handled_in_the_end() {
    let (_broker, nats) = hurried().await;
    let outside = Outside::broken();
    let worker = with_letters(&nats, &outside, 60).await;
    outside.mend();
    assert_eq!(replay(&nats, false).await.handled, 60);
    // What is handled is not sent again, unless somebody insists.
    assert_eq!(replay(&nats, false).await.selected, 0);
    let calls = outside.calls().len();
    // The worker and the replayer die in the middle of the second one.
    let replaying = replay(&nats, true);
    tokio::select! {
        run = replaying => panic!("over too soon: {run:?}"),
        () = eventually("it is under way", async || outside.calls().len() > calls + 10) => (),
    }
    worker.kill().await;
    let worker = Process::start(&nats, WORKER, outside.handler());
    let is_none_on_its_way = async || in_state(&nats, State::Replaying).await == 0;
    for _ in 0..2 {
        eventually("nothing is on its way", is_none_on_its_way).await;
        // The dead replayer's last message may still have been on the wire: it is not sent twice.
        let run = replay(&nats, true).await;
        assert!(run.selected >= 59, "{run:?}");
        assert_eq!((run.status, run.handled), (Status::Done, run.selected), "{run:?}");
    }
    eventually("nothing is on its way", is_none_on_its_way).await;
    worker.stop().await;
    assert_eq!(outside.effects(), 60);
    assert_eq!(in_state(&nats, State::Handled).await, 60);
}

#[tokio::test]
async fn a_replay_stops_after_the_first_letter_if_nothing_was_mended() {
    let (_broker, nats) = hurried().await;
    let outside = Outside::broken();
    let worker = with_letters(&nats, &outside, 20).await;
    let calls = outside.calls().len();
    let run = replay(&nats, false).await;
    assert_eq!((run.status, run.sent, run.failed), (Status::Stopped, 1, 1), "{run:?}");
    assert!(run.why.unwrap().contains("sent first"));
    assert_eq!(outside.calls().len(), calls + 1);
    assert_eq!(in_state(&nats, State::Failed).await, 1);
    assert_eq!(in_state(&nats, State::Open).await, 19);
    worker.stop().await;
}

#[tokio::test]
async fn a_replay_stops_when_more_than_a_tenth_fails_again() {
    let (_broker, nats) = hurried().await;
    let outside = Outside::broken();
    for n in 0..200 {
        let hopeless = if n % 4 == 3 { " hopeless" } else { "" };
        trip_event(&nats, &format!("fare {n}{hopeless}")).await;
    }
    let worker = Process::start(&nats, WORKER, outside.handler());
    eventually("all are put aside", async || in_state(&nats, State::Open).await == 200).await;
    outside.mend();
    let run = replay(&nats, false).await;
    assert_eq!(run.status, Status::Stopped, "{run:?}");
    assert!(run.sent < 200 && run.failed >= 2, "{run:?}");
    worker.stop().await;
}

#[tokio::test]
async fn a_letter_that_fails_again_is_one_letter_with_a_longer_history() {
    let (_broker, nats) = hurried().await;
    let outside = Outside::broken();
    let worker = with_letters(&nats, &outside, 1).await;
    let letter = list(&nats, Filter::default()).await.remove(0);
    replay(&nats, false).await;
    outside.mend();
    replay(&nats, false).await;
    worker.stop().await;
    let whole = dead_letters::show(&nats, letter.sequence).await.unwrap().unwrap();
    let outcomes: Vec<_> = whole.history.iter().map(|record| record.outcome).collect();
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Handled]);
    assert_eq!(whole.history[0].order.by, "somebody");
    assert_eq!(whole.history[0].order.reason, "the provider is mended");
    assert_eq!(whole.history[0].class, Some(Class::Permanent));
    assert_eq!(whole.history[0].error.as_deref(), Some("refused"));
    assert_eq!(whole.letter.state, State::Handled);
    assert_eq!(list(&nats, Filter::default()).await.len(), 1);
}

#[tokio::test]
async fn a_discarded_letter_is_not_replayed_and_tells_who_did_it() {
    let (_broker, nats) = hurried().await;
    let outside = Outside::broken();
    let worker = with_letters(&nats, &outside, 3).await;
    outside.mend();
    let letter = list(&nats, Filter::default()).await.remove(1);
    let selection = Selection::Sequences(vec![letter.sequence]);
    let once = dead_letters::discard(&nats, &selection, &order(&nats)).await.unwrap();
    assert_eq!(once, Discarded { discarded: 1, skipped: 0 });
    let twice = dead_letters::discard(&nats, &selection, &order(&nats)).await.unwrap();
    assert_eq!(twice, Discarded { discarded: 0, skipped: 1 });
    assert_eq!(replay(&nats, false).await.handled, 2);
    worker.stop().await;
    let whole = dead_letters::show(&nats, letter.sequence).await.unwrap().unwrap();
    assert_eq!(whole.letter.state, State::Discarded);
    assert_eq!(whole.history.len(), 1);
    assert_eq!(outside.effects(), 2);
}

#[tokio::test]
async fn a_lanes_letters_are_replayed_in_their_order() {
    let (_broker, nats) = hurried().await;
    let outside = Outside::broken();
    let lane = Process::start(&nats, LANE, outside.handler());
    let texts: Vec<_> = (0..30).map(|n| format!("request {n}")).collect();
    for text in &texts {
        publish(&nats, text.as_str()).await;
    }
    eventually("all are put aside", async || in_state(&nats, State::Open).await == 30).await;
    outside.mend();
    let calls = outside.calls().len();
    let replay = Replay {
        order: order(&nats),
        selection: Selection::Filter(Filter {
            consumer: Some(LANE.durable(0)),
            ..Filter::default()
        }),
        rate_per_s: RATE_MAX,
        again: false,
    };
    let run = dead_letters::replay(&nats, replay, CancellationToken::new()).await.unwrap();
    assert_eq!(run.handled, 30, "{run:?}");
    lane.stop().await;
    assert_eq!(outside.calls()[calls..], texts);
}

#[tokio::test]
async fn letters_are_found_by_consumer_stream_class_kind_and_time_page_by_page() {
    let (_broker, nats) = hurried().await;
    let outside = Outside::broken();
    let worker = with_letters(&nats, &outside, 5).await;
    let between = nats.clock.now();
    let lane = Process::start(&nats, LANE, |_, _| {
        std::future::ready(Err(Failure::Transient(anyhow::anyhow!("away"))))
    });
    publish(&nats, "request").await;
    eventually("it is put aside", async || list(&nats, Filter::default()).await.len() == 6).await;
    worker.stop().await;
    lane.stop().await;
    let count = async |filter| list(&nats, filter).await.len();
    let any = Filter::default;
    assert_eq!(count(Filter { consumer: Some("rider-payments".into()), ..any() }).await, 5);
    assert_eq!(count(Filter { consumer: Some("trip-request".into()), ..any() }).await, 1);
    assert_eq!(count(Filter { consumer: Some("trip-request-0".into()), ..any() }).await, 1);
    assert_eq!(count(Filter { stream: Some("RIDER".into()), ..any() }).await, 1);
    assert_eq!(count(Filter { class: Some(Class::Transient), ..any() }).await, 1);
    assert_eq!(count(Filter { kind: Some("trip.completed".into()), ..any() }).await, 5);
    assert_eq!(count(Filter { since: Some(between), ..any() }).await, 1);
    assert_eq!(count(Filter { until: Some(between), ..any() }).await, 5);
    let (mut cursor, mut pages) = (0, Vec::new());
    loop {
        let page = dead_letters::list(&nats, &any(), cursor, 4).await.unwrap();
        pages.push(page.items.len());
        match page.next_cursor {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert_eq!(pages, [4, 2]);
}

#[tokio::test]
async fn a_replay_that_kills_its_handler_is_recorded_and_stands_in_nobodys_way() {
    let (_broker, mut nats) = hurried().await;
    // Patience that five deaths fit in.
    nats.consuming.handling_max_ms = None;
    let outside = Outside::broken();
    let worker = with_letters(&nats, &outside, 1).await;
    worker.stop().await;
    let replaying = replay(&nats, false);
    let dying = async {
        for attempt in 1..=5 {
            let seen = Arc::new(Mutex::new(None));
            let handler = {
                let seen = seen.clone();
                move |delivery: Delivery, _| {
                    *seen.lock().unwrap() = Some(delivery.attempt);
                    std::future::pending::<Result<(), Failure>>()
                }
            };
            let worker = Process::start(&nats, WORKER, handler);
            let is_in_hand = async || *seen.lock().unwrap() == Some(attempt);
            eventually("it is in hand", is_in_hand).await;
            worker.kill().await;
        }
        Process::start(&nats, WORKER, outside.handler())
    };
    let (run, worker) = tokio::join!(replaying, dying);
    assert_eq!((run.status, run.failed), (Status::Stopped, 1), "{run:?}");
    assert_eq!(in_state(&nats, State::Failed).await, 1);
    let letter = list(&nats, Filter::default()).await.remove(0);
    assert_eq!(letter.resolution.unwrap().class, Some(Class::Fatal));
    worker.stop().await;
}

#[tokio::test]
async fn expired_commands_and_pings_are_not_sent_back() {
    let (_broker, nats) = hurried().await;
    assert_eq!(FAST, nats.consuming);
    let refuse = |_, _| std::future::ready(Err(Failure::Permanent(anyhow::anyhow!("no"))));
    let drivers = Process::start(&nats, stream::DRIVER_COMMANDS, refuse);
    let pings = Process::start(&nats, stream::LOCATION_PINGS, refuse);
    let subject = nats.partitions.driver_command(common::id::DriverId::fresh());
    let offer = async_nats::jetstream::message::PublishMessage::build()
        .ttl(std::time::Duration::from_secs(1))
        .payload("offer".into());
    nats.jetstream.send_publish(subject, offer).await.unwrap().await.unwrap();
    nats.jetstream.publish("ping.0", "frame".into()).await.unwrap().await.unwrap();
    eventually("both are put aside", async || in_state(&nats, State::Open).await == 2).await;
    drivers.stop().await;
    pings.stop().await;
    let letters = list(&nats, Filter::default()).await;
    let offer = letters.iter().find(|letter| letter.stream == "DRIVER_CMD").unwrap();
    let expires_at = offer.expires_at.unwrap();
    eventually("the offer means nothing any more", async || expires_at <= nats.clock.now()).await;
    let replay = Replay {
        order: order(&nats),
        selection: Selection::Filter(Filter::default()),
        rate_per_s: RATE_MAX,
        again: false,
    };
    let run = dead_letters::replay(&nats, replay, CancellationToken::new()).await.unwrap();
    assert_eq!((run.status, run.selected, run.unsendable, run.sent), (Status::Done, 2, 2, 0));
}
