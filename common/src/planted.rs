//! Bugs that are planted on purpose, to prove that the checks find them. The feature is for tests
//! alone: without it every question is answered "no" at compile time, and a release build with it
//! does not compile.

#[cfg(all(feature = "planted", not(debug_assertions)))]
compile_error!("planted bugs must not get into a release build");

macro_rules! planted {
    ($($(#[$doc:meta])* $bug:ident = $name:literal,)*) => {
        /// A bug that may be planted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Planted {
            $($(#[$doc])* $bug,)*
        }

        impl Planted {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];

            /// Its name on command lines and in tables.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }
        }
    };
}

planted! {
    /// Events are appended whatever was stored before.
    NoCompareAndSet = "no-compare-and-set",
    /// A message is acknowledged before it is handled.
    AckBeforeEffect = "ack-before-effect",
    /// A repeated `POST /v1/trips` is a new one.
    NoIdempotencyKey = "no-idempotency-key",
    /// A requested ride is published before it is committed.
    PublishBeforeCommit = "publish-before-commit",
    /// A release frees its driver from whatever they are on.
    DriverFreedByFlag = "driver-freed-by-flag",
    /// An acceptance is assigned while the trip still matches, whatever became of its offer.
    AssignOnStillMatching = "assign-on-still-matching",
    /// An acceptance that was carried out before counts as one in vain.
    ReleaseOnRedelivery = "release-on-redelivery",
    /// Only the last event is looked at when a command's fate is unknown.
    OnlyLastEventCompared = "only-last-event-compared",
    /// Events and their timers carry one message id, and a duplicate counts as stored.
    DuplicateIsSuccess = "duplicate-is-success",
    /// All timers of a kind have one id.
    TimerIdReused = "timer-id-reused",
    /// A charge is skipped if the view has seen its event.
    ViewVersionGuardsCharge = "view-version-guards-charge",
    /// A charge whose outcome is unknown is simply repeated.
    NoLookUp = "no-look-up",
    /// Nobody looks for timers that did not fire.
    SweeperOff = "sweeper-off",
    /// Phones are fed by the stream's own subjects.
    PlainSubscription = "plain-subscription",
}

impl std::fmt::Display for Planted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such bug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no planted bug")]
pub struct UnknownBug(pub String);

impl std::str::FromStr for Planted {
    type Err = UnknownBug;
    fn from_str(text: &str) -> Result<Self, UnknownBug> {
        let named = |bug: &Self| bug.name() == text;
        Self::ALL.iter().copied().find(named).ok_or_else(|| UnknownBug(text.to_owned()))
    }
}

#[cfg(feature = "planted")]
mod on {
    use std::{cell::Cell, sync::LazyLock};

    use super::Planted;

    /// For whole processes: the bug of this name in the environment.
    static EVERYWHERE: LazyLock<Option<Planted>> =
        LazyLock::new(|| std::env::var("PLANTED").ok()?.parse().ok());

    thread_local! {
        static HERE: Cell<Option<Planted>> = const { Cell::new(None) };
    }

    /// Plants a bug in everything that this thread runs; `None` takes it out.
    pub fn plant(bug: Option<Planted>) {
        HERE.set(bug);
    }

    /// Whether this bug is planted.
    #[must_use]
    pub fn is_on(bug: Planted) -> bool {
        HERE.get() == Some(bug) || *EVERYWHERE == Some(bug)
    }
}

#[cfg(feature = "planted")]
pub use on::{is_on, plant};

/// Whether this bug is planted: never.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn is_on(_bug: Planted) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::Planted;

    #[test]
    fn a_bug_is_known_by_its_name() {
        for bug in Planted::ALL {
            assert_eq!(bug.name().parse(), Ok(*bug));
        }
    }
}
