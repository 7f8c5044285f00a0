//! How full the broker's store is, and what is refused because of it: pings first, then new rides,
//! steps of a ride under way never. A full store would refuse those too, and fire no timer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{metrics, nats::Nats, problem::Problem, stream, subject::Partitions};

/// How often it is looked at. At ten times the traffic that the system is made for the store grows
/// by a few megabytes meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// When who was refused may come again: room is made by people or by age, not within seconds.
const COME_AGAIN: Duration = Duration::from_secs(10);
/// What streams without a limit (trips, drivers, timers) must find beside those with one.
const RESERVE_BYTES: u64 = 512 * 1024 * 1024;

/// How much room there is, and from when on what is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct RoomConfig {
    /// What the broker may store, in bytes: its `max_file`. Not needed where the account has a limit
    /// of its own, which the broker tells.
    #[arg(long, env = "STORE_MAX_BYTES")]
    pub store_max_bytes: Option<u64>,
    /// From this share of it on, in percent, pings are refused.
    #[arg(long, env = "PINGS_REFUSED_PERCENT", default_value_t = RoomConfig::DEFAULT.pings_refused_percent)]
    pub pings_refused_percent: u32,
    /// From this share of it on, in percent, new rides are refused.
    #[arg(long, env = "RIDES_REFUSED_PERCENT", default_value_t = RoomConfig::DEFAULT.rides_refused_percent)]
    pub rides_refused_percent: u32,
}

impl RoomConfig {
    const DEFAULT: Self =
        Self { store_max_bytes: None, pings_refused_percent: 70, rides_refused_percent: 85 };
}

impl Default for RoomConfig {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What is given up before a ride under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Positions.
    Pings,
    /// Rides that have not begun.
    Rides,
}

impl Load {
    const fn label(self) -> &'static str {
        match self {
            Self::Pings => "pings",
            Self::Rides => "rides",
        }
    }
}

/// There is no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store is nearly full: no new {} now", .0.label())]
pub struct Full(pub Load);

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        let status = axum::http::StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "overloaded", full.to_string()).retry_after(COME_AGAIN)
    }
}

/// What is known of the room; cheap to clone and to share.
#[derive(Debug, Clone)]
pub struct Room(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: RoomConfig,
    used_bytes: AtomicU64,
    /// 0 while it is not known: then nothing is refused.
    max_bytes: AtomicU64,
}

impl Room {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(config: RoomConfig) -> Self {
        Self(Arc::new(Shared {
            config,
            used_bytes: AtomicU64::new(0),
            max_bytes: AtomicU64::new(config.store_max_bytes.unwrap_or(0)),
        }))
    }

    /// Whether there is room for this.
    ///
    /// # Errors
    /// When there is not.
    pub fn admit(&self, load: Load) -> Result<(), Full> {
        let config = &self.0.config;
        let percent = match load {
            Load::Pings => config.pings_refused_percent,
            Load::Rides => config.rides_refused_percent,
        };
        let used = u128::from(self.0.used_bytes.load(Ordering::Relaxed));
        let max = u128::from(self.0.max_bytes.load(Ordering::Relaxed));
        if max == 0 || used * 100 < max * u128::from(percent) {
            return Ok(());
        }
        metrics::ROOM_REFUSED.with(&[("load", load.label())]).increment(1);
        Err(Full(load))
    }

    /// Looks at the account until shutdown. While the broker is away, what is known stays.
    ///
    /// # Errors
    /// Never; the signature lets it stand beside a service's other parts in a `try_join!`.
    pub async fn watch(&self, nats: &Nats, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut every = tokio::time::interval(LOOK_EVERY);
        let mut is_first = true;
        while shutdown.run_until_cancelled(every.tick()).await.is_some() {
            let account = match nats.jetstream.query_account().await {
                Ok(account) => account,
                Err(err) => {
                    tracing::debug!(error = %err, "the room in the store is not known");
                    continue;
                }
            };
            let told = account.limits.max_storage.and_then(|max| u64::try_from(max).ok());
            self.note(account.storage, told);
            if std::mem::take(&mut is_first) {
                self.check(nats.partitions);
            }
        }
        Ok(())
    }

    /// Takes note of what is used, and of the account's own limit, if it has one.
    pub fn note(&self, used_bytes: u64, account_max_bytes: Option<u64>) {
        let limits = [account_max_bytes, self.0.config.store_max_bytes];
        let max_bytes = limits.into_iter().flatten().min().unwrap_or(0);
        self.0.used_bytes.store(used_bytes, Ordering::Relaxed);
        self.0.max_bytes.store(max_bytes, Ordering::Relaxed);
        let mib = |bytes: u64| u32::try_from(bytes >> 20).map_or(f64::INFINITY, f64::from);
        metrics::ROOM_USED_MIB.with(&metrics::NO_LABELS).set(mib(used_bytes));
        metrics::ROOM_MAX_MIB.with(&metrics::NO_LABELS).set(mib(max_bytes));
    }

    fn check(&self, partitions: Partitions) {
        let max_bytes = self.0.max_bytes.load(Ordering::Relaxed);
        let limited_bytes = limited_bytes(partitions);
        if max_bytes == 0 {
            tracing::warn!(
                "neither the account nor STORE_MAX_BYTES says what the broker may store: nothing is \
                 refused before it is full"
            );
        } else if limited_bytes.saturating_add(RESERVE_BYTES) > max_bytes {
            tracing::warn!(
                limited_bytes,
                reserve_bytes = RESERVE_BYTES,
                max_bytes,
                "streams with a limit alone may take the room that trips and timers need",
            );
        }
    }
}

/// What all streams with a hard limit may take together.
#[must_use]
pub fn limited_bytes(partitions: Partitions) -> u64 {
    let limits = stream::streams(partitions).into_iter();
    limits.filter_map(|config| u64::try_from(config.max_bytes).ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::{Full, Load, Room, RoomConfig, limited_bytes};
    use crate::subject::Partitions;

    fn room(used: u64, max: Option<u64>) -> Room {
        let room = Room::new(RoomConfig::default());
        room.note(used, max);
        room
    }

    #[test]
    fn pings_are_given_up_first_and_new_rides_next() {
        for (used, pings, rides) in [(69, true, true), (70, false, true), (85, false, false)] {
            let room = room(used, Some(100));
            assert_eq!(room.admit(Load::Pings).is_ok(), pings, "{used} %");
            assert_eq!(room.admit(Load::Rides).is_ok(), rides, "{used} %");
        }
    }

    #[test]
    fn what_is_not_known_refuses_nobody() {
        assert_eq!(room(u64::MAX, None).admit(Load::Pings), Ok(()));
    }

    #[test]
    fn of_two_limits_the_smaller_one_holds() {
        let config = RoomConfig { store_max_bytes: Some(100), ..RoomConfig::default() };
        let room = Room::new(config);
        room.note(80, Some(1_000));
        assert_eq!(room.admit(Load::Pings), Err(Full(Load::Pings)));
        room.note(80, Some(90));
        assert_eq!(room.admit(Load::Rides), Err(Full(Load::Rides)));
    }

    #[test]
    fn the_limited_streams_fit_beside_the_others_in_what_the_deployment_gives() {
        let config = include_str!("../../deploy/nats.conf");
        let max = config.lines().find_map(|line| line.trim().strip_prefix("max_file: ")).unwrap();
        let max: u64 = max.strip_suffix("GB").unwrap().parse::<u64>().unwrap() << 30;
        let limited = limited_bytes(Partitions::default());
        assert!(limited + super::RESERVE_BYTES < max / 2, "{limited} of {max}");
    }
}
