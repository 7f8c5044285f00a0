//! Named places in the code at which a process can be made to die, and messages that can be made
//! to fail. It exists only with feature `failpoints`, and even then only what the process
//! environment asks for happens; without the feature every function here is empty.

use async_nats::HeaderMap;

/// `<name>:<n>`: the process aborts when it reaches that place for the n-th time.
pub const ARMED: &str = "FAILPOINT";
/// Set to anything: messages may say by header [`POISON`] how their handling ends.
pub const POISONOUS: &str = "FAILPOINT_POISON";
/// What a process logs before it dies at the armed place.
pub const LAST_WORDS: &str = "reached, aborting";
/// A file that says by how many milliseconds this machine's clock on the wall is wrong, from when on
/// it says so.
pub const CLOCK_SKEW_FILE: &str = "CLOCK_SKEW_FILE";
/// On a message: how its handling ends, `error`, `hang` or `abort`.
pub const POISON: &str = "failpoint-poison";

/// A place in the code at which a crash must not hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failpoint {
    /// What [`reach`] is called with.
    pub name: &'static str,
    /// The services that come by.
    pub services: &'static [&'static str],
}

const fn at(name: &'static str, services: &'static [&'static str]) -> Failpoint {
    Failpoint { name, services }
}

/// Every failpoint.
pub const ALL: [Failpoint; 22] = [
    // A command is decided, nothing is stored.
    at("event_store.decided", &["trip", "driver"]),
    // The timer is stored, its event is not.
    at("event_store.timer_set", &["trip", "driver"]),
    // The event is stored, nobody knows.
    at("event_store.stored", &["trip", "driver"]),
    // A message came, nothing is done.
    at("consumer.received", &["trip", "driver", "rider", "location"]),
    // All is done, the message is not acknowledged.
    at("consumer.handled", &["trip", "driver", "rider", "location"]),
    // A message has failed for good, its copy is not stored.
    at("consumer.burying", &["driver", "trip"]),
    // The copy is stored, the message is still there.
    at("consumer.buried", &["driver", "trip"]),
    // A command to a driver is made, but not stored; stored, but its sender does not know.
    at("driver_command.sending", &["trip"]),
    at("driver_command.stored", &["trip"]),
    // An interactive command has had its effect, its phone has no answer.
    at("command.done", &["trip"]),
    // A frame of pings is complete, but not stored; stored, but its phones have no answer.
    at("gather.publishing", &["driver"]),
    at("gather.stored", &["driver"]),
    // Rows are written, the transaction is not committed; committed, but nobody knows.
    at("store.written", &["rider"]),
    at("store.committed", &["rider"]),
    // A row of the outbox is taken up; it is on the broker, the row does not say so; it does.
    at("relay.publishing", &["rider"]),
    at("relay.published", &["rider"]),
    at("relay.recorded", &["rider"]),
    // A debt is in the ledger, the provider was not called; was called; the charge is settled.
    at("payments.owed", &["rider"]),
    at("payments.charged", &["rider"]),
    at("payments.settled", &["rider"]),
    // Counts of pings are taken, but not stored; stored, but the process does not know.
    at("checkpoint.storing", &["location"]),
    at("checkpoint.stored", &["location"]),
];

/// How the handling of a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poison {
    /// It fails, every time.
    Error,
    /// It does not end.
    Hang,
    /// It takes the process with it.
    Abort,
}

impl Poison {
    /// As the header says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Hang => "hang",
            Self::Abort => "abort",
        }
    }

    /// Takes its effect; an error is what is left to return.
    pub async fn suffer(self) -> anyhow::Error {
        match self {
            Self::Error => anyhow::anyhow!("a poisoned message"),
            Self::Hang => std::future::pending().await,
            Self::Abort => std::process::abort(),
        }
    }
}

/// Aborts the process if this place is the armed one and it is time.
#[inline]
pub fn reach(name: &str) {
    armed::reach(name);
}

/// How the handling of a message with these headers is to end, if not as it should.
#[inline]
#[must_use]
pub fn poison(headers: &HeaderMap) -> Option<Poison> {
    armed::poison(headers)
}

/// By how much this machine's clock is wrong, microseconds.
#[inline]
#[must_use]
pub fn clock_skew_us() -> i64 {
    armed::clock_skew_us()
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::{
        env, fs,
        path::{Path, PathBuf},
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    use super::{ARMED, CLOCK_SKEW_FILE, HeaderMap, LAST_WORDS, POISON, POISONOUS, Poison};

    struct Armed {
        name: String,
        left: AtomicU64,
    }

    static PLACE: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let wish = env::var(ARMED).ok()?;
        let (name, times) = wish.split_once(':').unwrap_or((&wish, "1"));
        Some(Armed { name: name.to_owned(), left: AtomicU64::new(times.parse().ok()?) })
    });
    static IS_POISONOUS: LazyLock<bool> = LazyLock::new(|| env::var_os(POISONOUS).is_some());
    static SKEW: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| env::var_os(CLOCK_SKEW_FILE).map(PathBuf::from));

    pub(super) fn reach(name: &str) {
        let Some(place) = PLACE.as_ref().filter(|place| place.name == name) else { return };
        if place.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            tracing::error!(failpoint = name, "{LAST_WORDS}");
            std::process::abort();
        }
    }

    pub(super) fn poison(headers: &HeaderMap) -> Option<Poison> {
        if !*IS_POISONOUS {
            return None;
        }
        match headers.get(POISON)?.as_str() {
            "error" => Some(Poison::Error),
            "hang" => Some(Poison::Hang),
            "abort" => Some(Poison::Abort),
            _ => None,
        }
    }

    pub(super) fn clock_skew_us() -> i64 {
        SKEW.as_deref().map_or(0, skew_us)
    }

    /// What the file says now; nothing is wrong where there is none.
    pub(super) fn skew_us(file: &Path) -> i64 {
        let millis = fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i64>().ok());
        millis.unwrap_or(0).saturating_mul(1000)
    }
}

#[cfg(not(feature = "failpoints"))]
mod armed {
    use super::{HeaderMap, Poison};

    pub(super) const fn reach(_name: &str) {}

    pub(super) const fn poison(_headers: &HeaderMap) -> Option<Poison> {
        None
    }

    pub(super) const fn clock_skew_us() -> i64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::{POISON, poison, reach};

    #[test]
    fn nothing_happens_that_the_environment_does_not_ask_for() {
        let mut headers = HeaderMap::new();
        headers.insert(POISON, "abort");
        assert_eq!(poison(&headers), None);
        reach("event_store.stored");
    }
    #[cfg(feature = "failpoints")]
    #[test]
    fn the_clock_is_as_wrong_as_the_file_says_at_that_moment() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("clock");
        assert_eq!(super::armed::skew_us(&file), 0);
        for wrong_ms in [300_000, -300_000, 0] {
            std::fs::write(&file, wrong_ms.to_string()).unwrap();
            assert_eq!(super::armed::skew_us(&file), wrong_ms * 1000);
        }
    }
}
