//! Which faults are on, how likely each is, and the one draw that decides about a frame.

use std::{ops::RangeInclusive, time::Duration};

use common::stream::ACK_WAIT;
use rand::{Rng, RngExt as _};

use super::counts::{Fault, PerFault};

/// The probability of every kind of fault, each from 0 to 1. Of those that can hit the same frame
/// at most one does, so their sum should not exceed 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates(PerFault<f64>);

impl Rates {
    /// Nothing fails.
    pub const NONE: Self = Self(PerFault::all(0.0));

    /// The same, but with this probability of this fault. What is no probability is brought into
    /// its bounds.
    #[must_use]
    pub fn with(mut self, fault: Fault, probability: f64) -> Self {
        let probability = if probability.is_nan() { 0.0 } else { probability.clamp(0.0, 1.0) };
        self.0.set(fault, probability);
        self
    }

    /// The same probability for each of these.
    #[must_use]
    pub fn each(faults: &[Fault], probability: f64) -> Self {
        faults.iter().fold(Self::NONE, |rates, fault| rates.with(*fault, probability))
    }

    /// How likely this fault is.
    #[must_use]
    pub fn of(&self, fault: Fault) -> f64 {
        self.0.get(fault).unwrap_or(0.0)
    }

    /// One draw among the faults that could hit.
    pub(super) fn draw(&self, candidates: &[Fault], chance: &mut impl Rng) -> Option<Fault> {
        let sum: f64 = candidates.iter().map(|fault| self.of(*fault)).sum();
        if sum <= 0.0 {
            return None;
        }
        let mut left: f64 = chance.random();
        candidates.iter().copied().find(|fault| {
            left -= self.of(*fault);
            left < 0.0
        })
    }
}

/// The faults that are on.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// How likely each is.
    pub rates: Rates,
    /// Other rates for what belongs to these streams, so that a plan can spare the pings, or hit
    /// nothing but facts.
    pub of_stream: Vec<(String, Rates)>,
    /// How late a delayed publish comes.
    pub publish_delay: RangeInclusive<Duration>,
    /// How late a delayed delivery comes.
    pub delivery_delay: RangeInclusive<Duration>,
    /// How late a delayed HTTP request comes.
    pub request_delay: RangeInclusive<Duration>,
    /// How long what stalls stands still.
    pub stall: RangeInclusive<Duration>,
}

impl Default for Faults {
    /// None; delays that matter where one is turned on.
    fn default() -> Self {
        Self {
            rates: Rates::NONE,
            of_stream: Vec::new(),
            publish_delay: Duration::from_millis(50)..=Duration::from_secs(3),
            delivery_delay: ACK_WAIT + Duration::from_millis(100)..=ACK_WAIT * 2,
            request_delay: Duration::from_millis(20)..=Duration::from_millis(500),
            stall: Duration::from_millis(100)..=Duration::from_secs(1),
        }
    }
}

impl Faults {
    /// These rates for everything, with the usual delays.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self { rates, ..Self::default() }
    }

    /// Other rates for what belongs to this stream; for deliveries and acks of a consumer, or of all
    /// whose names begin so, `<stream>.<consumer>`. The first that fits counts.
    #[must_use]
    pub fn of_stream(mut self, stream: &str, rates: Rates) -> Self {
        self.of_stream.push((stream.to_owned(), rates));
        self
    }

    pub(super) fn rates(&self, owner: Option<&str>) -> &Rates {
        let fits = |name: &str, owner: &str| {
            owner
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || name.contains('.'))
        };
        self.of_stream
            .iter()
            .find(|(name, _)| owner.is_some_and(|owner| fits(name, owner)))
            .map_or(&self.rates, |(_, rates)| rates)
    }
}

/// Which way a process is cut off from the broker. What a partition holds back is not lost: as with
/// TCP, it arrives when the partition heals before either side has given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Partition {
    /// Not at all.
    #[default]
    None,
    /// The broker hears nothing of the process.
    ToBroker,
    /// The process hears nothing of the broker.
    FromBroker,
    /// Neither hears the other.
    Both,
    /// Standing connections are reset; new ones are accepted, and nothing ever comes.
    HalfOpen,
}

#[cfg(test)]
mod tests {
    use super::{Fault, Faults, Rates};

    #[test]
    fn rates_of_a_stream_are_those_of_its_consumers_unless_these_have_their_own() {
        let rates = |rate| Rates::NONE.with(Fault::DeliveryDropped, rate);
        let faults = Faults::new(rates(0.1))
            .of_stream("PINGS.location-pings", rates(0.2))
            .of_stream("PINGS", rates(0.3));
        let of = |owner| faults.rates(owner).of(Fault::DeliveryDropped);
        for (owner, rate) in [
            (Some("PINGS.location-pings-7"), 0.2),
            (Some("PINGS.x7f"), 0.3),
            (Some("PINGS"), 0.3),
            (Some("PINGSTORE"), 0.1),
            (None, 0.1),
        ] {
            assert!((of(owner) - rate).abs() < f64::EPSILON, "{owner:?}");
        }
    }
}
