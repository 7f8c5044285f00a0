//! What a driver decides: a function of what the phone shows and of the driver's own dice.

use std::time::Duration;

use rand::{Rng, RngExt};
use uuid::Uuid;

use crate::{
    city::views::{DriverView, Duty, Offer, Status, ms},
    pulse::Pulse,
};

/// What the phone shows, as far as it changes what the driver does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Situation {
    Unknown,
    OffDuty,
    Idle,
    Offered { offer: Uuid },
    Confirming { trip: Uuid },
    OnTrip { trip: Uuid, status: Status },
    Over { trip: Uuid },
}

impl Situation {
    pub(super) fn of(view: &DriverView) -> Self {
        if let Some(trip) = &view.trip {
            let (id, status) = (trip.trip_id, trip.status);
            return match status {
                Status::Confirming => Self::Confirming { trip: id },
                Status::Assigned | Status::Arrived | Status::InProgress => {
                    Self::OnTrip { trip: id, status }
                }
                Status::Matching | Status::Completed | Status::Cancelled | Status::Unfulfilled => {
                    Self::Over { trip: id }
                }
            };
        }
        match (&view.offer, view.duty) {
            (Some(offer), _) => Self::Offered { offer: offer.offer_id },
            (None, Duty::Online) => Self::Idle,
            (None, Duty::Offline | Duty::Finishing) => Self::OffDuty,
        }
    }
}

/// What a driver does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Look,
    GoOnline,
    Cruise,
    TakeBreak,
    Accept { offer: Uuid },
    Decline { offer: Uuid },
    Ignore,
    Arrive { trip: Uuid, is_lost_among_houses: bool },
    HearPin { trip: Uuid },
    Start { trip: Uuid, pin: String },
    Complete { trip: Uuid },
    GiveBack { trip: Uuid, reason: &'static str },
    Die,
}

/// Share of the waits for an offer that end with a break, and of the offers that do.
const BREAKS: f64 = 0.03;
const BREAKS_INSTEAD: f64 = 0.01;
/// Share of the offers that are declined when the pickup is near, and for every minute more.
const DECLINED_NEAR: f64 = 0.06;
const DECLINED_PER_MINUTE: f64 = 0.012;
const DECLINED_MAX: f64 = 0.3;
/// Share of the offers that are not looked at.
const IGNORED: f64 = 0.03;
/// Share of the acceptances in the very last moment, some of them too late.
const AT_THE_LAST_MOMENT: f64 = 0.03;
/// Shares of the ways to a pickup that end with the driver's cancel or the phone's death.
const GIVEN_BACK: f64 = 0.02;
const DEATHS: f64 = 0.005;
/// Share of the arrivals at which the phone believes to be elsewhere, and its driver insists.
const LOST_AMONG_HOUSES: f64 = 0.01;
/// Share of the waits at the kerb that end with an emergency.
const EMERGENCIES: f64 = 0.003;
const MISTYPED: f64 = 0.06;

/// One driver's character.
#[derive(Debug)]
pub(super) struct Mind {
    /// Median time to think about an offer.
    thinks_ms: u64,
    last_wrong: bool,
}

impl Mind {
    pub(super) fn new(rng: &mut impl Rng) -> Self {
        Self { thinks_ms: rng.random_range(800..3500), last_wrong: false }
    }

    /// Nothing to do: drives to another place after a while, or has lunch.
    pub(super) fn idle(&self, rng: &mut impl Rng) -> (Step, Duration) {
        let step = if rng.random_bool(BREAKS) { Step::TakeBreak } else { Step::Cruise };
        (step, ms(rng.random_range(1000..45_000)))
    }

    /// An offer: accept, decline or ignore it, or have lunch instead, after so long.
    pub(super) fn consider(&self, offer: &Offer, rng: &mut impl Rng) -> (Step, Duration) {
        let minutes = Duration::from_millis(offer.pickup_eta_in_ms).as_secs_f64() / 60.0;
        let declined = (DECLINED_NEAR + DECLINED_PER_MINUTE * minutes).min(DECLINED_MAX);
        let die = rng.random::<f64>();
        let thinking = ms(self.thinks_ms.saturating_mul(rng.random_range(50..150)) / 100);
        let left = ms(offer.expires_in_ms);
        let id = offer.offer_id;
        if die < IGNORED {
            (Step::Ignore, left)
        } else if die < IGNORED + declined {
            (Step::Decline { offer: id }, thinking)
        } else if die < IGNORED + declined + BREAKS_INSTEAD {
            (Step::TakeBreak, thinking)
        } else if rng.random_bool(AT_THE_LAST_MOMENT) {
            let before_or_after = rng.random_range(0..1500);
            (Step::Accept { offer: id }, (left + ms(before_or_after)).saturating_sub(ms(1000)))
        } else {
            (Step::Accept { offer: id }, thinking)
        }
    }

    /// On the way to the pickup, which takes so long.
    pub(super) fn on_the_way(
        &self,
        trip: Uuid,
        drive: Duration,
        rng: &mut impl Rng,
    ) -> (Step, Duration) {
        let die = rng.random::<f64>();
        let part = drive.mul_f64(rng.random());
        if die < GIVEN_BACK {
            (Step::GiveBack { trip, reason: "vehicle_problem" }, part)
        } else if die < GIVEN_BACK + DEATHS {
            (Step::Die, part)
        } else {
            let is_lost_among_houses = rng.random_bool(LOST_AMONG_HOUSES);
            (Step::Arrive { trip, is_lost_among_houses }, drive)
        }
    }

