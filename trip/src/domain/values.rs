//! The small values that trips are made of. Each can only be made in a valid form.

use std::fmt;

use common::money::Money;
use serde::Serialize;

/// What the rider was promised. Fixed when the quote was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// The gateway's own id of the quote; opaque here.
    pub fare_id: Vec<u8>,
    /// Which kind of ride.
    pub product: String,
    /// The fixed price.
    pub fare: Money,
    /// Along the roads.
    pub distance_m: u32,
    /// Estimated.
    pub duration_s: u32,
    /// 100 = no surge.
    pub surge_percent: u32,
    /// What a late cancellation or a no-show costs.
    pub cancellation_fee: Money,
}

/// Four digits that the rider tells the driver, so that nobody rides in another's car.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 4]);

/// The text is not a [`Pin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pin has four digits")]
pub struct NotAPin;

impl std::str::FromStr for Pin {
    type Err = NotAPin;
    fn from_str(text: &str) -> Result<Self, NotAPin> {
        let digits: [u8; 4] = text.as_bytes().try_into().map_err(|_| NotAPin)?;
        digits.iter().all(u8::is_ascii_digit).then_some(Self(digits)).ok_or(NotAPin)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|digit| write!(f, "{}", char::from(*digit)))
    }
}

impl fmt::Debug for Pin {
    /// Logs never show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(····)")
    }
}

/// One to five.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stars(u8);

/// Not one to five.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a number of stars from 1 to 5")]
pub struct NotStars(pub u32);

impl TryFrom<u32> for Stars {
    type Error = NotStars;
    fn try_from(stars: u32) -> Result<Self, NotStars> {
        u8::try_from(stars)
            .ok()
            .filter(|stars| (1..=5).contains(stars))
            .map(Self)
            .ok_or(NotStars(stars))
    }
}

impl From<Stars> for u32 {
    fn from(stars: Stars) -> Self {
        stars.0.into()
    }
}

/// Why somebody cancelled or closed: a word of the API's lists, or an operator's few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

/// The text is not a [`Reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a reason has 1 to {} characters and no control characters", Reason::LEN_MAX)]
pub struct NotAReason;

impl Reason {
    const LEN_MAX: usize = 100;

    /// The rider did not come.
    #[must_use]
    pub fn no_show() -> Self {
        Self("no_show".to_owned())
    }

    /// The driver did not come.
    #[must_use]
    pub fn driver_late() -> Self {
        Self("driver_late".to_owned())
    }

    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Reason {
    type Err = NotAReason;
    fn from_str(text: &str) -> Result<Self, NotAReason> {
        let fits = (1..=Self::LEN_MAX).contains(&text.chars().count());
        (fits && !text.chars().any(char::is_control))
            .then(|| Self(text.to_owned()))
            .ok_or(NotAReason)
    }
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// Who asked for the ride.
    Rider,
    /// Who drives.
    Driver,
    /// A timer.
    System,
    /// A person at the console.
    Operations,
}

/// Where a trip stands. Before it is requested it has no phase.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Looking for a driver.
    Matching,
    /// A driver is on the way.
    Assigned,
    /// The driver waits at the pickup.
    Arrived,
    /// On the road.
    InProgress,
    /// Ended at the destination.
    Completed,
    /// Ended early.
    Cancelled,
    /// Ended without a driver.
    Unfulfilled,
}

impl Phase {
    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Matching => "matching",
            Self::Assigned => "assigned",
            Self::Arrived => "arrived",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Unfulfilled => "unfulfilled",
        }
    }
}

/// How an offer ended without an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferEnd {
    /// The driver said no.
    Declined,
    /// The driver said nothing.
    Lapsed,
    /// The driver had another offer or trip, or was not online.
    Busy,
    /// The driver fell silent.
    Lost,
    /// The driver went offline.
    Offline,
    /// The trip heard nothing within the lease.
    LeaseOver,
    /// The trip ended while the offer was open.
    TripEnded,
    /// The trip withdrew it.
    Released,
}

impl OfferEnd {
    /// Whether this driver is not to be asked again for this trip: who had the choice and did not
    /// take it. Who could not choose may be asked again.
    #[must_use]
    pub fn excludes(self) -> bool {
        match self {
            Self::Declined | Self::Lapsed => true,
            Self::Busy
            | Self::Lost
            | Self::Offline
            | Self::LeaseOver
            | Self::TripEnded
            | Self::Released => false,
        }
    }

    /// Whether the trip ended it by itself, so that the driver does not know of it yet.
    #[must_use]
    pub fn is_unknown_to_the_driver(self) -> bool {
        match self {
            Self::LeaseOver | Self::TripEnded | Self::Released => true,
            Self::Declined | Self::Lapsed | Self::Busy | Self::Lost | Self::Offline => false,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Declined => "declined",
            Self::Lapsed => "lapsed",
            Self::Busy => "busy",
            Self::Lost => "lost",
            Self::Offline => "offline",
            Self::LeaseOver => "lease_over",
            Self::TripEnded => "trip_ended",
            Self::Released => "released",
        }
    }
}
