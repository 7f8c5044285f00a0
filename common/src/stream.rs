//! Every stream and every consumer of the system, and the one function that makes them so.

use std::{future::Future, time::Duration};

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, DeliverPolicy, PriorityPolicy, pull},
    stream::{
        Compression, Config, DiscardPolicy, PersistenceMode, Republish, RetentionPolicy,
        StorageType,
    },
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream::iter};

use crate::subject::{self, Partitions};

/// Frames of pings. The only stream that is not synced before its ack.
pub const PINGS: &str = "PINGS";
/// Durable commands to drivers: a work queue, so a command has one handler.
pub const DRIVER_CMD: &str = "DRIVER_CMD";
/// Driver events, their timers, and what these fire.
pub const DRIVER: &str = "DRIVER";
/// Trip events, their timers, and what these fire.
pub const TRIP: &str = "TRIP";
/// Rider events, written through the outbox.
pub const RIDER: &str = "RIDER";
/// What `location` has counted: one message for each partition.
pub const LOCATION: &str = "LOCATION";
/// Recurring schedules, what they fire, and what came of it.
pub const CRON: &str = "CRON";
/// Full copies of messages that could not be handled.
pub const DLQ: &str = "DLQ";
/// Dead letters on their way back to the consumer that gave them up: a work queue.
pub const REPLAY: &str = "REPLAY";

/// The group whose one member owns a partition's consumer.
pub const OWNER_GROUP: &str = "owner";
/// Tries of one message before it goes to the DLQ. The loops hold it: see `consumer::admit`.
pub const TRIES_MAX: i64 = 5;
/// The broker itself never gives up: what it lets go it can only tell once, to whoever listens.
const UNBOUNDED: i64 = -1;
/// How long the broker waits for an ack; a handler at work says so three times in that time.
pub const ACK_WAIT: Duration = Duration::from_millis(1_500);
/// A silent owner loses its partition after this. Longer than [`ACK_WAIT`], else the next owner
/// would see new messages before the old one's unacknowledged ones.
pub const PIN_TIMEOUT: Duration = Duration::from_millis(2_400);
/// How long one pull waits; a third of [`PIN_TIMEOUT`] at most, or the pin is lost between pulls.
pub const PULL_EXPIRES: Duration = Duration::from_millis(800);
/// Frames in flight to one owner of a partition of pings.
pub const PINGS_IN_FLIGHT: i64 = 256;
/// Messages in flight to all workers of one kind.
pub const WORKER_IN_FLIGHT: i64 = 64;

/// How long a lane's handler may take for one message. Longer is a failure like others, so that a
/// handler that hangs ends after five tries.
pub const LANE_HANDLING_MAX: Duration = Duration::from_secs(30);
/// How long a worker's handler may take: it waits for others.
pub const WORKER_HANDLING_MAX: Duration = Duration::from_secs(60);
/// No handler is given a larger payload. Frames of pings have their own limit.
pub const HANDLED_BYTES_MAX: usize = 256 * 1024;
/// No stream that is read by a consumer takes a larger message, headers included. With the letter's
/// own headers its copy still fits into what a broker takes by default (1 MiB).
const MESSAGE_BYTES_MAX: i32 = 896 * 1024;

/// Consumers that are made at the same time.
const ASKED_AT_ONCE: usize = 16;
/// How long an answer of the broker is waited for before the question is put again.
const PATIENCE: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// How long a rider's events stay on their stream. Shorter than ended trips stay in the log: a
/// request that was read again after its trip is gone would be a ghost.
pub const REQUESTS_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The least time that ended trips, and what drivers did, stay in the log.
pub const FACTS_KEPT_MIN: Duration = Duration::from_secs(8 * 24 * 60 * 60);

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MIB: i64 = 1024 * 1024;

