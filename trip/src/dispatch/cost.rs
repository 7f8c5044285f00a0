//! What a pair costs, in seconds: the driver's way to the pickup, less small credits for a driver
//! who has been idle and a rider who has been waiting; and how far away a driver may be.

use std::time::Duration;

use common::clock::Timestamp;

use super::config::PickupCap;

/// A driver's credit: a second for each minute without a ride. It decides between near equals only.
const IDLE_CREDIT_PER: Duration = Duration::from_secs(60);
/// The most a driver can be credited, seconds.
const IDLE_CREDIT_MAX_S: u64 = 30;
/// A rider's credit: a second for each two waited. Where drivers are scarce it serves first who came
/// first; where they are not it changes nothing, for it is the same for all drivers.
const AGE_CREDIT_PER: Duration = Duration::from_secs(2);
/// The most a rider can be credited, seconds.
const AGE_CREDIT_MAX_S: u64 = 120;

/// What an offer that came to nothing costs its driver at the next try, seconds. Who was busy or not
/// heard may be asked again for the same trip, but only if nobody else is about as near.
const FAILED_OFFER_S: i64 = 180;

/// What decides how dear a pair is.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// The driver's way to the pickup.
    pub eta_s: u32,
    /// Since when the driver is without a ride.
    pub idle_since: Option<Timestamp>,
    /// Since when the rider waits.
    pub requested_at: Timestamp,
    /// Offers of this trip to this driver that came to nothing.
    pub failed_offers: u32,
}

/// The cost of a pair, in seconds; may be negative.
#[must_use]
pub fn cost(pair: &Pair, now: Timestamp) -> i32 {
    let idle = pair.idle_since.map_or(Duration::ZERO, |since| now.since(since));
    let idle_credit = credit(idle, IDLE_CREDIT_PER, IDLE_CREDIT_MAX_S);
    let age_credit = credit(now.since(pair.requested_at), AGE_CREDIT_PER, AGE_CREDIT_MAX_S);
    let failed = i64::from(pair.failed_offers) * FAILED_OFFER_S;
    i32::try_from(i64::from(pair.eta_s) + failed - idle_credit - age_credit).unwrap_or(i32::MAX)
}

fn credit(lasted: Duration, per: Duration, max: u64) -> i64 {
    let earned = lasted.as_secs() / per.as_secs().max(1);
    i64::try_from(earned.min(max)).unwrap_or(0)
}

impl PickupCap {
    /// The longest way to the pickup after so many rounds that found nobody.
    #[must_use]
    pub fn eta_max_s(&self, failed_rounds: u32) -> u32 {
        let widened = self.eta_widening_s.saturating_mul(failed_rounds);
        self.eta_first_s.saturating_add(widened).min(self.eta_max_s.max(self.eta_first_s))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::clock::Timestamp;

    use super::{Pair, PickupCap, cost};

    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

    fn ago(seconds: u64) -> Timestamp {
        let micros = i64::try_from(Duration::from_secs(seconds).as_micros()).unwrap();
        Timestamp::from_micros(NOW.micros() - micros)
    }

    fn pair(eta_s: u32, idle_since: Option<Timestamp>, requested_at: Timestamp) -> Pair {
        Pair { eta_s, idle_since, requested_at, failed_offers: 0 }
    }

    #[test]
    fn a_pair_costs_the_way_to_the_pickup() {
        assert_eq!(cost(&pair(240, None, NOW), NOW), 240);
        assert_eq!(cost(&pair(240, Some(NOW), NOW), NOW), 240);
    }

    #[test]
    fn of_two_drivers_equally_near_the_one_who_was_idle_for_longer_is_cheaper() {
        assert_eq!(cost(&pair(240, Some(ago(600)), NOW), NOW), 230);
        assert_eq!(cost(&pair(240, Some(ago(36_000)), NOW), NOW), 210, "the credit has a limit");
    }

    #[test]
    fn who_waited_longer_is_served_first_but_not_for_ever_cheaper() {
        assert_eq!(cost(&pair(240, None, ago(60)), NOW), 210);
        assert_eq!(cost(&pair(60, None, ago(36_000)), NOW), -60);
    }

    #[test]
    fn who_could_not_take_the_offer_is_asked_again_only_if_nobody_else_is_about_as_near() {
        let again = Pair { failed_offers: 1, ..pair(60, None, NOW) };
        assert!(cost(&again, NOW) > cost(&pair(230, None, NOW), NOW));
        assert!(cost(&again, NOW) < cost(&pair(250, None, NOW), NOW));
    }

    #[test]
    fn a_time_in_the_future_earns_nothing() {
        let later = NOW.plus(Duration::from_secs(60));
        assert_eq!(cost(&pair(240, Some(later), later), NOW), 240);
    }

    #[test]
    fn the_reach_widens_with_every_failed_round_up_to_its_limit() {
        let cap = PickupCap::default();
        let reach: Vec<u32> = (0..6).map(|rounds| cap.eta_max_s(rounds)).collect();
        assert_eq!(reach, [480, 600, 720, 840, 900, 900]);
        assert_eq!(cap.eta_max_s(u32::MAX), 900);
    }
}
