//! When people ride and how far: measured in Manhattan in 2018, see `loadgen/data/README.md`.

use anyhow::{Context, ensure};
use rand::{Rng, RngExt};
use serde::Deserialize;

const MEASURED: &str = include_str!("../../data/demand.json");

const QUARTERS_A_DAY: usize = 96;
const HOURS_A_QUARTER: f64 = 0.25;

/// Demand through a week and the lengths of rides.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Thousandths of a mean day's rides, quarter hour by quarter hour, one row a day.
    days: Vec<Vec<f64>>,
    /// Length that so many per cent of the rides do not exceed, from 0 to 100.
    length_km_percentiles: Vec<f64>,
}

#[derive(Deserialize)]
struct Measured {
    quarter_per_mille_of_mean_day: Vec<Vec<f64>>,
    length_km_percentiles: Vec<f64>,
}

impl Profile {
    /// What comes with the code: five weekdays, Monday first.
    ///
    /// # Errors
    /// When the embedded figures are damaged.
    pub fn measured() -> anyhow::Result<Self> {
        let measured: Measured = serde_json::from_str(MEASURED).context("demand profile")?;
        let days = measured.quarter_per_mille_of_mean_day;
        ensure!(!days.is_empty(), "demand profile without days");
        ensure!(days.iter().all(|day| day.len() == QUARTERS_A_DAY), "a day has 96 quarters");
        ensure!(measured.length_km_percentiles.len() > 1, "demand profile without lengths");
        Ok(Self { days, length_km_percentiles: measured.length_km_percentiles })
    }

    /// The same lengths, but as many rides at every hour.
    #[must_use]
    pub fn steady(self) -> Self {
        Self { days: vec![vec![1000.0 / 96.0; QUARTERS_A_DAY]], ..self }
    }

    /// How busy it is so many hours after the first Monday began: 1 is the mean of the week. After
    /// the last day comes the first again.
    #[must_use]
    pub fn intensity(&self, hours: f64) -> f64 {
        let quarter = (hours / HOURS_A_QUARTER).max(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
        let quarter = quarter as usize;
        let day = self.days.get(quarter / QUARTERS_A_DAY % self.days.len().max(1));
        let share = day.and_then(|day| day.get(quarter % QUARTERS_A_DAY)).copied().unwrap_or(0.0);
        share * 96.0 / 1000.0
    }

    /// The busiest quarter's [`Self::intensity`].
    #[must_use]
    pub fn peak(&self) -> f64 {
        self.days.iter().flatten().copied().fold(0.0, f64::max) * 96.0 / 1000.0
    }

    /// How long a ride is that somebody wants, in metres along a street grid.
    pub fn draw_length_m(&self, rng: &mut impl Rng) -> f64 {
        let steps = self.length_km_percentiles.windows(2);
        let at = rng.random_range(0..steps.len());
        let within: f64 = rng.random();
        match self.length_km_percentiles.get(at..at + 2) {
            Some([low, high]) => (low + (high - low) * within) * 1000.0,
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Profile;
    use rand::{SeedableRng, rngs::ChaCha8Rng};

    #[test]
    fn a_week_of_quarters_sums_to_its_mean() {
        let profile = Profile::measured().unwrap();
        let quarters = (0..5 * 96).map(|quarter| f64::from(quarter) / 4.0 + 0.1);
        let mean = quarters.map(|hours| profile.intensity(hours)).sum::<f64>() / (5.0 * 96.0);
        assert!((mean - 1.0).abs() < 0.002, "{mean}");
    }

    #[test]
    fn the_evening_is_busier_than_the_early_morning_and_the_week_comes_again() {
        let profile = Profile::measured().unwrap();
        let (morning, evening) = (profile.intensity(4.25), profile.intensity(18.75));
        assert!(evening > 8.0 * morning, "{morning} {evening}");
        assert!((profile.intensity(5.0 * 24.0 + 18.75) - evening).abs() < 1e-9);
        assert!(profile.peak() >= evening);
    }

    #[test]
    fn a_steady_city_is_always_as_busy() {
        let steady = Profile::measured().unwrap().steady();
        assert!((steady.intensity(4.25) - 1.0).abs() < 1e-9);
        assert!((steady.peak() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn half_the_rides_are_shorter_than_two_and_a_half_kilometres() {
        let profile = Profile::measured().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut lengths: Vec<f64> = (0..4001).map(|_| profile.draw_length_m(&mut rng)).collect();
        lengths.sort_by(f64::total_cmp);
        assert!((2300.0..2800.0).contains(&lengths[2000]), "{}", lengths[2000]);
    }
}