/// Why the broker is not as the system needs it.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The stream exists with settings that cannot be changed in place.
    #[error("stream `{stream}` exists with other settings that cannot be changed in place")]
    Unchangeable {
        /// Which stream.
        stream: String,
        /// What the broker said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The consumer exists with settings that cannot be changed in place.
    #[error("consumer `{consumer}` of `{stream}` cannot be made as it should be")]
    Consumer {
        /// Of which stream.
        stream: String,
        /// Which consumer.
        consumer: String,
        /// What the broker said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// This deployment was made with another number of partitions.
    #[error(
        "stream `{stream}` was made for {found} partitions, not {wanted}: the number is fixed when a deployment is made"
    )]
    OtherPartitions {
        /// Which stream says so.
        stream: String,
        /// How many it was made for.
        found: String,
        /// How many are configured now.
        wanted: Partitions,
    },
}

/// Where a stream keeps how many partitions it was made for.
const PARTITIONS_KEY: &str = "partitions";

fn file(name: &str, subjects: &[&str], partitions: Partitions) -> Config {
    Config {
        name: name.to_owned(),
        subjects: subjects.iter().map(ToString::to_string).collect(),
        storage: StorageType::File,
        allow_direct: true,
        max_message_size: MESSAGE_BYTES_MAX,
        metadata: [(PARTITIONS_KEY.to_owned(), partitions.to_string())].into(),
        ..Config::default()
    }
}

/// Facts with timers: no limit of size or age, because an un-fired timer would silently go first.
fn facts(name: &str, subjects: &[&str], event: &str, partitions: Partitions) -> Config {
    Config {
        allow_message_schedules: true,
        allow_message_ttl: true,
        republish: Some(Republish {
            source: format!("{event}.>"),
            destination: format!("live.{event}.>"),
            headers_only: false,
        }),
        ..file(name, subjects, partitions)
    }
}

/// The settings of every stream.
#[must_use]
pub fn streams(partitions: Partitions) -> Vec<Config> {
    vec![
        Config {
            discard: DiscardPolicy::Old,
            max_age: 10 * MINUTE,
            max_bytes: 512 * MIB,
            compression: Some(Compression::S2),
            persist_mode: Some(PersistenceMode::Async),
            ..file(PINGS, &["ping.*"], partitions)
        },
        Config {
            retention: RetentionPolicy::WorkQueue,
            discard: DiscardPolicy::New,
            max_bytes: 256 * MIB,
            allow_message_ttl: true,
            ..file(DRIVER_CMD, &["driver.command.>"], partitions)
        },
        facts(
            DRIVER,
            &["driver.event.>", "driver.timer.>", "driver.due.>"],
            subject::DRIVER.event,
            partitions,
        ),
        facts(
            TRIP,
            &["trip.event.>", "trip.timer.>", "trip.due.>"],
            subject::TRIP.event,
            partitions,
        ),
        Config {
            discard: DiscardPolicy::New,
            max_bytes: 1024 * MIB,
            max_age: REQUESTS_KEPT,
            ..file(RIDER, &["rider.event.>"], partitions)
        },
        // Synced, unlike the pings: it counts those that a crash took with it.
        Config {
            discard: DiscardPolicy::Old,
            max_bytes: 64 * MIB,
            max_messages_per_subject: 1,
            max_message_size: -1,
            ..file(LOCATION, &["location.counted.*"], partitions)
        },
        Config { allow_message_schedules: true, ..file(CRON, &["cron.>"], partitions) },
        Config {
            discard: DiscardPolicy::New,
            max_bytes: 256 * MIB,
            max_age: 30 * DAY,
            max_message_size: -1,
            ..file(
                DLQ,
                &[subject::DEAD_LETTERS, subject::RESOLUTIONS, subject::REPLAY_RUNS],
                partitions,
            )
        },
        Config {
            retention: RetentionPolicy::WorkQueue,
            discard: DiscardPolicy::New,
            max_bytes: 64 * MIB,
            max_message_size: -1,
            ..file(REPLAY, &[subject::REPLAYS], partitions)
        },
    ]
}

