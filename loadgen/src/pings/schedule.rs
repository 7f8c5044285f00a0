//! When each request is meant to be sent, whether or not the service is ready: an open loop. A
//! stall of the service therefore shows in the latency of every request that it held up.

use std::time::Duration;

use tokio::time::Instant;

/// Tokio's timers wake on whole milliseconds: so much of a delay is our own and not the service's.
const TIMER_GRAIN: Duration = Duration::from_millis(1);

/// The intended times of one of several lines that share a rate.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    start: Instant,
    gap: Duration,
}

impl Schedule {
    /// Line `line` of `lines`, which together send `per_second` requests. The lines are spread
    /// evenly over the gap, so that requests do not come in bursts.
    #[must_use]
    pub fn new(start: Instant, per_second: f64, line: usize, lines: usize) -> Self {
        let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        let gap_s = count(lines.max(1)) / per_second.max(f64::MIN_POSITIVE);
        let gap = Duration::try_from_secs_f64(gap_s).unwrap_or(Duration::MAX);
        let offset = Duration::try_from_secs_f64(count(line) / per_second.max(f64::MIN_POSITIVE));
        let start = start.checked_add(offset.unwrap_or_default()).unwrap_or(start);
        Self { start, gap }
    }

    /// When request `number` is to be sent, from 0; `None` when it never will be.
    #[must_use]
    pub fn at(&self, number: u32) -> Option<Instant> {
        self.gap.checked_mul(number).and_then(|after| self.start.checked_add(after))
    }

    /// How many requests should have been sent between two moments.
    #[must_use]
    pub fn missed(&self, since: Instant, now: Instant) -> u32 {
        let late = now.saturating_duration_since(since).as_nanos();
        u32::try_from(late / self.gap.as_nanos().max(1)).unwrap_or(u32::MAX)
    }
}

/// How long a request took from its intended time. A late wake-up of our own timer does not count,
/// a line that was still busy does.
#[must_use]
pub fn latency(intended: Instant, sent: Instant, answered: Instant) -> Duration {
    answered.saturating_duration_since(sent.min(intended + TIMER_GRAIN).max(intended))
}

#[cfg(test)]
mod tests {
    use super::{Schedule, latency};
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn lines_share_the_rate_evenly() {
        let start = Instant::now();
        let mut times: Vec<Duration> = (0..4)
            .flat_map(|line| {
                let schedule = Schedule::new(start, 100.0, line, 4);
                (0..25).map(move |number| schedule.at(number).unwrap() - start)
            })
            .collect();
        times.sort();
        let wanted: Vec<Duration> = (0..100).map(|at| Duration::from_millis(at * 10)).collect();
        let close =
            |(time, wanted): (&Duration, &Duration)| time.abs_diff(*wanted).as_micros() < 10;
        assert!(times.iter().zip(&wanted).all(close), "{times:?}");
    }

    #[test]
    fn a_stall_counts_for_every_request_that_it_held_up() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 1000.0, 0, 1);
        // The first answer takes a second; the others, sent after it one by one, take 1 ms each.
        let mut free_at = start;
        let mut latencies = Vec::new();
        for number in 0..500 {
            let intended = schedule.at(number).unwrap();
            let sent = free_at.max(intended);
            let took = if number == 0 { Duration::from_secs(1) } else { Duration::from_millis(1) };
            free_at = sent + took;
            latencies.push(latency(intended, sent, free_at));
        }
        let held_up = latencies.iter().filter(|latency| **latency > Duration::from_millis(900));
        assert_eq!(held_up.count(), 500);
    }

    #[test]
    fn who_is_late_knows_how_many_were_missed() {
        let schedule = Schedule::new(Instant::now(), 100.0, 0, 1);
        let first = schedule.at(0).unwrap();
        let after = |ms| schedule.missed(first, first + Duration::from_millis(ms));
        assert_eq!([0, 9, 10, 1005].map(after), [0, 0, 1, 100]);
    }

    #[test]
    fn our_own_timers_grain_is_not_the_services_latency() {
        let intended = Instant::now();
        let ms = Duration::from_millis;
        assert_eq!(latency(intended, intended + ms(1), intended + ms(3)), ms(2));
        assert_eq!(latency(intended, intended + ms(5), intended + ms(7)), ms(6));
    }
}
