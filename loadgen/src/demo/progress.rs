//! The live line: how the city does, on a terminal in place, elsewhere a line every ten seconds.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::watch::Watch;
use crate::{city::Progress, journal::PingTotals, report::grouped};

const LINE_EVERY: Duration = Duration::from_secs(10);
const TERMINAL_EVERY: Duration = Duration::from_millis(500);
/// Rates are those of the last so many seconds.
const RATE_OVER: Duration = Duration::from_secs(10);

/// What people are told while something runs. On a terminal it stands above the live line.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    bar: Option<ProgressBar>,
}

impl Voice {
    /// Speaks on standard error.
    #[must_use]
    pub(super) fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = is_terminal.then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        Self { bar }
    }

    /// Says something that stays.
    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // Where standard error is gone nobody listens.
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    /// Says how the city does, until it is over.
    pub(super) async fn follow(&self, progress: &Progress, watch: &Watch, over: CancellationToken) {
        let every = if self.bar.is_some() { TERMINAL_EVERY } else { LINE_EVERY };
        let started = Instant::now();
        let mut ticks = tokio::time::interval(every);
        let mut before = vec![(started, PingTotals::default())];
        while over.run_until_cancelled(ticks.tick()).await.is_some() {
            let now = (Instant::now(), progress.pings());
            before.retain(|(at, _)| at.elapsed() <= RATE_OVER + every);
            before.push(now);
            let first = before.first().copied().unwrap_or(now);
            let mut line = line(progress, started.elapsed(), first, now);
            if let Some(broken) = watch.broken() {
                line.push_str(&format!(" | {broken} violations"));
            }
            match &self.bar {
                Some(bar) => {
                    bar.set_message(line);
                    bar.tick();
                }
                None => self.say(&line),
            }
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Default for Voice {
    fn default() -> Self {
        Self::new()
    }
}

fn line(
    progress: &Progress,
    lived: Duration,
    (then, before): (Instant, PingTotals),
    (at, pings): (Instant, PingTotals),
) -> String {
    let seconds = at.duration_since(then).as_secs_f64().max(f64::MIN_POSITIVE);
    let a_minute = |now: u64, before: u64| {
        #[expect(clippy::cast_precision_loss, reason = "a rate, to be read")]
        let rate = now.saturating_sub(before) as f64 * 60.0 / seconds;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "never negative, and to be read"
        )]
        grouped(rate.round() as u64)
    };
    let pulse = progress.pulse();
    let cancelled = pulse.cancelled_by_rider.get()
        + pulse.cancelled_by_driver.get()
        + pulse.cancelled_otherwise.get();
    format!(
        "{:02}:{:02} | {} drivers online | pings/min {} accepted, {} rejected | rides: {} requested, \
         {} open, {} completed, {cancelled} cancelled, {} unfulfilled",
        lived.as_secs() / 60,
        lived.as_secs() % 60,
        grouped(pulse.drivers_online.get()),
        a_minute(pings.accepted, before.accepted),
        a_minute(pings.rejected, before.rejected),
        grouped(pulse.rides_requested.get()),
        grouped(pulse.rides_open.get()),
        grouped(pulse.completed.get()),
        grouped(pulse.unfulfilled.get()),
    )
}