/// What a consumer is for decides how it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerKind {
    /// Strict order, one message in flight, one owner: everything that feeds a decider.
    Lane,
    /// A window of messages in flight to whoever is free: effects outside.
    Worker,
    /// One message in flight to whoever is free: what comes in order and has no key.
    Single,
    /// A window in flight, one owner, last writer wins: pings.
    Pings,
}

impl ConsumerKind {
    /// Whether each partition has a consumer of its own, with one owner.
    #[must_use]
    pub fn is_owned(self) -> bool {
        matches!(self, Self::Lane | Self::Pings)
    }

    /// How long a handler may take for one message.
    #[must_use]
    pub fn handling_max(self) -> Duration {
        match self {
            Self::Lane | Self::Pings => LANE_HANDLING_MAX,
            Self::Worker | Self::Single => WORKER_HANDLING_MAX,
        }
    }
}

/// A durable consumer, or one for each partition.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerSpec {
    /// Its name; the partition's number is appended where there is one for each.
    pub name: &'static str,
    /// The stream that it reads.
    pub stream: &'static str,
    /// Prefixes of the subjects that it reads: `<prefix>.<p>.>`, or `<prefix>.>` for a worker.
    pub prefixes: &'static [&'static str],
    /// How it reads.
    pub kind: ConsumerKind,
    /// Whether it begins with what is new, rather than with the first message.
    pub only_new: bool,
}

/// `driver` executes commands to drivers.
pub const DRIVER_COMMANDS: ConsumerSpec = ConsumerSpec {
    name: "driver-command",
    stream: DRIVER_CMD,
    prefixes: &["driver.command"],
    kind: ConsumerKind::Lane,
    only_new: false,
};
/// `driver` reacts to its own timers.
pub const DRIVER_TIMERS: ConsumerSpec = ConsumerSpec {
    name: "driver-due",
    stream: DRIVER,
    prefixes: &["driver.due"],
    kind: ConsumerKind::Lane,
    only_new: false,
};
/// `trip` takes up requested rides.
pub const TRIP_REQUESTS: ConsumerSpec = ConsumerSpec {
    name: "trip-request",
    stream: RIDER,
    prefixes: &["rider.event"],
    kind: ConsumerKind::Lane,
    only_new: false,
};
/// `trip`'s process manager: tells drivers what trip events mean for them; and its timers.
pub const TRIP_PROCESS: ConsumerSpec = ConsumerSpec {
    name: "trip-process",
    stream: TRIP,
    prefixes: &["trip.event", "trip.due"],
    kind: ConsumerKind::Lane,
    only_new: false,
};
/// `trip` reacts to what drivers did.
pub const TRIP_DRIVERS: ConsumerSpec = ConsumerSpec {
    name: "trip-driver",
    stream: DRIVER,
    prefixes: &["driver.event"],
    kind: ConsumerKind::Lane,
    only_new: false,
};
/// `rider` charges what ended trips cost.
pub const RIDER_PAYMENTS: ConsumerSpec = ConsumerSpec {
    name: "rider-payments",
    stream: TRIP,
    prefixes: &["trip.event"],
    kind: ConsumerKind::Worker,
    only_new: false,
};
/// `location` reads pings.
pub const LOCATION_PINGS: ConsumerSpec = ConsumerSpec {
    name: "location-pings",
    stream: PINGS,
    prefixes: &["ping"],
    kind: ConsumerKind::Pings,
    only_new: false,
};
/// `rider` catches up on missed fares at night, and then compares the ledger with the log.
pub const RIDER_NIGHTLY: ConsumerSpec = ConsumerSpec {
    name: "rider-nightly",
    stream: CRON,
    prefixes: &[subject::RECONCILIATION_DUE],
    kind: ConsumerKind::Single,
    only_new: false,
};

