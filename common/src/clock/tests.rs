//! Skewed clocks, slow answers and messages that travel in any order.

use super::{Clock, Hlc, Timestamp, machine_time};
use proptest::prelude::{
    ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

const BROKER_US: i64 = 1_767_225_600_000_000;
const MINUTES_5_US: i64 = 300_000_000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn by_hand(at_us: i64) -> (Clock, Arc<AtomicI64>) {
    let machine = Arc::new(AtomicI64::new(at_us));
    (Clock::by_hand(Arc::clone(&machine)), machine)
}

#[test]
fn a_time_reads_as_rfc_3339_and_back() {
    let at = Timestamp::from_micros(1_767_225_600_123_456);
    assert_eq!(at.to_string(), "2026-01-01T00:00:00.123456Z");
    assert_eq!(at.to_string().parse(), Ok(at));
}

#[test]
fn a_machine_five_minutes_off_has_the_brokers_time_after_one_answer() {
    for wrong_by in [-MINUTES_5_US, MINUTES_5_US] {
        let (clock, _) = by_hand(BROKER_US + wrong_by);
        clock.observe(Timestamp::from_micros(BROKER_US), Duration::ZERO);
        assert_eq!(clock.now(), Timestamp::from_micros(BROKER_US));
    }
}

#[test]
fn a_slow_answer_moves_nothing() {
    let (clock, machine) = by_hand(BROKER_US);
    clock.observe(Timestamp::from_micros(BROKER_US), ms(1));
    let before = clock.offset_us();
    for _ in 0..7 {
        let now = machine.fetch_add(5_000_000, Ordering::Relaxed) + 5_000_000;
        // All of the two seconds passed on the way back: it looks as if the broker were a second
        // ahead.
        clock.observe(Timestamp::from_micros(now), ms(2_000));
        assert_eq!(clock.offset_us(), before);
    }
}

#[test]
fn a_slow_first_answer_is_forgotten_with_the_first_quick_one() {
    let (clock, _) = by_hand(BROKER_US);
    clock.observe(Timestamp::from_micros(BROKER_US), ms(3_000));
    assert_eq!(clock.offset_us(), 1_500_000);
    clock.observe(Timestamp::from_micros(BROKER_US), ms(2));
    assert_eq!(clock.offset_us(), 1_000);
}

#[test]
fn a_broker_whose_clock_was_set_is_followed_at_once() {
    let (clock, _) = by_hand(BROKER_US);
    clock.observe(Timestamp::from_micros(BROKER_US), ms(1));
    clock.observe(Timestamp::from_micros(BROKER_US - 3_600_000_000), ms(40));
    assert_eq!(clock.offset_us(), -3_600_000_000 + 20_000);
}

#[test]
fn this_machine_counts_steadily() {
    let before = machine_time();
    assert!(machine_time() >= before);
}

#[test]
fn what_follows_a_message_is_ordered_after_it() {
    let (here, there) = (Clock::new(), Clock::new());
    let first = there.tick();
    here.merge(first);
    assert!(here.tick() > first);
}

#[test]
fn a_message_from_more_than_a_minute_ahead_is_counted_and_drags_nothing_along() {
    let (clock, _) = by_hand(BROKER_US);
    clock.observe(Timestamp::from_micros(BROKER_US), Duration::ZERO);
    let millis = BROKER_US / 1000;
    clock.merge(Hlc { millis: millis + 60_001, counter: 0 });
    assert_eq!(clock.refused(), 1);
    assert_eq!(clock.tick(), Hlc { millis, counter: 0 });
    clock.merge(Hlc { millis: millis + 60_000, counter: 7 });
    assert_eq!(clock.refused(), 1);
    assert_eq!(clock.tick(), Hlc { millis: millis + 60_000, counter: 8 });
    assert_eq!(clock.drift(), Duration::from_secs(60));
}

#[test]
fn a_machine_five_minutes_ahead_that_speaks_before_it_was_told_the_time_is_not_ahead_of_anybody() {
    let (clock, _) = by_hand(BROKER_US + MINUTES_5_US);
    let early = clock.tick();
    assert!(clock.tick() > early);
    clock.observe(Timestamp::from_micros(BROKER_US), Duration::ZERO);
    assert_eq!(clock.tick(), Hlc { millis: BROKER_US / 1000, counter: 0 });
}

#[test]
fn a_counter_that_is_used_up_goes_on_in_the_next_millisecond() {
    let (clock, _) = by_hand(BROKER_US);
    clock.observe(Timestamp::from_micros(BROKER_US), Duration::ZERO);
    let last = Hlc { millis: BROKER_US / 1000, counter: u32::MAX };
    clock.merge(last);
    assert!(clock.tick() > last);
}

#[test]
fn a_logical_time_survives_its_text() {
    let hlc = Hlc { millis: 1_767_225_600_123, counter: 9 };
    assert_eq!(hlc.to_string().parse(), Ok(hlc));
}

const NODES: usize = 5;

/// What happens next, in a group of machines with clocks of their own.
#[derive(Debug, Clone)]
enum Step {
    /// Time passes: milliseconds.
    Pass(i64),
    /// One machine sends; the message may stay on its way for long.
    Send(usize),
    /// One machine receives any of the messages that were sent, perhaps not the first time.
    Receive(usize, usize),
    /// One machine hears the broker's time, over this many milliseconds, of which this share (per
    /// cent) passed on the way there.
    Ask(usize, u64, i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_i64..500).prop_map(Step::Pass),
        (0..NODES).prop_map(Step::Send),
        ((0..NODES), any::<usize>()).prop_map(|(node, which)| Step::Receive(node, which)),
        ((0..NODES), 0_u64..4_000, 0_i64..=100)
            .prop_map(|(node, ms, there)| { Step::Ask(node, ms, there) }),
    ]
}

