//! What the simulated broker promises beyond what can be compared with a real one: crashes, lost
//! tails, a full account, and that the system's own streams can be made on it.

use std::time::Duration;

use async_nats::{HeaderMap, header, jetstream::AckKind};
use common::{
    clock::Timestamp,
    stream::{DRIVER_CMD, TRIP, TRIP_PROCESS},
    subject::Partitions,
};

use super::{Delivery, Down, Options, Output, Pull, Reader, SimJetStream};

const T0: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn system(options: Options) -> SimJetStream {
    let mut broker = SimJetStream::new(options);
    broker.provision(T0, Partitions::default()).expect("the system's own streams");
    broker
}

fn event(broker: &mut SimJetStream, now: Timestamp, subject: &str) -> u64 {
    broker.publish(now, subject, HeaderMap::new(), "x".into()).expect("stored").sequence
}

fn timer(broker: &mut SimJetStream, now: Timestamp, at: Timestamp) {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_SCHEDULE, format!("@at {at}"));
    headers.insert(header::NATS_SCHEDULE_TARGET, "trip.due.0.x");
    broker.publish(now, "trip.timer.0.x.1", headers, "x".into()).expect("stored");
}

fn owner(reader: u64) -> Pull {
    Pull {
        reader: Reader(reader),
        batch: 16,
        expires: Some(SECOND),
        no_wait: false,
        group: Some(common::stream::OWNER_GROUP.to_owned()),
        pin: None,
    }
}

fn deliveries(broker: &mut SimJetStream) -> Vec<Delivery> {
    let outputs = broker.take_outputs().into_iter();
    outputs
        .filter_map(|output| match output {
            Output::Delivered(delivery) => Some(delivery),
            Output::PullEnded { .. } | Output::Republished { .. } => None,
        })
        .collect()
}

#[test]
fn a_timer_missed_while_the_broker_was_down_fires_after_it_started() {
    let mut broker = system(Options::default());
    timer(&mut broker, T0, T0.plus(SECOND));
    broker.go_down(T0, Down::Killed);
    let later = T0.plus(60 * SECOND);
    assert_eq!(broker.next_wake(), None);
    broker.start(later);
    broker.advance(later.plus(SECOND));
    let fired = broker.last(TRIP, "trip.due.>").unwrap().expect("it fired");
    assert!(later < fired.published && fired.published < later.plus(SECOND));
    assert_eq!(broker.stream_state(TRIP).unwrap().messages, 1, "the schedule ended with it");
}

#[test]
fn in_a_full_account_a_due_timer_waits_for_the_next_start() {
    let mut broker = system(Options::default());
    timer(&mut broker, T0, T0.plus(SECOND));
    broker.set_max_file_bytes(Some(0));
    broker.advance(T0.plus(2 * SECOND));
    broker.set_max_file_bytes(None);
    broker.advance(T0.plus(60 * SECOND));
    assert!(broker.last(TRIP, "trip.due.>").unwrap().is_none(), "nobody tries again");
    broker.go_down(T0.plus(61 * SECOND), Down::Stopped);
    broker.start(T0.plus(62 * SECOND));
    broker.advance(T0.plus(63 * SECOND));
    assert!(broker.last(TRIP, "trip.due.>").unwrap().is_some());
}

#[test]
fn delivery_counts_survive_a_crash_and_an_ack_of_the_last_moment_may_not() {
    let mut broker = system(Options::default());
    event(&mut broker, T0, "trip.event.0.x");
    let lane = TRIP_PROCESS.durable(0);
    broker.pull(T0, TRIP, &lane, &owner(1)).unwrap();
    let first = deliveries(&mut broker).remove(0);
    let acked = T0.plus(SECOND);
    broker.answer(acked, TRIP, &lane, first.receipt, AckKind::Progress).unwrap();
    broker.answer(acked, TRIP, &lane, first.receipt, AckKind::Ack).unwrap();
    broker.go_down(acked, Down::Killed);
    broker.start(acked);
    broker.pull(acked, TRIP, &lane, &owner(2)).unwrap();
    broker.advance(acked.plus(3 * SECOND));
    broker.pull(acked.plus(3 * SECOND), TRIP, &lane, &owner(2)).unwrap();
    let second = deliveries(&mut broker).remove(0);
    assert_eq!((second.receipt.sequence, second.receipt.attempt), (first.receipt.sequence, 2));
}

#[test]
fn only_the_stream_that_is_not_synced_loses_its_tail_with_the_machine() {
    let mut broker = system(Options::default());
    for _ in 0..3 {
        event(&mut broker, T0, "ping.0");
        event(&mut broker, T0, "trip.event.0.x");
    }
    broker.go_down(T0, Down::PowerLost { unsynced: 2 });
    broker.start(T0);
    assert_eq!(broker.stream_state(common::stream::PINGS).unwrap().last_sequence, 1);
    assert_eq!(broker.stream_state(TRIP).unwrap().last_sequence, 3);
}

#[test]
fn a_command_that_was_acked_is_gone() {
    let mut broker = system(Options::default());
    event(&mut broker, T0, "driver.command.0.d");
    let lane = common::stream::DRIVER_COMMANDS.durable(0);
    broker.pull(T0, DRIVER_CMD, &lane, &owner(1)).unwrap();
    let delivery = deliveries(&mut broker).remove(0);
    broker.answer(T0, DRIVER_CMD, &lane, delivery.receipt, AckKind::Ack).unwrap();
    assert_eq!(broker.stream_state(DRIVER_CMD).unwrap().messages, 0);
}
