//! Whether a trip is charged as the log says it must be: exactly once, to the cent.

use common::money::Money;
use serde::{Deserialize, Serialize};

use super::charge::Purpose;

/// What is wrong with a trip's charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Difference {
    /// It cost something, and nobody wrote it down.
    Missing,
    /// It is written down, and the provider does not have the money yet.
    Pending,
    /// Another amount was written down, or for another reason.
    Different,
    /// Something was written down of what cost nothing.
    Unowed,
}

impl Difference {
    /// Whether collecting the debt makes it right.
    #[must_use]
    pub fn is_collectable(self) -> bool {
        match self {
            Self::Missing | Self::Pending => true,
            Self::Different | Self::Unowed => false,
        }
    }
}

/// What the ledger has of a trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charged {
    /// What for.
    pub purpose: Purpose,
    /// How much.
    pub amount: Money,
    /// Whether the provider has the money.
    pub is_settled: bool,
}

/// Compares what a trip cost, by the log, with what was charged, by the ledger.
#[must_use]
pub fn compare(owed: Option<(Purpose, Money)>, charged: Option<Charged>) -> Option<Difference> {
    match (owed, charged) {
        (None, None) => None,
        (None, Some(_)) => Some(Difference::Unowed),
        (Some(_), None) => Some(Difference::Missing),
        (Some(owed), Some(charged)) if owed != (charged.purpose, charged.amount) => {
            Some(Difference::Different)
        }
        (Some(_), Some(charged)) => (!charged.is_settled).then_some(Difference::Pending),
    }
}

#[cfg(test)]
mod tests {
    use common::money::{Currency, Money};

    use super::{Charged, Difference, compare};
    use crate::domain::charge::Purpose;

    fn sek(minor: i64) -> Money {
        Money::new(minor, "SEK".parse::<Currency>().unwrap())
    }

    fn charged(purpose: Purpose, minor: i64, is_settled: bool) -> Option<Charged> {
        Some(Charged { purpose, amount: sek(minor), is_settled })
    }

    #[test]
    fn a_trip_is_right_when_it_is_charged_once_to_the_cent() {
        let owed = Some((Purpose::Fare, sek(13_850)));
        assert_eq!(compare(owed, charged(Purpose::Fare, 13_850, true)), None);
        assert_eq!(compare(None, None), None);
    }

    #[test]
    fn whatever_else_is_a_difference() {
        let owed = Some((Purpose::Fare, sek(13_850)));
        for (owed, charged, expected) in [
            (owed, None, Difference::Missing),
            (owed, charged(Purpose::Fare, 13_850, false), Difference::Pending),
            (owed, charged(Purpose::Fare, 13_849, true), Difference::Different),
            (owed, charged(Purpose::Fare, 13_849, false), Difference::Different),
            (owed, charged(Purpose::CancellationFee, 13_850, true), Difference::Different),
            (None, charged(Purpose::Fare, 1, true), Difference::Unowed),
        ] {
            assert_eq!(compare(owed, charged), Some(expected), "{owed:?} {charged:?}");
        }
    }
}