/// A machine: its count, its pace, its clock, and the latest logical time that it knows of.
struct Node {
    machine: Arc<AtomicI64>,
    pace_ppm: i64,
    clock: Clock,
    known: Hlc,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Whatever the machines' clocks say and however the messages travel: what follows from a
    /// message is ordered after it, and nobody gets far ahead of the broker.
    #[test]
    fn causes_come_before_their_effects(
        skews in proptest::collection::vec((-300_i64..=300, -100_i64..=100), NODES),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut broker_us = BROKER_US;
        let mut nodes: Vec<Node> = skews.into_iter().map(|(wrong_s, pace_ppm)| {
            let (clock, machine) = by_hand(BROKER_US + wrong_s * 1_000_000);
            clock.observe(Timestamp::from_micros(BROKER_US), ms(20));
            Node { machine, pace_ppm, clock, known: Hlc::default() }
        }).collect();
        let mut sent: Vec<Hlc> = Vec::new();
        for step in steps {
            match step {
                Step::Pass(millis) => {
                    broker_us += millis * 1000;
                    for node in &nodes {
                        let counted = millis * 1000 + millis * node.pace_ppm / 1000;
                        node.machine.fetch_add(counted, Ordering::Relaxed);
                    }
                }
                Step::Send(at) => {
                    let node = &mut nodes[at];
                    let hlc = node.clock.tick();
                    prop_assert!(hlc > node.known, "{hlc} after {}", node.known);
                    node.known = hlc;
                    sent.push(hlc);
                }
                Step::Receive(at, which) => {
                    let Some(&hlc) = sent.get(which % sent.len().max(1)) else { continue };
                    let node = &mut nodes[at];
                    node.clock.merge(hlc);
                    node.known = node.known.max(hlc);
                }
                Step::Ask(at, millis, there) => {
                    let on_its_way_back = i64::try_from(millis).unwrap() * 1000 * (100 - there) / 100;
                    let said = Timestamp::from_micros(broker_us - on_its_way_back);
                    nodes[at].clock.observe(said, ms(millis));
                }
            }
        }
        for node in &nodes {
            prop_assert_eq!(node.clock.refused(), 0);
            let ahead_us = node.clock.now().micros() - broker_us;
            prop_assert!(ahead_us.abs() < 100_000, "{} us", ahead_us);
        }
    }

    /// A machine whose clock is set forth and back in between never goes backwards itself.
    #[test]
    fn jumps_of_a_clock_never_turn_logical_time_back(
        jumps in proptest::collection::vec(-MINUTES_5_US..=MINUTES_5_US, 1..50),
    ) {
        let (clock, machine) = by_hand(BROKER_US);
        clock.observe(Timestamp::from_micros(BROKER_US), Duration::ZERO);
        let mut before = clock.tick();
        for jump in jumps {
            machine.fetch_add(jump, Ordering::Relaxed);
            let next = clock.tick();
            prop_assert!(next > before, "{next} after {before}");
            before = next;
        }
    }
}
