//! When a driver counts as gone. Silence is measured against the partition's own watermark: the
//! newest broker time of which everything was read. A reader that lags makes nobody silent.

use std::time::Duration;

use common::{
    clock::Timestamp,
    contract::v1,
    id::{CommandId, DriverId},
};

use crate::index::Activity;

/// How long a driver was heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// Never heard.
    Unknown,
    /// Heard just now: may be offered a trip.
    Live,
    /// Not heard for a moment: shown, not offered.
    Stale,
    /// Gone.
    Lost,
}

impl Liveness {
    /// The code used in [`v1::LocationFrame`], which is that of [`v1::Liveness`].
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Live => 1,
            Self::Stale => 2,
            Self::Lost => 3,
        }
    }
}

impl From<Liveness> for v1::Liveness {
    fn from(liveness: Liveness) -> Self {
        match liveness {
            Liveness::Unknown => Self::Unspecified,
            Liveness::Live => Self::Live,
            Liveness::Stale => Self::Stale,
            Liveness::Lost => Self::Lost,
        }
    }
}

/// How long silence may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Up to here a driver is live.
    pub live: Duration,
    /// Up to here stale; then lost, and an open offer ends.
    pub stale: Duration,
    /// Then an idle driver's duty ends.
    pub idle: Duration,
    /// Nobody is sent home who has been idle for less: the silence was mostly before.
    pub idle_least: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            live: Duration::from_secs(15),
            stale: Duration::from_secs(60),
            idle: Duration::from_secs(300),
            idle_least: Duration::from_secs(65),
        }
    }
}

impl Patience {
    /// Judges a driver last heard at `heard_at` (zero: never).
    #[must_use]
    pub fn liveness(&self, heard_at: Timestamp, watermark: Timestamp) -> Liveness {
        let silence = watermark.since(heard_at);
        if heard_at == Timestamp::default() {
            Liveness::Unknown
        } else if silence <= self.live {
            Liveness::Live
        } else if silence <= self.stale {
            Liveness::Stale
        } else {
            Liveness::Lost
        }
    }

    /// What a silence that began at `silent_since` calls for, if anything.
    #[must_use]
    pub fn lost(
        &self,
        silent_since: Timestamp,
        state: DutyState,
        watermark: Timestamp,
    ) -> Option<Loss> {
        let silence = watermark.since(silent_since);
        let kind = match state.activity {
            // An offer cannot wait for somebody who is not there.
            Activity::Offered if silence > self.stale => LossKind::Offered,
            Activity::Idle
                if silence > self.idle && watermark.since(state.since) > self.idle_least =>
            {
                LossKind::Idle
            }
            // A phone in a tunnel is still on its trip; the trip has watchdogs of its own.
            Activity::Offered | Activity::Idle | Activity::Engaged | Activity::Offline => {
                return None;
            }
        };
        Some(Loss { kind, silent_since, silence })
    }
}

/// What a driver does, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DutyState {
    pub activity: Activity,
    pub since: Timestamp,
}

/// Which silence is over the limit. A silence has each of them at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossKind {
    /// With an offer in hand.
    Offered,
    /// Idle, for long.
    Idle,
}

/// A driver that has to be marked lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Which limit.
    pub kind: LossKind,
    /// When the driver was last heard, or is taken to have been.
    pub silent_since: Timestamp,
    /// How long ago that is.
    pub silence: Duration,
}

impl Loss {
    /// The command's id: the same silence gives the same command, whoever finds it and how often.
    #[must_use]
    pub fn command_id(&self, driver: DriverId) -> CommandId {
        let kind = match self.kind {
            LossKind::Offered => "offered",
            LossKind::Idle => "idle",
        };
        CommandId::keyed(driver.0, &format!("lost:{kind}:{}", self.silent_since.micros()))
    }
}