    pub(super) fn at_the_kerb(&self, trip: Uuid, rng: &mut impl Rng) -> (Step, Duration) {
        if rng.random_bool(EMERGENCIES) {
            (Step::GiveBack { trip, reason: "emergency" }, ms(3000))
        } else {
            (Step::HearPin { trip }, ms(500))
        }
    }

    /// On the way to the dropoff, which takes so long.
    pub(super) fn with_rider(
        &self,
        trip: Uuid,
        drive: Duration,
        rng: &mut impl Rng,
    ) -> (Step, Duration) {
        if rng.random_bool(DEATHS) {
            (Step::Die, drive.mul_f64(rng.random()))
        } else {
            (Step::Complete { trip }, drive)
        }
    }

    /// What the driver types on hearing the PIN: never wrong twice in a row.
    pub(super) fn type_pin(&mut self, pin: &str, rng: &mut impl Rng, pulse: &Pulse) -> String {
        self.last_wrong = !self.last_wrong && rng.random_bool(MISTYPED);
        if self.last_wrong {
            pulse.pins_mistyped.add();
            mistyped(pin)
        } else {
            pin.to_owned()
        }
    }
}

/// The same PIN with another last digit.
fn mistyped(pin: &str) -> String {
    let mut digits: Vec<char> = pin.chars().collect();
    let wrong = match digits.pop() {
        Some('9') | None => '0',
        Some(digit) => char::from_digit(digit.to_digit(10).unwrap_or(0) + 1, 10).unwrap_or('0'),
    };
    digits.push(wrong);
    digits.into_iter().collect()
}

/// Codes that a driver may well meet: the rider was quicker, or a finger slipped.
pub(super) fn races(verb: &str) -> &'static [&'static str] {
    match verb {
        "start" => &["pin_invalid", "trip_ended", "wrong_phase", "trip_not_found", "not_your_trip"],
        "no-show" => {
            &["wait_not_over", "trip_ended", "wrong_phase", "trip_not_found", "not_your_trip"]
        }
        "complete" => &[],
        _ => &[
            "trip_ended",
            "wrong_phase",
            "trip_not_found",
            "not_your_trip",
            "too_many_unassignments",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::{Mind, Situation, Step, mistyped};
    use crate::city::views::{DriverView, Offer};
    use rand::{SeedableRng, rngs::ChaCha8Rng};
    use serde_json::json;
    use std::time::Duration;
    use uuid::Uuid;

    fn situation(trip: &serde_json::Value, offer: &serde_json::Value) -> Situation {
        let view = json!({"driver_id": Uuid::nil(), "version": 3, "duty": "online",
            "engagement": "offered", "offer": offer, "trip": trip});
        Situation::of(&serde_json::from_value::<DriverView>(view).unwrap())
    }

    #[test]
    fn a_trip_counts_more_than_an_offer() {
        let id = Uuid::from_u128(1);
        let offer =
            json!({"offer_id": id, "trip_id": id, "expires_in_ms": 1, "pickup_eta_in_ms": 1});
        assert_eq!(situation(&json!(null), &json!(null)), Situation::Idle);
        assert_eq!(situation(&json!(null), &offer), Situation::Offered { offer: id });
        let trip = json!({"trip_id": id, "status": "confirming", "pickup": null});
        assert_eq!(situation(&trip, &offer), Situation::Confirming { trip: id });
        let trip = json!({"trip_id": id, "status": "cancelled"});
        assert_eq!(situation(&trip, &json!(null)), Situation::Over { trip: id });
    }

    #[test]
    fn most_offers_are_accepted_but_not_all_and_some_are_ignored() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mind = Mind::new(&mut rng);
        let id = Uuid::from_u128(1);
        let offer =
            Offer { offer_id: id, trip_id: id, expires_in_ms: 15_000, pickup_eta_in_ms: 60_000 };
        let steps: Vec<Step> = (0..1000).map(|_| mind.consider(&offer, &mut rng).0).collect();
        let count = |wanted: &Step| steps.iter().filter(|step| *step == wanted).count();
        assert!((850..960).contains(&count(&Step::Accept { offer: id })));
        assert!((10..60).contains(&count(&Step::Ignore)));
        assert!((30..130).contains(&count(&Step::Decline { offer: id })));
        assert!((1..40).contains(&count(&Step::TakeBreak)));
    }

    #[test]
    fn the_last_moment_lies_on_both_sides_of_the_expiry() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let mind = Mind::new(&mut rng);
        let id = Uuid::from_u128(1);
        let offer = Offer { offer_id: id, trip_id: id, expires_in_ms: 15_000, pickup_eta_in_ms: 0 };
        let late = (0..5000).filter_map(|_| match mind.consider(&offer, &mut rng) {
            (Step::Accept { .. }, after) if after > Duration::from_secs(10) => Some(after),
            _ => None,
        });
        let late: Vec<Duration> = late.collect();
        assert!(late.iter().any(|after| *after > Duration::from_millis(15_000)));
        assert!(late.iter().any(|after| *after < Duration::from_millis(15_000)));
    }

    #[test]
    fn a_mistyped_pin_is_wrong_but_a_pin() {
        assert_eq!(["1234", "0009"].map(mistyped), ["1235", "0000"]);
    }

    #[test]
    fn nobody_mistypes_twice_in_a_row() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (mut mind, pulse) = (Mind::new(&mut rng), crate::pulse::Pulse::default());
        let typed: Vec<String> =
            (0..500).map(|_| mind.type_pin("1234", &mut rng, &pulse)).collect();
        assert!(typed.iter().any(|pin| pin != "1234"));
        assert!(typed.windows(2).all(|pair| pair.contains(&"1234".to_owned())));
    }
}
