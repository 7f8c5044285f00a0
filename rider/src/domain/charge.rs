//! What a rider owes after a trip, and how that reads in the ledger: double entry, whole minor
//! units, every step sums to zero.

use std::{fmt, str::FromStr, time::Duration};

use common::{
    clock::Timestamp,
    id::{DriverId, EventId, RiderId, TripId},
    money::Money,
    planted::{self, Planted},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// After this long a provider may have forgotten a key, so it is asked before it is charged again.
pub const KEY_TRUSTED_FOR: Duration = Duration::from_secs(12 * 3600);

/// What a charge is for. A trip is charged at most once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The ride.
    Fare,
    /// The ride that was called off too late.
    CancellationFee,
}

impl Purpose {
    /// Its name in the store and in references.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fare => "fare",
            Self::CancellationFee => "cancellation_fee",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No charge is for that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no purpose of a charge")]
pub struct UnknownPurpose(pub String);

impl FromStr for Purpose {
    type Err = UnknownPurpose;
    fn from_str(text: &str) -> Result<Self, UnknownPurpose> {
        match text {
            "fare" => Ok(Self::Fare),
            "cancellation_fee" => Ok(Self::CancellationFee),
            other => Err(UnknownPurpose(other.to_owned())),
        }
    }
}

/// What somebody owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debt {
    /// For which trip.
    pub trip: TripId,
    /// For what.
    pub purpose: Purpose,
    /// Who.
    pub rider: RiderId,
    /// Who drove, or was on the way.
    pub driver: Option<DriverId>,
    /// How much; more than nothing.
    pub amount: Money,
}

impl Debt {
    /// The key under which the provider is asked to charge it: the same for ever.
    #[must_use]
    pub fn key(&self) -> Uuid {
        Uuid::new_v5(&self.trip.0, self.purpose.name().as_bytes())
    }

    /// The name under which the provider knows it: unlike its key, it is never forgotten.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}:{}", self.trip, self.purpose)
    }

    /// The event that says it was paid.
    #[must_use]
    pub fn charged_event(&self) -> EventId {
        EventId(Uuid::new_v5(&self.trip.0, format!("fare_charged.{}", self.purpose).as_bytes()))
    }
}

/// An end of a trip, as far as money goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was driven, for this fare.
    Completed(Money),
    /// It was called off, at this fee.
    Cancelled(Money),
}

/// What is owed after this ending, and what for; nothing if it cost nothing.
#[must_use]
pub fn owed(ending: Ending) -> Option<(Purpose, Money)> {
    let (purpose, amount) = match ending {
        Ending::Completed(fare) => (Purpose::Fare, fare),
        Ending::Cancelled(fee) => (Purpose::CancellationFee, fee),
    };
    (amount.amount_minor > 0).then_some((purpose, amount))
}

/// How far a charge is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChargeState {
    /// Written down. The provider may have been asked already.
    Pending {
        /// When the provider was first about to be asked.
        first_call_at: Timestamp,
    },
    /// The provider has the money.
    Succeeded {
        /// The provider's own name for it.
        provider_reference: String,
        /// Broker time.
        at: Timestamp,
    },
}

/// What to do about a charge that is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approach {
    /// Nobody asked the provider before.
    Charge,
    /// The provider may have charged it: look it up by reference, charge only if it is not there.
    LookUpFirst,
}

/// How to go on with a pending charge of which the outcome of earlier calls is (not) known.
#[must_use]
pub fn approach(first_call_at: Timestamp, is_first_call: bool, now: Timestamp) -> Approach {
    let is_first_call = is_first_call || planted::is_on(Planted::NoLookUp);
    if is_first_call && now.since(first_call_at) < KEY_TRUSTED_FOR {
        Approach::Charge
    } else {
        Approach::LookUpFirst
    }
}

/// A step of a charge in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The rider owes it.
    Owed,
    /// The provider collected it.
    Settled,
}

impl Step {
    /// Its name in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Owed => "owed",
            Self::Settled => "settled",
        }
    }
}

/// One side of an entry: positive debits the account, negative credits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// Which account.
    pub account: Account,
    /// How much.
    pub amount: Money,
}

/// The accounts of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// What riders owe us.
    RidersOwe,
    /// What trips earned.
    Revenue,
    /// What the payment provider holds for us.
    ProviderHolds,
}

impl Account {
    /// Its name in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RidersOwe => "riders_owe",
            Self::Revenue => "revenue",
            Self::ProviderHolds => "provider_holds",
        }
    }
}

/// What a step writes in the ledger. The postings sum to zero.
#[must_use]
pub fn postings(step: Step, amount: Money) -> [Posting; 2] {
    let (debit, credit) = match step {
        Step::Owed => (Account::RidersOwe, Account::Revenue),
        Step::Settled => (Account::ProviderHolds, Account::RidersOwe),
    };
    let opposite = Money::new(-amount.amount_minor, amount.currency);
    [Posting { account: debit, amount }, Posting { account: credit, amount: opposite }]
}
