//! Whether this process may open as many connections as a city needs. Both ends of each are in it.

use super::DemoConfig;

/// Log, stores, listeners, the broker's connections.
const OTHER_FILES: u64 = 400;
/// Rides last a few minutes, and each rider listens.
const RIDE_MINUTES: f64 = 5.0;
/// More is never needed.
const FILES_WANTED_MAX: u64 = 65_536;

/// Asks for as many open files as the system allows, and makes the city smaller where that is not
/// enough; then it says so.
pub(super) fn fit(config: &mut DemoConfig, say: &mut dyn FnMut(&str)) {
    match rlimit::increase_nofile_limit(FILES_WANTED_MAX) {
        Ok(allowed) => shrink(config, allowed, say),
        Err(err) => tracing::debug!(error = %err, "the limit of open files is not known"),
    }
}

fn shrink(config: &mut DemoConfig, allowed: u64, say: &mut dyn FnMut(&str)) {
    let needed = needed(config);
    if needed <= allowed {
        return;
    }
    let room = allowed.saturating_sub(OTHER_FILES).max(1);
    let part = |whole: u64| (whole * room / needed.max(1)).max(1);
    config.on_shift = part(config.on_shift);
    config.connections = usize::try_from(part(config.connections as u64)).unwrap_or(1);
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let share = room as f64 / needed.max(1) as f64;
    config.rides_per_minute *= share;
    say(&format!(
        "only {allowed} files may be open here and the city wanted {needed} (see `ulimit -n`): \
         {} drivers take rides, {:.0} rides a minute are wanted",
        config.on_shift, config.rides_per_minute
    ));
}

/// A driver on shift listens and sends; a rider listens; what they ask shares connections.
fn needed(config: &DemoConfig) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate that is never negative"
    )]
    let riders = (config.rides_per_minute.max(0.0) * RIDE_MINUTES) as u64;
    let connections = config.connections as u64 * 2;
    2 * (config.on_shift + riders + connections) + OTHER_FILES
}

#[cfg(test)]
mod tests {
    use super::{needed, shrink};
    use crate::demo::DemoConfig;
    use clap::{Args as _, FromArgMatches as _};

    fn demo() -> DemoConfig {
        let command = DemoConfig::augment_args(clap::Command::new("demo"));
        DemoConfig::from_arg_matches(&command.get_matches_from(["demo"])).unwrap()
    }

    #[test]
    fn a_city_that_fits_is_left_alone() {
        let mut config = demo();
        let mut said = 0;
        shrink(&mut config, 20_000, &mut |_| said += 1);
        assert_eq!((config.on_shift, said), (demo().on_shift, 0));
    }

    #[test]
    fn a_city_that_does_not_fit_becomes_smaller_and_says_so() {
        let mut config = demo();
        let mut said = Vec::new();
        shrink(&mut config, 1_024, &mut |text| said.push(text.to_owned()));
        assert!(needed(&config) <= 1_024, "{config:?}");
        assert!(config.on_shift > 50, "{config:?}");
        assert!(said.len() == 1 && said[0].contains("1024"), "{said:?}");
    }
}
