//! The streams and consumers on which both brokers are tried: small limits, so that chance meets them.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, PriorityPolicy, pull},
    stream::{Config, DiscardPolicy, Republish, RetentionPolicy, StorageType},
};

pub(crate) const EVENTS: &str = "EVENTS";
pub(crate) const QUEUE: &str = "QUEUE";
pub(crate) const NEW: &str = "NEW";
pub(crate) const PER: &str = "PER";
pub(crate) const OLD: &str = "OLD";
pub(crate) const SHORT: &str = "SHORT";

/// Longer than any run: what comes of it has episodes of its own.
const NEVER: Duration = Duration::from_secs(3_600);
/// The wait for an ack that an episode waits out.
pub(crate) const ACK_WAIT: Duration = Duration::from_millis(300);
/// The pin that an episode lets lapse.
pub(crate) const PIN_TIMEOUT: Duration = Duration::from_millis(400);
/// The duplicate window that an episode waits out.
pub(crate) const WINDOW: Duration = Duration::from_millis(500);
pub(crate) const GROUP: &str = "owner";

fn stream(name: &str, subjects: &[&str]) -> Config {
    Config {
        name: name.to_owned(),
        subjects: subjects.iter().map(ToString::to_string).collect(),
        storage: StorageType::File,
        allow_direct: true,
        ..Config::default()
    }
}

pub(crate) fn streams() -> Vec<Config> {
    vec![
        Config {
            allow_message_schedules: true,
            allow_message_ttl: true,
            republish: Some(Republish {
                source: "e.event.>".to_owned(),
                destination: "live.e.event.>".to_owned(),
                headers_only: false,
            }),
            ..stream(EVENTS, &["e.event.>", "e.timer.>", "e.due.>"])
        },
        Config {
            retention: RetentionPolicy::WorkQueue,
            discard: DiscardPolicy::New,
            max_messages: 6,
            allow_message_ttl: true,
            ..stream(QUEUE, &["q.>"])
        },
        Config { discard: DiscardPolicy::New, max_bytes: 1_500, ..stream(NEW, &["n.>"]) },
        Config {
            discard: DiscardPolicy::New,
            discard_new_per_subject: true,
            max_messages_per_subject: 2,
            ..stream(PER, &["p.>"])
        },
        Config {
            discard: DiscardPolicy::Old,
            max_messages: 7,
            max_messages_per_subject: 3,
            max_bytes: 1_200,
            ..stream(OLD, &["o.>"])
        },
        Config { allow_message_ttl: true, duplicate_window: WINDOW, ..stream(SHORT, &["s.>"]) },
    ]
}

/// A consumer and its stream.
#[derive(Debug, Clone)]
pub(crate) struct Reads {
    pub(crate) stream: &'static str,
    pub(crate) name: &'static str,
    pub(crate) config: pull::Config,
}

fn reads(stream: &'static str, name: &'static str, filters: &[&str]) -> Reads {
    Reads {
        stream,
        name,
        config: pull::Config {
            durable_name: Some(name.to_owned()),
            filter_subjects: filters.iter().map(ToString::to_string).collect(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: NEVER,
            max_deliver: -1,
            deliver_policy: DeliverPolicy::All,
            ..pull::Config::default()
        },
    }
}

fn pinned(reads: Reads, timeout: Duration) -> Reads {
    let config = pull::Config {
        max_ack_pending: 1,
        priority_policy: PriorityPolicy::PinnedClient,
        priority_groups: vec![GROUP.to_owned()],
        priority_timeout: timeout,
        ..reads.config
    };
    Reads { config, ..reads }
}

fn with(reads: Reads, ack_wait: Duration, max_ack_pending: i64) -> Reads {
    Reads { config: pull::Config { ack_wait, max_ack_pending, ..reads.config }, ..reads }
}

/// Where the consumers of episodes are in [`consumers`].
pub(crate) const PINNED: usize = 6;
pub(crate) const SHORT_WAIT: usize = 7;
pub(crate) const SHORT_NAK: usize = 8;
pub(crate) const SHORT_PIN: usize = 9;

pub(crate) fn consumers() -> Vec<Reads> {
    vec![
        with(reads(EVENTS, "work", &["e.event.>"]), NEVER, 5),
        reads(EVENTS, "narrow", &["e.event.a", "e.due.>"]),
        reads(EVENTS, "of-b", &["e.event.b"]),
        reads(QUEUE, "queue-a", &["q.a.>"]),
        reads(QUEUE, "queue-b", &["q.b.>"]),
        reads(OLD, "old", &[]),
        pinned(reads(EVENTS, "pinned", &["e.event.>"]), NEVER),
        with(reads(SHORT, "short-wait", &["s.wait"]), ACK_WAIT, 0),
        reads(SHORT, "short-nak", &["s.nak"]),
        pinned(reads(SHORT, "short-pin", &["s.pin"]), PIN_TIMEOUT),
    ]
}

/// Consumers that somebody may try to make later: some exist so already, some must not.
pub(crate) fn late_consumers() -> Vec<Reads> {
    vec![
        reads(QUEUE, "queue-a", &["q.a.>"]),
        reads(QUEUE, "overlapping", &["q.a.1"]),
        reads(QUEUE, "overlapping-too", &["q.*.1"]),
        reads(QUEUE, "greedy", &[]),
        reads(QUEUE, "free", &["q.c.>"]),
        reads(EVENTS, "clashing", &["e.event.>", "e.event.a"]),
        reads(EVENTS, "outside", &["x.>"]),
        reads(EVENTS, "late", &["e.due.>"]),
        Reads {
            config: pull::Config {
                deliver_policy: DeliverPolicy::New,
                ..reads(QUEUE, "only-new", &["q.d.>"]).config
            },
            ..reads(QUEUE, "only-new", &["q.d.>"])
        },
        Reads {
            config: pull::Config {
                deliver_policy: DeliverPolicy::New,
                ..reads(EVENTS, "from-now", &["e.event.>"]).config
            },
            ..reads(EVENTS, "from-now", &["e.event.>"])
        },
    ]
}

/// Streams that somebody may try to make later.
pub(crate) fn late_streams() -> Vec<Config> {
    vec![
        // Error 10052: a timer that cannot be stored when it fires would be lost.
        Config {
            allow_message_schedules: true,
            discard: DiscardPolicy::New,
            ..stream("TIMERS", &["t.>"])
        },
        stream("OVERLAPPING", &["e.event.a"]),
        Config { max_messages: 99, ..stream(OLD, &["o.>"]) },
        stream("LATE", &["l.>"]),
        Config {
            discard: DiscardPolicy::New,
            discard_new_per_subject: true,
            ..stream("UNLIMITED", &["u.>"])
        },
    ]
}
