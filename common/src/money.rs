//! Money in minor units of one currency. No floats, no mixed sums.

use std::fmt;

use serde::{Deserialize, Serialize};

/// ISO 4217 codes that this deployment knows.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema,
)]
pub enum Currency {
    /// Swedish krona; the minor unit is the öre.
    #[default]
    SEK,
    /// Euro; the minor unit is the cent.
    EUR,
    /// United States dollar; the minor unit is the cent.
    USD,
}

/// The text is not a currency that this deployment knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a known currency")]
pub struct UnknownCurrency(pub String);

impl Currency {
    /// The ISO 4217 code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::SEK => "SEK",
            Self::EUR => "EUR",
            Self::USD => "USD",
        }
    }
}

impl std::str::FromStr for Currency {
    type Err = UnknownCurrency;
    fn from_str(text: &str) -> Result<Self, UnknownCurrency> {
        match text {
            "SEK" => Ok(Self::SEK),
            "EUR" => Ok(Self::EUR),
            "USD" => Ok(Self::USD),
            other => Err(UnknownCurrency(other.to_owned())),
        }
    }
}

/// An amount in minor units (öre, cents). Negative amounts are credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Money {
    /// Minor units.
    pub amount_minor: i64,
    /// What they are units of.
    pub currency: Currency,
}

impl Money {
    /// So many minor units.
    #[must_use]
    pub fn new(amount_minor: i64, currency: Currency) -> Self {
        Self { amount_minor, currency }
    }

    /// Nothing, in this currency.
    #[must_use]
    pub fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }

    /// The sum, unless the currencies differ or it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let amount_minor = self.amount_minor.checked_add(other.amount_minor)?;
        (self.currency == other.currency).then_some(Self { amount_minor, ..self })
    }

    /// Whether nothing is owed.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.amount_minor == 0
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, minor) =
            (if self.amount_minor < 0 { "-" } else { "" }, self.amount_minor.unsigned_abs());
        write!(f, "{sign}{}.{:02} {}", minor / 100, minor % 100, self.currency.code())
    }
}

#[cfg(test)]
mod tests {
    use super::{Currency, Money};

    #[test]
    fn different_currencies_do_not_add_up() {
        let krona = Money::new(100, Currency::SEK);
        assert_eq!(krona.checked_add(krona), Some(Money::new(200, Currency::SEK)));
        assert_eq!(krona.checked_add(Money::new(1, Currency::EUR)), None);
        assert_eq!(Money::new(i64::MAX, Currency::SEK).checked_add(krona), None);
    }

    #[test]
    fn money_reads_as_people_write_it() {
        assert_eq!(Money::new(12_305, Currency::SEK).to_string(), "123.05 SEK");
        assert_eq!(Money::new(-5, Currency::EUR).to_string(), "-0.05 EUR");
    }
}
