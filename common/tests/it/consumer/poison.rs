//! Messages that cannot be handled: each ends on the dead-letter queue once, with its class, after
//! five tries at most, and what comes after it goes on.

use common::{
    consumer::{Class, Delivery, Failure, dead},
    id::DriverId,
    nats::Nats,
    stream::{self, ConsumerSpec, HANDLED_BYTES_MAX},
    testing::{deadline, eventually, eventually_within},
};

use futures_util::StreamExt as _;

use super::{Process, Seen, dead_letter, dead_letters, hurried, publish};

const LANE: ConsumerSpec = stream::TRIP_REQUESTS;

/// Gives up `bad` with this failure and handles everything else.
fn failing(
    seen: &Seen,
    failure: fn(anyhow::Error) -> Failure,
) -> impl Fn(Delivery, u32) -> std::future::Ready<Result<(), Failure>> + Clone + Send + 'static {
    let seen = seen.clone();
    move |delivery, _| {
        let (text, _) = seen.note(&delivery);
        std::future::ready(if text == "bad" {
            Err(failure(anyhow::anyhow!("no sense\nat all")))
        } else {
            Ok(())
        })
    }
}

async fn header(nats: &Nats, sequence: u64, name: &str) -> String {
    let letter = dead_letter(nats, LANE, sequence).await.unwrap();
    letter.headers.get(name).unwrap().as_str().to_owned()
}

#[tokio::test]
async fn a_malformed_message_goes_to_the_dlq_on_the_first_try_and_the_lane_goes_on() {
    let (_broker, nats) = hurried().await;
    let bad = publish(&nats, "bad").await;
    publish(&nats, "good").await;
    let seen = Seen::default();
    let lane = Process::start(&nats, LANE, failing(&seen, Failure::Permanent));
    eventually("both were seen", async || seen.count() == 2).await;
    let letter = dead_letter(&nats, LANE, bad).await.expect("it was kept before the lane went on");
    assert_eq!(letter.payload.as_ref(), b"bad");
    for (name, expected) in [
        (dead::ERROR, "no sense at all"),
        (dead::ATTEMPTS, "1"),
        (dead::CLASS, Class::Permanent.name()),
        (dead::CONSUMER, "trip-request-0"),
        (dead::STREAM, "RIDER"),
        (dead::SEQUENCE, &bad.to_string()),
    ] {
        assert_eq!(letter.headers.get(name).unwrap().as_str(), expected, "{name}");
    }
    lane.stop().await;
    assert_eq!(seen.all(), [("bad".to_owned(), 1), ("good".to_owned(), 1)]);
}

#[tokio::test]
async fn a_transient_failure_is_tried_five_times_and_then_put_aside() {
    let (_broker, nats) = hurried().await;
    let bad = publish(&nats, "bad").await;
    publish(&nats, "good").await;
    let seen = Seen::default();
    let lane = Process::start(&nats, LANE, failing(&seen, Failure::Transient));
    eventually("the next was seen", async || !seen.tries_of("good").is_empty()).await;
    lane.stop().await;
    assert_eq!(seen.tries_of("bad"), [1, 2, 3, 4, 5]);
    assert_eq!(header(&nats, bad, dead::CLASS).await, "transient");
    assert_eq!(header(&nats, bad, dead::ATTEMPTS).await, "5");
}