/// Every durable consumer, but for those that only replay.
pub const CONSUMERS: [ConsumerSpec; 8] = [
    DRIVER_COMMANDS,
    DRIVER_TIMERS,
    TRIP_REQUESTS,
    TRIP_PROCESS,
    TRIP_DRIVERS,
    RIDER_PAYMENTS,
    LOCATION_PINGS,
    RIDER_NIGHTLY,
];

impl ConsumerSpec {
    /// The durable name of this partition's consumer (or of the one that there is).
    #[must_use]
    pub fn durable(&self, partition: u32) -> String {
        if self.kind.is_owned() {
            format!("{}-{partition}", self.name)
        } else {
            self.name.to_owned()
        }
    }

    /// The partitions that have a consumer of their own; where there are none, one for all.
    #[must_use]
    pub fn partitions(&self, partitions: Partitions) -> std::ops::Range<u32> {
        if self.kind.is_owned() { partitions.all() } else { 0..1 }
    }

    /// Which consumer has this durable name, and of which partition it is.
    #[must_use]
    pub fn of_durable(durable: &str) -> Option<(Self, u32)> {
        CONSUMERS.into_iter().find_map(|spec| {
            let rest = durable.strip_prefix(spec.name)?;
            let partition = match rest.strip_prefix('-') {
                Some(number) if spec.kind.is_owned() => number.parse().ok()?,
                None if rest.is_empty() && !spec.kind.is_owned() => 0,
                Some(_) | None => return None,
            };
            Some((spec, partition))
        })
    }

    /// How what this consumer gave up comes back to it, if it does: on a stream of its own, with the
    /// original id and content. Pings are too old by then to say where anybody is.
    #[must_use]
    pub fn replays(&self) -> Option<ReplaySpec> {
        let kind = match self.kind {
            // One at a time, so that what failed together is repeated in its order.
            ConsumerKind::Lane | ConsumerKind::Single => ConsumerKind::Single,
            ConsumerKind::Worker => ConsumerKind::Worker,
            ConsumerKind::Pings => return None,
        };
        Some(ReplaySpec { of: *self, kind })
    }

    fn filters(&self, partition: u32) -> Vec<String> {
        self.prefixes
            .iter()
            .map(|prefix| match self.kind {
                ConsumerKind::Worker | ConsumerKind::Single => format!("{prefix}.>"),
                ConsumerKind::Lane => subject::partition_filter(prefix, partition),
                ConsumerKind::Pings => format!("{prefix}.{partition}"),
            })
            .collect()
    }

    /// The consumer's settings.
    #[must_use]
    pub fn config(&self, partition: u32) -> pull::Config {
        settings(self.kind, self.durable(partition), self.filters(partition), self.only_new)
    }
}

/// A consumer of what another one gave up and operations sent back to it.
#[derive(Debug, Clone, Copy)]
pub struct ReplaySpec {
    /// Whose dead letters.
    pub of: ConsumerSpec,
    /// How it reads.
    pub kind: ConsumerKind,
}

impl ReplaySpec {
    /// Its durable name.
    #[must_use]
    pub fn durable(&self) -> String {
        format!("{REPLAY_PREFIX}{}", self.of.name)
    }

