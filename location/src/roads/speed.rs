//! How fast cars are against the free-flow speeds of a road file.

use std::str::FromStr;

/// Not a factor that a speed can have.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("speed factor must be a number from {} to {}", Speed::MIN, Speed::MAX)]
pub struct SpeedOutOfRange;

/// How fast cars are, as a factor on the free-flow speeds of the road file.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Speed(f64);

impl Speed {
    const MIN: f64 = 0.01;
    const MAX: f64 = 1000.0;
    /// As fast as the signs allow.
    pub const FREE_FLOW: Self = Self(1.0);
    /// City traffic: with it the mean speed in town is what taxis drive by day.
    pub const CONGESTED: Self = Self(0.65);

    /// A speed from its factor.
    ///
    /// # Errors
    /// When the factor is not a number in range.
    pub fn new(factor: f64) -> Result<Self, SpeedOutOfRange> {
        if (Self::MIN..=Self::MAX).contains(&factor) {
            Ok(Self(factor))
        } else {
            Err(SpeedOutOfRange)
        }
    }

    /// The same traffic in a world whose cars move `times` as fast.
    ///
    /// # Errors
    /// When the product is out of range.
    pub fn times(self, times: f64) -> Result<Self, SpeedOutOfRange> {
        Self::new(self.0 * times)
    }

    /// The factor on free-flow speeds.
    #[must_use]
    pub fn factor(self) -> f64 {
        self.0
    }
}

impl Default for Speed {
    fn default() -> Self {
        Self::CONGESTED
    }
}

impl FromStr for Speed {
    type Err = SpeedOutOfRange;
    fn from_str(text: &str) -> Result<Self, SpeedOutOfRange> {
        text.parse().map_err(|_| SpeedOutOfRange).and_then(Self::new)
    }
}