#[tokio::test]
async fn a_handler_that_hangs_is_tried_five_times_and_the_lane_goes_on() {
    let (_broker, nats) = hurried().await;
    let bad = publish(&nats, "bad").await;
    publish(&nats, "good").await;
    let seen = Seen::default();
    let handler = {
        let seen = seen.clone();
        move |delivery: Delivery, _| {
            let (text, _) = seen.note(&delivery);
            async move {
                if text == "bad" {
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
        }
    };
    let lane = Process::start(&nats, LANE, handler);
    let is_next_seen = async || !seen.tries_of("good").is_empty();
    eventually_within(deadline::RECOVERY, "the next was seen", is_next_seen).await;
    lane.stop().await;
    assert_eq!(seen.tries_of("bad"), [1, 2, 3, 4, 5]);
    assert_eq!(header(&nats, bad, dead::CLASS).await, "hung");
}

#[tokio::test]
async fn waiting_for_a_dependency_is_no_hang() {
    let (_broker, nats) = hurried().await;
    publish(&nats, "patient").await;
    let (seen, is_open) = (Seen::default(), tokio::sync::watch::Sender::new(false));
    let handler = {
        let (seen, gate) = (seen.clone(), is_open.subscribe());
        move |delivery: Delivery, _| {
            seen.note(&delivery);
            let mut gate = gate.clone();
            async move {
                delivery.wait(gate.wait_for(|is_open| *is_open)).await.unwrap();
                Ok(())
            }
        }
    };
    let lane = Process::start(&nats, LANE, handler);
    eventually("it was seen", async || seen.count() == 1).await;
    // Far longer than a handler may take, by facts of the broker: an ack that does not come is
    // waited for 1.5 s, so progress was said, and another consumer's time passed.
    let bystander = Seen::default();
    let others = Process::start(&nats, stream::RIDER_PAYMENTS, {
        let bystander = bystander.clone();
        move |delivery: Delivery, _| {
            bystander.note(&delivery);
            async move { Err(Failure::Transient(anyhow::anyhow!("always"))) }
        }
    });
    let subject = nats.partitions.trip_event(common::id::TripId::fresh());
    nats.jetstream.publish(subject, "tick".into()).await.unwrap().await.unwrap();
    eventually("others were tried five times", async || bystander.count() == 5).await;
    is_open.send_replace(true);
    eventually("nothing is left", async || is_settled(&nats, LANE).await).await;
    lane.stop().await;
    others.stop().await;
    assert_eq!(seen.tries_of("patient"), [1]);
}

/// Whether a consumer has nothing to deliver and nothing in hand.
async fn is_settled(nats: &Nats, spec: ConsumerSpec) -> bool {
    let held = nats.admin.get_stream(spec.stream).await.unwrap();
    let info = held.consumer_info(spec.durable(0)).await.unwrap();
    info.num_pending == 0 && info.num_ack_pending == 0
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_message_and_not_the_process() {
    let (_broker, nats) = hurried().await;
    let bad = publish(&nats, "bad").await;
    publish(&nats, "good").await;
    let seen = Seen::default();
    let handler = {
        let seen = seen.clone();
        move |delivery: Delivery, _| {
            let (text, _) = seen.note(&delivery);
            async move {
                assert!(text != "bad", "cannot stand it");
                Ok(())
            }
        }
    };
    let lane = Process::start(&nats, LANE, handler);
    eventually("the next was seen", async || !seen.tries_of("good").is_empty()).await;
    lane.stop().await;
    assert_eq!(seen.tries_of("bad"), [1, 2, 3, 4, 5]);
    assert_eq!(header(&nats, bad, dead::CLASS).await, "fatal");
    assert!(header(&nats, bad, dead::ERROR).await.contains("cannot stand it"));
}

#[tokio::test]
async fn a_huge_message_is_put_aside_whole_and_unread() {
    let (_broker, nats) = hurried().await;
    let huge = publish(&nats, vec![b'x'; HANDLED_BYTES_MAX + 1]).await;
    publish(&nats, "good").await;
    let seen = Seen::default();
    let lane = Process::start(&nats, LANE, failing(&seen, Failure::Permanent));
    eventually("the next was seen", async || seen.count() == 1).await;
    lane.stop().await;
    assert_eq!(seen.all(), [("good".to_owned(), 1)]);
    let letter = dead_letter(&nats, LANE, huge).await.unwrap();
    assert_eq!(letter.payload.len(), HANDLED_BYTES_MAX + 1);
    assert_eq!(header(&nats, huge, dead::CLASS).await, "permanent");
}

#[tokio::test]
async fn no_stream_takes_a_message_whose_copy_would_not_fit_into_a_letter() {
    let (_broker, nats) = hurried().await;
    let subject = nats.partitions.rider_event(common::id::RiderId::fresh());
    let most = nats.client.server_info().max_payload;
    let published = nats.jetstream.publish(subject, vec![0; most - 1024].into()).await.unwrap();
    assert!(published.await.is_err());
}

/// Kills five owners of a lane with the message in their hands.
async fn kill_five_owners(nats: &Nats, spec: ConsumerSpec, seen: &Seen) {
    for killed in 1..=5 {
        let handler = {
            let seen = seen.clone();
            move |delivery: Delivery, _| {
                seen.note(&delivery);
                std::future::pending::<Result<(), Failure>>()
            }
        };
        let owner = Process::start(nats, spec, handler);
        let is_in_hand = async || seen.count() == killed;
        eventually_within(deadline::RECOVERY, "it is in hand", is_in_hand).await;
        owner.kill().await;
    }
}

#[tokio::test]
async fn a_message_that_kills_five_owners_ends_on_the_dlq_and_its_lane_goes_on() {
    let (_broker, nats) = super::prepared().await;
    let bad = publish(&nats, "bad").await;
    publish(&nats, "good").await;
    let seen = Seen::default();
    kill_five_owners(&nats, LANE, &seen).await;
    let sixth = Seen::default();
    let lane = Process::start(&nats, LANE, failing(&sixth, Failure::Permanent));
    let is_next_seen = async || sixth.count() == 1;
    eventually_within(deadline::RECOVERY, "the lane goes on", is_next_seen).await;
    let letter = dead_letter(&nats, LANE, bad).await.expect("it was kept before the lane went on");
    assert_eq!(letter.payload.as_ref(), b"bad");
    assert_eq!(header(&nats, bad, dead::CLASS).await, "fatal");
    assert_eq!(header(&nats, bad, dead::ATTEMPTS).await, "5");
    assert_eq!(sixth.all(), [("good".to_owned(), 1)], "nobody is given it a sixth time");
    assert_eq!(seen.tries_of("bad"), [1, 2, 3, 4, 5]);
    assert_eq!(dead_letters(&nats).await, 1);
    lane.stop().await;
}

/// Lets the dead-letter queue take this many bytes, and gives how many it took before.
async fn make_room(nats: &Nats, max_bytes: i64) -> i64 {
    let mut config = nats.admin.get_stream(stream::DLQ).await.unwrap().cached_info().config.clone();
    let before = std::mem::replace(&mut config.max_bytes, max_bytes);
    nats.admin.update_stream(&config).await.unwrap();
    before
}

#[tokio::test]
async fn a_message_that_kills_five_owners_waits_for_room_on_a_full_dlq() {
    let (_broker, nats) = super::prepared().await;
    let bad = publish(&nats, "bad").await;
    publish(&nats, "good").await;
    let seen = Seen::default();
    kill_five_owners(&nats, LANE, &seen).await;
    let room = make_room(&nats, 1).await;
    // Whoever subscribes to the subjects themselves hears what the stream refuses, too.
    let mut refused = nats.client.subscribe(common::subject::DEAD_LETTERS).await.unwrap();
    nats.client.flush().await.unwrap();
    let sixth = Seen::default();
    let lane = Process::start(&nats, LANE, failing(&sixth, Failure::Permanent));
    // It insists, and a lane does not overtake what it could not put aside.
    for _ in 0..3 {
        tokio::time::timeout(deadline::RECOVERY, refused.next()).await.unwrap().unwrap();
    }
    assert_eq!((dead_letters(&nats).await, sixth.count()), (0, 0));
    make_room(&nats, room).await;
    let is_next_seen = async || sixth.count() == 1;
    eventually_within(deadline::RECOVERY, "the lane goes on", is_next_seen).await;
    lane.stop().await;
    assert_eq!(sixth.all(), [("good".to_owned(), 1)], "nobody is given it a sixth time");
    assert_eq!(header(&nats, bad, dead::CLASS).await, "fatal");
    assert_eq!(dead_letters(&nats).await, 1);
}

#[tokio::test]
async fn a_command_that_kills_five_owners_is_taken_off_its_work_queue() {
    let (_broker, nats) = super::prepared().await;
    let spec = stream::DRIVER_COMMANDS;
    let subject = nats.partitions.driver_command(DriverId::fresh());
    let ack = nats.jetstream.publish(subject, "bad".into()).await.unwrap().await.unwrap();
    let seen = Seen::default();
    kill_five_owners(&nats, spec, &seen).await;
    let lane = Process::start(&nats, spec, failing(&Seen::default(), Failure::Permanent));
    let is_kept = async || dead_letter(&nats, spec, ack.sequence).await.is_some();
    eventually_within(deadline::RECOVERY, "it was put aside", is_kept).await;
    eventually("the work queue is empty", async || {
        let mut queue = nats.admin.get_stream(stream::DRIVER_CMD).await.unwrap();
        queue.info().await.unwrap().state.messages == 0
    })
    .await;
    lane.stop().await;
}
