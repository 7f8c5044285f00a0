//! Every message that a durable consumer reads is handled, or exactly once in the dead-letter queue;
//! and there is only what was made to fail. Nothing was tried more often than allowed.

use std::collections::{BTreeMap, BTreeSet};

use common::{stream::TRIES_MAX, subject};

use super::count;
use crate::audit::{
    broker::{BrokerEvidence, DeadLetter, Original},
    evidence::Evidence,
    sources::Poison,
    violation::{MessageViolation, Violation},
};

/// Consumer, stream, sequence.
type Name<'a> = (&'a str, &'a str, u64);

pub(super) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let Some(broker) = &evidence.broker else { return 0 };
    let dead: BTreeSet<Name<'_>> = broker.dead.iter().map(name).collect();
    check_consumers(broker, &dead, found);
    for message in &broker.left {
        let is_dead = broker.dead.iter().any(|letter| {
            (letter.stream.as_str(), letter.of) == (&message.stream, message.sequence)
        });
        if !is_dead {
            let (stream, sequence) = (message.stream.clone(), message.sequence);
            let subject = message.subject.clone();
            found.push(MessageViolation::LeftInQueue { stream, sequence, subject }.into());
        }
    }
    check_letters(broker, &evidence.poison, found);
    count(broker.consumers.len() + broker.dead.len() + broker.left.len())
}

/// The loops count deliveries, and the broker gives every message for as long as it is not answered:
/// what was tried too often says so in its letter, and a consumer that is set otherwise counts otherwise.
pub(super) fn tries(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let Some(broker) = &evidence.broker else { return 0 };
    let tries_max = u64::try_from(TRIES_MAX).unwrap_or(u64::MAX);
    for state in &broker.consumers {
        for setting in state.differs.clone() {
            let (consumer, stream) = (state.consumer.clone(), state.stream.clone());
            found.push(MessageViolation::SetOtherwise { consumer, stream, setting }.into());
        }
    }
    for letter in broker.dead.iter().filter(|letter| letter.attempts > tries_max) {
        let (consumer, stream) = (letter.consumer.clone(), letter.stream.clone());
        let (sequence, tries) = (letter.of, letter.attempts);
        found.push(
            MessageViolation::TriedTooOften { consumer, stream, sequence, tries, tries_max }.into(),
        );
    }
    count(broker.consumers.len() + broker.dead.len())
}

fn name(letter: &DeadLetter) -> Name<'_> {
    (&letter.consumer, &letter.stream, letter.of)
}

fn check_consumers(broker: &BrokerEvidence, dead: &BTreeSet<Name<'_>>, found: &mut Vec<Violation>) {
    for state in &broker.consumers {
        let (consumer, stream) = (state.consumer.clone(), state.stream.clone());
        let (pending, unanswered) = (state.pending, state.unanswered);
        if pending > 0 || unanswered > 0 {
            let (consumer, stream) = (consumer.clone(), stream.clone());
            found
                .push(MessageViolation::Unhandled { consumer, stream, pending, unanswered }.into());
        }
        let skipped = state
            .skipped
            .filter(|sequence| !dead.contains(&(consumer.as_str(), stream.as_str(), *sequence)));
        if let Some(sequence) = skipped {
            found.push(MessageViolation::Lost { consumer, stream, sequence }.into());
        }
    }
}

fn check_letters(broker: &BrokerEvidence, poison: &[Poison], found: &mut Vec<Violation>) {
    let mut letters: BTreeMap<Name<'_>, u64> = BTreeMap::new();
    let mut wanted: BTreeSet<(&str, u64)> =
        poison.iter().map(|it| (it.stream.as_str(), it.sequence)).collect();
    let expected = wanted.clone();
    for letter in &broker.dead {
        if let Some(first) = letters.insert(name(letter), letter.sequence) {
            found.push(
                MessageViolation::DeadTwice {
                    consumer: letter.consumer.clone(),
                    stream: letter.stream.clone(),
                    sequence: letter.of,
                    first,
                    second: letter.sequence,
                }
                .into(),
            );
        }
        if let Some(why) = from_nowhere(broker, letter) {
            found.push(
                MessageViolation::DeadFromNowhere {
                    letter: letter.sequence,
                    consumer: letter.consumer.clone(),
                    stream: letter.stream.clone(),
                    sequence: letter.of,
                    why,
                }
                .into(),
            );
            continue;
        }
        wanted.remove(&(letter.stream.as_str(), letter.of));
        if !expected.contains(&(letter.stream.as_str(), letter.of)) && !letter.is_handled {
            found.push(unexpected(letter));
        }
    }
    found.extend(wanted.into_iter().map(|(stream, sequence)| {
        let stream = stream.to_owned();
        Violation::from(MessageViolation::PoisonNotDead { stream, sequence })
    }));
}

/// Why it cannot be a letter of that message.
fn from_nowhere(broker: &BrokerEvidence, letter: &DeadLetter) -> Option<String> {
    let named = subject::dead_letter(&letter.consumer, &letter.stream, letter.of);
    let reads = |state: &&crate::audit::ConsumerState| state.consumer == letter.consumer;
    match broker.consumers.iter().find(reads) {
        _ if named != letter.letter => Some(format!("its subject is `{}`", letter.letter)),
        None => Some("there is no such consumer".to_owned()),
        Some(state) if state.stream != letter.stream => {
            Some(format!("that consumer reads {}", state.stream))
        }
        Some(_) => match letter.original {
            Original::Same | Original::Gone => None,
            Original::Other => Some("the stream has another message there".to_owned()),
            Original::Never => Some("the stream never had such a message".to_owned()),
        },
    }
}

fn unexpected(letter: &DeadLetter) -> Violation {
    MessageViolation::DeadUnexpected {
        letter: letter.sequence,
        consumer: letter.consumer.clone(),
        stream: letter.stream.clone(),
        sequence: letter.of,
        subject: letter.subject.clone(),
        attempts: letter.attempts,
        error: letter.error.clone(),
    }
    .into()
}
