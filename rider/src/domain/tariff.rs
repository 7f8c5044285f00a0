//! What a ride costs. Integers in minor units throughout; a half rounds to the even neighbour, so
//! that many fares together are neither too high nor too low.

use std::str::FromStr;

use common::money::{Currency, Money};
use serde::{Deserialize, Serialize};

/// The largest rate that a tariff may hold, minor units; keeps every product of two within `i64`.
const RATE_MAX: i64 = 10_000_000;
/// No surge.
pub const SURGE_NONE_PERCENT: u32 = 100;
/// However many ask: never more than this.
pub const SURGE_MAX_PERCENT: u32 = 250;
/// Surge moves in steps, so that a quote does not flicker.
const SURGE_STEP_PERCENT: u32 = 10;

/// The tariff of a new deployment.
pub const TARIFF_DEFAULT: &str = r#"{"currency":"SEK","products":[{"product":"standard","name":"Standard","capacity":4,"base":3900,"per_km":1150,"per_minute":420,"minimum":8500,"cancellation_fee":4500}]}"#;

/// The products of this deployment and their rates.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tariff {
    /// What all rates are in.
    pub currency: Currency,
    /// At least one.
    pub products: Vec<Product>,
}

/// One kind of ride. All rates in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Its name in requests.
    pub product: String,
    /// Its name for people.
    pub name: String,
    /// Seats.
    pub capacity: u8,
    /// For getting in.
    pub base: i64,
    /// For each kilometre of the quoted way.
    pub per_km: i64,
    /// For each minute of the quoted time.
    pub per_minute: i64,
    /// A ride costs at least this.
    pub minimum: i64,
    /// What a late cancellation, or a rider who does not come, costs.
    pub cancellation_fee: i64,
}

/// The tariff cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadTariff {
    /// It is not the JSON it should be.
    #[error("the tariff is not readable")]
    Unreadable(#[from] serde_json::Error),
    /// There is nothing to buy.
    #[error("the tariff has no products")]
    Empty,
    /// A rate is negative or absurd.
    #[error("a rate of `{0}` is not from 0 to {RATE_MAX}")]
    Rate(String),
}

impl FromStr for Tariff {
    type Err = BadTariff;

    fn from_str(text: &str) -> Result<Self, BadTariff> {
        let tariff: Self = serde_json::from_str(text)?;
        if tariff.products.is_empty() {
            return Err(BadTariff::Empty);
        }
        match tariff.products.iter().find(|product| !product.is_sane()) {
            Some(product) => Err(BadTariff::Rate(product.product.clone())),
            None => Ok(tariff),
        }
    }
}

impl Tariff {
    /// The product of that name.
    #[must_use]
    pub fn product(&self, name: &str) -> Option<&Product> {
        self.products.iter().find(|product| product.product == name)
    }

    /// An amount in the tariff's currency.
    #[must_use]
    pub fn money(&self, amount_minor: i64) -> Money {
        Money::new(amount_minor, self.currency)
    }

    /// What a ride over this way costs now.
    #[must_use]
    pub fn price(&self, product: &Product, way: Way, surge_percent: u32) -> Price {
        let surge_percent = surge_step(surge_percent);
        let distance = half_even(product.per_km * i64::from(way.distance_m), 1000);
        let time = half_even(product.per_minute * i64::from(way.duration_s), 60);
        let before_surge = product.base + distance + time;
        let over = i64::from(surge_percent - SURGE_NONE_PERCENT);
        let surge = half_even(before_surge.saturating_mul(over), 100);
        let up_to_minimum = (product.minimum - before_surge - surge).max(0);
        let lines = [
            (Item::Base, product.base),
            (Item::Distance, distance),
            (Item::Time, time),
            (Item::Surge, surge),
            (Item::MinimumFare, up_to_minimum),
        ];
        Price {
            fare: self.money(lines.iter().map(|(_, amount)| amount).sum()),
            breakdown: lines
                .into_iter()
                .filter(|(_, amount)| *amount != 0)
                .map(|(item, amount)| Line { item, amount: self.money(amount) })
                .collect(),
            surge_percent,
        }
    }
}

impl Product {
    fn is_sane(&self) -> bool {
        [self.base, self.per_km, self.per_minute, self.minimum, self.cancellation_fee]
            .iter()
            .all(|rate| (0..=RATE_MAX).contains(rate))
    }
}

/// The way that is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Metres along roads.
    pub distance_m: u32,
    /// Seconds at the roads' speeds.
    pub duration_s: u32,
}

/// A fare and how it came about. The lines add up to the fare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// What the rider pays.
    pub fare: Money,
    /// What for; lines of nothing are left out.
    pub breakdown: Vec<Line>,
    /// The surge that was applied: in steps, within its bounds.
    pub surge_percent: u32,
}

/// One line of a breakdown or receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Line {
    /// What for.
    pub item: Item,
    /// How much.
    pub amount: Money,
}

/// What is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// Getting in.
    Base,
    /// The way.
    Distance,
    /// The time.
    Time,
    /// More riders than cars.
    Surge,
    /// What was missing to the least that a ride costs.
    MinimumFare,
    /// The fare, whole, as it was quoted.
    Fare,
    /// A cancellation that came late, or a rider who did not come.
    CancellationFee,
}

/// The surge that a quote uses for a measured one: never below none, never above the most, in steps.
#[must_use]
pub fn surge_step(measured_percent: u32) -> u32 {
    let bounded = measured_percent.clamp(SURGE_NONE_PERCENT, SURGE_MAX_PERCENT);
    bounded - bounded % SURGE_STEP_PERCENT
}

/// `amount / unit`, rounded to the nearest; a half goes to the even neighbour. `unit` > 0.
fn half_even(amount: i64, unit: i64) -> i64 {
    let (quotient, remainder) = (amount.div_euclid(unit), amount.rem_euclid(unit));
    match (remainder * 2).cmp(&unit) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Equal => quotient + quotient.rem_euclid(2),
        std::cmp::Ordering::Greater => quotient + 1,
    }
}

#[cfg(test)]
pub(super) fn half_even_of(amount: i64, unit: i64) -> i64 {
    half_even(amount, unit)
}
