//! One durable pull consumer with explicit acks: what it has handed out, how often, and to whom it
//! hands out what. The order in which it does things is the real server's.

mod deliver;
mod settle;
mod state;
mod waiting;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PriorityPolicy, pull};
use common::clock::Timestamp;

pub use state::ConsumerState;
use state::Saved;
pub use waiting::Pull;
use waiting::{Pinned, Waiting};

use super::{
    Effects,
    answer::{Message, Refused, code},
    log::Log,
    stream::Stream,
    subject,
};

const ACK_WAIT: Duration = Duration::from_secs(30);
const ACK_PENDING_MAX: i64 = 1_000;
const WAITING_MAX: usize = 512;
const PIN_TIMEOUT: Duration = Duration::from_secs(120);
/// The server looks at unanswered messages this much later than it has to, so that those which were
/// handed out together come back together.
const CHECK_SLACK: Duration = Duration::from_millis(1);

/// A message that was handed out and not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    /// Which delivery of the consumer its first one was.
    delivered: u64,
    /// When it comes back.
    deadline: Timestamp,
}

/// A place in the consumer's own count and in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Deliveries.
    pub consumer: u64,
    /// Sequences.
    pub stream: u64,
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) config: pull::Config,
    name: String,
    stream: String,
    filters: Vec<String>,
    ack_wait: Duration,
    ack_pending_max: Option<usize>,
    pin_timeout: Option<Duration>,
    /// The stream's next sequence to look at.
    next: u64,
    /// The number of the next delivery.
    next_delivery: u64,
    ack_floor: Place,
    pending: BTreeMap<u64, Pending>,
    /// How often a message was handed out again.
    again: BTreeMap<u64, u64>,
    /// What is to be handed out again.
    queue: VecDeque<u64>,
    /// How many messages it has not read yet.
    unread: u64,
    /// Up to here messages are in that number.
    counted: u64,
    check_at: Option<Timestamp>,
    waiting: VecDeque<Waiting>,
    pin: Option<Pinned>,
    saved: Saved,
}

impl Consumer {
    pub(super) fn new(
        now: Timestamp,
        config: &pull::Config,
        stream: &Stream,
    ) -> Result<Self, Refused> {
        let filters = filters(config);
        check(config, &filters, stream)?;
        let log = &stream.log;
        let next = match config.deliver_policy {
            DeliverPolicy::New => log.last() + 1,
            DeliverPolicy::ByStartSequence { start_sequence } => start_sequence,
            _ => log.first(),
        };
        let is_pinned = config.priority_policy == PriorityPolicy::PinnedClient;
        let pin_timeout =
            if config.priority_timeout.is_zero() { PIN_TIMEOUT } else { config.priority_timeout };
        let ack_pending_max =
            if config.max_ack_pending == 0 { ACK_PENDING_MAX } else { config.max_ack_pending };
        let mut consumer = Self {
            name: name(config)?,
            stream: stream.config.name.clone(),
            ack_wait: if config.ack_wait.is_zero() { ACK_WAIT } else { config.ack_wait },
            ack_pending_max: usize::try_from(ack_pending_max).ok(),
            pin_timeout: is_pinned.then_some(pin_timeout),
            next,
            next_delivery: 1,
            ack_floor: Place { consumer: 0, stream: next - 1 },
            pending: BTreeMap::new(),
            again: BTreeMap::new(),
            queue: VecDeque::new(),
            unread: 0,
            counted: 0,
            check_at: None,
            waiting: VecDeque::new(),
            pin: None,
            saved: Saved::starting(now, next - 1),
            config: config.clone(),
            filters,
        };
        consumer.count_unread(log);
        Ok(consumer)
    }

    fn count_unread(&mut self, log: &Log) {
        let unread = log.range(self.next..).filter(|message| self.reads(&message.subject)).count();
        self.unread = u64::try_from(unread).unwrap_or(u64::MAX);
        self.counted = log.last();
    }