    /// The one with this durable name.
    #[must_use]
    pub fn of_durable(durable: &str) -> Option<Self> {
        let name = durable.strip_prefix(REPLAY_PREFIX)?;
        CONSUMERS.into_iter().find(|spec| spec.name == name)?.replays()
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> pull::Config {
        let filters = vec![subject::replays_of(self.of.name)];
        settings(self.kind, self.durable(), filters, false)
    }
}

/// The durable name of a replay begins so.
const REPLAY_PREFIX: &str = "replay-";

fn settings(
    kind: ConsumerKind,
    durable: String,
    filter_subjects: Vec<String>,
    only_new: bool,
) -> pull::Config {
    let max_ack_pending = match kind {
        ConsumerKind::Lane | ConsumerKind::Single => 1,
        ConsumerKind::Pings => PINGS_IN_FLIGHT,
        ConsumerKind::Worker => WORKER_IN_FLIGHT,
    };
    let shared = pull::Config {
        durable_name: Some(durable),
        filter_subjects,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_deliver: UNBOUNDED,
        max_ack_pending,
        deliver_policy: if only_new { DeliverPolicy::New } else { DeliverPolicy::All },
        ..pull::Config::default()
    };
    if !kind.is_owned() {
        return shared;
    }
    pull::Config {
        priority_policy: PriorityPolicy::PinnedClient,
        priority_groups: vec![OWNER_GROUP.to_owned()],
        priority_timeout: PIN_TIMEOUT,
        ..shared
    }
}

/// Makes every stream and consumer as declared above. Doing it twice changes nothing. What exists
/// with other settings is updated where the broker can, and refused loudly where it cannot.
///
/// # Errors
/// When a stream or consumer cannot be made so.
pub async fn provision(
    jetstream: &jetstream::Context,
    partitions: Partitions,
) -> Result<(), ProvisionError> {
    for config in streams(partitions) {
        provision_stream(jetstream, config, partitions).await?;
    }
    // All partitions' consumers exist before the first command: a work queue stores silently what
    // nobody reads.
    let mut making = Vec::new();
    for (stream, config) in consumers(partitions) {
        making.push(provision_consumer(jetstream, stream, config));
    }
    iter(making).buffer_unordered(ASKED_AT_ONCE).try_collect().await
}

/// The settings of every consumer, with its stream.
fn consumers(partitions: Partitions) -> Vec<(&'static str, pull::Config)> {
    let mut consumers = Vec::new();
    for spec in CONSUMERS {
        let own = spec.partitions(partitions);
        consumers.extend(own.map(|partition| (spec.stream, spec.config(partition))));
        consumers.extend(spec.replays().map(|replays| (REPLAY, replays.config())));
    }
    consumers
}

/// Asks until there is an answer: of some hundred questions one may well get lost, and asking again
/// changes nothing. The last time the caller's own time-out holds, for a broker that is only slow.
async fn ask<T, Asked>(question: impl Fn() -> Asked) -> T
where
    Asked: Future<Output = T>,
{
    for patience in PATIENCE {
        if let Ok(answer) = tokio::time::timeout(patience, question()).await {
            return answer;
        }
    }
    question().await
}

async fn provision_consumer(
    jetstream: &jetstream::Context,
    stream: &str,
    config: pull::Config,
) -> Result<(), ProvisionError> {
    let consumer = config.durable_name.clone().unwrap_or_default();
    match ask(|| jetstream.create_consumer_on_stream(config.clone(), stream)).await {
        Ok(_) => Ok(()),
        Err(source) => Err(ProvisionError::Consumer {
            stream: stream.to_owned(),
            consumer,
            source: source.into(),
        }),
    }
}

async fn provision_stream(
    jetstream: &jetstream::Context,
    config: Config,
    partitions: Partitions,
) -> Result<(), ProvisionError> {
    let stream = config.name.clone();
    let refused = |source| ProvisionError::Unchangeable { stream: stream.clone(), source };
    match ask(|| jetstream.get_stream(&stream)).await {
        Ok(existing) => {
            let found = existing.cached_info().config.metadata.get(PARTITIONS_KEY).cloned();
            if let Some(found) = found.filter(|found| *found != partitions.to_string()) {
                return Err(ProvisionError::OtherPartitions { stream, found, wanted: partitions });
            }
            ask(|| jetstream.update_stream(&config)).await.map_err(|err| refused(err.into()))?;
        }
        Err(_) => {
            ask(|| jetstream.create_stream(config.clone()))
                .await
                .map_err(|err| refused(err.into()))?;
        }
    }
    Ok(())
}
