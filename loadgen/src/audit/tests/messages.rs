//! What consumers, the dead-letter queue and the broker say.

use common::subject;

use super::town::Town;
use crate::audit::{
    BrokerEvidence, ConsumerState, DeadLetter, Left, MessageViolation, Original, Poison, Violation,
};

const CONSUMER: &str = "trip-process-3";

fn at_rest() -> Town {
    let mut town = Town::with_a_ride();
    let consumer = ConsumerState {
        consumer: CONSUMER.to_owned(),
        stream: "TRIP".to_owned(),
        ..ConsumerState::default()
    };
    town.evidence.broker =
        Some(BrokerEvidence { consumers: vec![consumer], ..BrokerEvidence::default() });
    town
}

fn broker(town: &mut Town) -> &mut BrokerEvidence {
    town.evidence.broker.as_mut().unwrap()
}

fn letter(of: u64) -> DeadLetter {
    DeadLetter {
        sequence: of + 100,
        letter: subject::dead_letter(CONSUMER, "TRIP", of),
        consumer: CONSUMER.to_owned(),
        stream: "TRIP".to_owned(),
        of,
        subject: "trip.event.3.x".to_owned(),
        attempts: 1,
        error: "malformed".to_owned(),
        original: Original::Same,
        is_handled: false,
    }
}

fn poison(sequence: u64) -> Poison {
    Poison { stream: "TRIP".to_owned(), sequence }
}

#[track_caller]
fn message(town: &Town) -> MessageViolation {
    let Violation::Message(found) = town.violation() else { panic!("{:?}", town.violation()) };
    found
}

#[test]
fn consumers_that_are_done_and_poison_that_is_dead_are_no_violation() {
    let mut town = at_rest();
    broker(&mut town).dead.push(letter(7));
    town.evidence.poison.push(poison(7));
    assert_eq!(town.violations(), []);
}

#[test]
fn a_message_that_nobody_handled_is_found() {
    let mut town = at_rest();
    broker(&mut town).consumers[0].pending = 1;
    assert!(matches!(message(&town), MessageViolation::Unhandled { pending: 1, .. }));
    broker(&mut town).consumers[0].pending = 0;
    broker(&mut town).consumers[0].unanswered = 2;
    assert!(matches!(message(&town), MessageViolation::Unhandled { unanswered: 2, .. }));
}

#[test]
fn a_message_that_was_given_up_must_be_in_the_dead_letter_queue() {
    let mut town = at_rest();
    broker(&mut town).consumers[0].skipped = Some(7);
    assert!(matches!(message(&town), MessageViolation::Lost { sequence: 7, .. }));
    broker(&mut town).dead.push(letter(7));
    town.evidence.poison.push(poison(7));
    assert_eq!(town.violations(), []);
}

#[test]
fn a_command_that_is_left_in_its_work_queue_is_found() {
    let mut town = at_rest();
    let left = Left { stream: "DRIVER_CMD".to_owned(), sequence: 4, subject: "x".to_owned() };
    broker(&mut town).left.push(left);
    assert!(matches!(message(&town), MessageViolation::LeftInQueue { sequence: 4, .. }));
}

#[test]
fn a_dead_letter_that_nobody_made_is_found_unless_it_was_handled_since() {
    let mut town = at_rest();
    broker(&mut town).dead.push(letter(7));
    assert!(matches!(message(&town), MessageViolation::DeadUnexpected { sequence: 7, .. }));
    broker(&mut town).dead[0].is_handled = true;
    assert_eq!(town.violations(), []);
}

#[test]
fn a_message_that_died_twice_is_found() {
    let mut town = at_rest();
    town.evidence.poison.push(poison(7));
    broker(&mut town).dead.extend([letter(7), DeadLetter { sequence: 200, ..letter(7) }]);
    assert!(matches!(message(&town), MessageViolation::DeadTwice { second: 200, .. }));
}

#[test]
fn a_dead_letter_of_a_message_that_never_was_is_found() {
    let from_nowhere = |letter: DeadLetter| {
        let mut town = at_rest();
        broker(&mut town).dead.push(letter);
        assert!(matches!(message(&town), MessageViolation::DeadFromNowhere { .. }));
    };
    from_nowhere(DeadLetter { original: Original::Never, ..letter(7) });
    from_nowhere(DeadLetter { original: Original::Other, ..letter(7) });
    from_nowhere(DeadLetter { consumer: "nobody".to_owned(), ..letter(7) });
    from_nowhere(DeadLetter { of: 8, ..letter(7) });
}

#[test]
fn poison_that_nobody_put_aside_is_found() {
    let mut town = at_rest();
    town.evidence.poison.push(poison(7));
    assert!(matches!(message(&town), MessageViolation::PoisonNotDead { sequence: 7, .. }));
}

#[test]
fn six_tries_are_found_and_so_is_a_consumer_that_is_not_set_as_declared() {
    let mut town = at_rest();
    town.evidence.poison.push(poison(7));
    broker(&mut town).dead.push(DeadLetter { attempts: 6, ..letter(7) });
    assert!(matches!(message(&town), MessageViolation::TriedTooOften { tries: 6, .. }));
    broker(&mut town).dead[0].attempts = 5;
    assert_eq!(town.violations(), []);
    broker(&mut town).consumers[0].differs.push("max_deliver: 5 instead of -1".to_owned());
    assert!(matches!(message(&town), MessageViolation::SetOtherwise { .. }));
}