    fn reads(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|it| subject::matches(it, name))
    }

    fn overlaps(&self, filters: &[String]) -> bool {
        self.filters.iter().any(|mine| filters.iter().any(|theirs| subject::overlap(mine, theirs)))
    }

    /// A message was stored.
    pub(super) fn stored(
        &mut self,
        now: Timestamp,
        message: &Message,
        log: &Log,
        effects: &mut Effects,
    ) {
        if !self.reads(&message.subject) {
            return;
        }
        if self.counted < message.sequence {
            self.unread += 1;
        }
        if self.next <= message.sequence && !self.waiting.is_empty() {
            self.deliver(now, log, effects);
        }
    }

    /// A message went: by a limit, by its age, by an ack of a work queue.
    pub(super) fn removed(
        &mut self,
        now: Timestamp,
        message: &Message,
        log: &Log,
        effects: &mut Effects,
    ) {
        self.uncount(message.sequence, &message.subject);
        self.let_go(now, message.sequence, log, effects);
    }

    /// A message that it may not have read is gone. Where a purge found only one, the server takes
    /// the purge's filter for the message's subject.
    pub(super) fn uncount(&mut self, sequence: u64, subject: &str) {
        let is_read = self.filters.is_empty()
            || self.filters.iter().any(|mine| subject::is_subset(subject, mine));
        if self.next <= sequence && is_read {
            self.unread = self.unread.saturating_sub(1);
        }
    }

    /// A message that it may have in hand is gone.
    pub(super) fn let_go(
        &mut self,
        now: Timestamp,
        sequence: u64,
        log: &Log,
        effects: &mut Effects,
    ) {
        if self.pending.contains_key(&sequence) {
            self.settle(now, sequence, log, effects);
        }
    }

    /// Several messages were purged: it counts anew what it has not read.
    pub(super) fn recount(&mut self, log: &Log) {
        self.count_unread(log);
    }

    /// The messages that are handed out and not answered.
    pub(super) fn in_hand(&self) -> impl Iterator<Item = u64> {
        self.pending.keys().copied()
    }

    /// A purge was asked for. What was to be handed out again is forgotten until its wait is over,
    /// whether it was purged or not; and nobody is woken, so that the next message waits for the
    /// next pull or publish.
    pub(super) fn purged(&mut self, now: Timestamp, filter: &str, log: &Log) {
        let is_covered = |mine: &String| mine == filter || subject::is_subset(mine, filter);
        let is_touched = |mine: &String| subject::overlap(mine, filter);
        if !self.filters.is_empty() && self.filters.iter().all(is_covered) {
            let first_left = log.sequences(filter).first().copied();
            self.forget(now, first_left.unwrap_or(log.last() + 1), None);
        } else if self.filters.is_empty() || self.filters.iter().any(is_touched) {
            self.forget(now, log.first(), Some(log));
        }
    }

    fn forget(&mut self, now: Timestamp, start: u64, part_of: Option<&Log>) {
        self.next = self.next.max(start);
        if self.ack_floor.stream < start {
            let floor = start.saturating_sub(1);
            self.ack_floor.stream = floor;
            let is_gone = |sequence: &u64| {
                *sequence <= floor || part_of.is_some_and(|log| log.get(*sequence).is_none())
            };
            let gone: Vec<u64> = self.pending.keys().copied().filter(is_gone).collect();
            for sequence in gone {
                if let Some(pending) = self.pending.remove(&sequence) {
                    self.ack_floor.consumer = self.ack_floor.consumer.max(pending.delivered);
                    self.ack_floor.stream = self.ack_floor.stream.max(sequence);
                }
                self.again.remove(&sequence);
            }
        }
        if self.pending.is_empty() {
            self.again.clear();
            self.ack_floor = Place { consumer: self.next_delivery - 1, stream: self.next - 1 };
        }
        let next = self.next;
        self.queue.retain(|sequence| next <= *sequence);
        self.save_all(now);
    }

    /// When it has to do something next without being asked.
    pub(super) fn wakes_at(&self) -> Option<Timestamp> {
        let pull_ends = self.waiting.iter().filter_map(|waiting| waiting.expires).min();
        let pin_ends = self.pin.map(|pin| pin.until);
        [self.check_at, pull_ends, pin_ends, self.saved.flush_at()].into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub(super) fn wake(&mut self, now: Timestamp, log: &Log, effects: &mut Effects) {
        self.saved.flush_if_due(now);
        if self.check_at.is_some_and(|at| at <= now) {
            self.check_pending(now, log, effects);
        }
        if self.pin.is_some_and(|pin| pin.until <= now) {
            self.pin = None;
            self.deliver(now, log, effects);
        }
        if self.waiting.iter().any(|waiting| waiting.is_over(now)) {
            self.end_pulls(now, true, effects);
            self.deliver(now, log, effects);
        }
    }
}

fn name(config: &pull::Config) -> Result<String, Refused> {
    let name = config.durable_name.clone().or_else(|| config.name.clone());
    name.ok_or_else(|| Refused::not_modelled("consumers without a name"))
}

fn filters(config: &pull::Config) -> Vec<String> {
    if config.filter_subject.is_empty() {
        config.filter_subjects.clone()
    } else {
        vec![config.filter_subject.clone()]
    }
}

fn check(config: &pull::Config, filters: &[String], stream: &Stream) -> Result<(), Refused> {
    let is_known = matches!(
        config.deliver_policy,
        DeliverPolicy::All | DeliverPolicy::New | DeliverPolicy::ByStartSequence { .. }
    );
    let is_plain = config.backoff.is_empty() && config.rate_limit == 0 && !config.headers_only;
    let is_queue = stream.is_work_queue();
    if is_queue && config.ack_policy != AckPolicy::Explicit {
        let why = "workqueue stream requires explicit ack";
        return Err(Refused::new(code::QUEUE_WITHOUT_ACK, why));
    }
    if config.ack_policy != AckPolicy::Explicit || !is_known || !is_plain || config.max_deliver > 0
    {
        return Err(Refused::not_modelled("this kind of consumer"));
    }
    if config.priority_policy != PriorityPolicy::None
        && config.priority_policy != PriorityPolicy::PinnedClient
    {
        return Err(Refused::not_modelled("this priority policy"));
    }
    let clash = |(at, one): (usize, &String)| {
        filters.iter().skip(at + 1).any(|other| subject::overlap(one, other))
    };
    if filters.iter().enumerate().any(clash) {
        let why = "consumer subject filters cannot overlap";
        return Err(Refused::new(code::FILTERS_OVERLAP, why));
    }
    if is_queue {
        check_queue(config, filters, stream)?;
    }
    Ok(())
}

/// A command has one handler: on a work queue no two consumers may read the same subject.
fn check_queue(config: &pull::Config, filters: &[String], stream: &Stream) -> Result<(), Refused> {
    let others = || stream.consumers.values();
    if filters.is_empty() && others().next().is_some()
        || others().any(|other| other.filters.is_empty())
    {
        let why = "multiple non-filtered consumers not allowed on workqueue stream";
        return Err(Refused::new(code::QUEUE_UNFILTERED, why));
    }
    if others().any(|other| other.overlaps(filters)) {
        let why = "filtered consumer not unique on workqueue stream";
        return Err(Refused::new(code::QUEUE_OVERLAP, why));
    }
    if config.deliver_policy != DeliverPolicy::All {
        let why = "consumer must be deliver all on workqueue stream";
        return Err(Refused::new(code::QUEUE_NOT_ALL, why));
    }
    Ok(())
}
