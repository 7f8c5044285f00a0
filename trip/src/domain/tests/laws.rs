//! Laws that hold whatever is wanted in whatever order.

use std::time::Duration;

use common::{
    clock::Timestamp,
    id::{DriverId, OfferId, RiderId},
};
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
use uuid::Uuid;

use super::given::{self, ANNA, BELA, CEM, OTHER_RIDER, RIDER};
use crate::domain::{
    OFFERS_MAX, OfferEnd, OfferStatus, Phase, Search, TimerKind, Trip, TripCommand, TripEvent,
    decide, evolve, releases,
};

const TIMERS: [TimerKind; 5] = [
    TimerKind::MatchDeadline,
    TimerKind::OfferLease,
    TimerKind::PickupWatchdog,
    TimerKind::NoShowWait,
    TimerKind::RideWatchdog,
];

/// A wish that is made concrete against the trip as it stands, so that most of them make sense.
#[derive(Debug, Clone)]
struct Wish {
    what: u8,
    driver: DriverId,
    rider: RiderId,
    /// Towards the trip's own offer and driver; else to any.
    fitting: bool,
    flag: bool,
    number: u8,
    after: Duration,
}

fn wish() -> impl Strategy<Value = Wish> {
    let driver = prop::sample::select(vec![ANNA, BELA, CEM]);
    let rider = prop::sample::select(vec![RIDER, RIDER, RIDER, OTHER_RIDER]);
    (0_u8..22, driver, rider, prop::bool::weighted(0.8), any::<bool>(), any::<u8>(), 0_u64..90)
        .prop_map(|(what, driver, rider, fitting, flag, number, seconds)| Wish {
            what,
            driver,
            rider,
            fitting,
            flag,
            number,
            after: Duration::from_secs(seconds),
        })
}

fn offer_number(number: u8) -> OfferId {
    OfferId(Uuid::from_u128(1_000 + u128::from(number)))
}

impl Wish {
    fn command(&self, trip: &Trip) -> TripCommand {
        let open = trip.search().and_then(Search::open).filter(|_| self.fitting);
        let offer = open.map_or(offer_number(self.number), |open| open.offer);
        let accepting = open.map_or(self.driver, |open| open.driver);
        let assigned = trip.assignment().filter(|_| self.fitting);
        let driver = assigned.map_or(self.driver, |assignment| assignment.driver);
        let reason = given::reason("other");
        let stars = given::stars(u32::from(self.number % 5) + 1);
        let ends = [OfferEnd::Declined, OfferEnd::Lapsed, OfferEnd::Busy, OfferEnd::Lost];
        match self.what {
            0..3 => given::request(),
            3..6 => given::offer(self.driver, offer_number(self.number)),
            6..9 => TripCommand::Assign { driver: accepting, offer },
            9 => TripCommand::CloseOffer { offer, why: ends[usize::from(self.number % 4)] },
            10 => TripCommand::CancelByRider { rider: self.rider, reason, asked_at: given::at(0) },
            11 => TripCommand::CancelByDriver { driver, reason },
            12 => given::arrive(driver, given::pickup(), self.flag),
            13 => TripCommand::NoShow { driver },
            14 => {
                let pin = if self.flag { "0417" } else { "0000" };
                TripCommand::Start { driver, pin: given::pin(pin) }
            }
            15 => given::complete(driver),
            16 => TripCommand::RateByRider { rider: self.rider, stars },
            17 => TripCommand::RateByDriver { driver, stars },
            18 => TripCommand::Close { completed: self.flag, reason },
            19 => TripCommand::UnlockPin,
            20 => due(TIMERS[usize::from(self.number) % TIMERS.len()]),
            _ => TripCommand::EndWait,
        }
    }
}

fn due(kind: TimerKind) -> TripCommand {
    match kind {
        TimerKind::MatchDeadline => TripCommand::EndSearch,
        TimerKind::OfferLease => TripCommand::EndLease,
        TimerKind::PickupWatchdog => TripCommand::EndPickup,
        TimerKind::NoShowWait => TripCommand::EndWait,
        TimerKind::RideWatchdog => TripCommand::MarkStalled,
    }
}

/// Every event with the state before and after it, and the command that made it.
struct Step {
    before: Trip,
    command: TripCommand,
    event: TripEvent,
    after: Trip,
    at: Timestamp,
}

fn play(wishes: &[Wish]) -> Vec<Step> {
    let (mut trip, mut now, mut steps) = (Trip::Unknown, given::at(0), Vec::new());
    for wish in wishes {
        now = now.plus(wish.after);
        let command = wish.command(&trip);
        if let Ok(Some(event)) = decide(&trip, &command, now) {
            let after = evolve(trip.clone(), &event, now);
            steps.push(Step { before: trip, command, event, after: after.clone(), at: now });
            trip = after;
        }
    }
    steps
}

fn is_rating(event: &TripEvent) -> bool {
    matches!(event, TripEvent::Rated { .. })
}

proptest! {
    #[test]
    fn repeating_a_command_says_nothing(wishes in prop::collection::vec(wish(), 1..80)) {
        for step in play(&wishes) {
            let again = decide(&step.after, &step.command, step.at);
            // A wrong PIN told again is another try; its repetition is known by its command id.
            let counts = matches!(step.event, TripEvent::PinRefused { .. });
            prop_assert!(counts || !matches!(again, Ok(Some(_))), "{again:?} after {:?}", step.event);
        }
    }

    #[test]
    fn nothing_but_ratings_follows_the_end(wishes in prop::collection::vec(wish(), 1..80)) {
        for step in play(&wishes) {
            prop_assert!(!step.before.is_over() || is_rating(&step.event), "{:?}", step.event);
        }
    }

    #[test]
    fn every_offer_has_exactly_one_end_and_at_most_one_is_open(
        wishes in prop::collection::vec(wish(), 1..120),
    ) {
        for step in play(&wishes) {
            let Some(search) = step.after.search() else { continue };
            let open = |status: OfferStatus| matches!(status, OfferStatus::Open { .. });
            prop_assert!(search.offers.iter().filter(|record| open(record.status)).count() <= 1);
            prop_assert!(search.offers.len() <= OFFERS_MAX);
            prop_assert!(search.open().is_none() || step.after.phase() == Some(Phase::Matching));
            let before = step.before.search().cloned().unwrap_or_default();
            for record in &before.offers {
                let after = search.record(record.offer).map(|record| record.status);
                prop_assert!(open(record.status) || after == Some(record.status));
            }
        }
    }

    #[test]
    fn a_completed_trip_was_requested_assigned_arrived_and_started_in_this_order(
        wishes in prop::collection::vec(wish(), 1..120),
    ) {
        for Step { after, .. } in play(&wishes) {
            let Trip::Completed(trip) = after else { continue };
            let times =
                [trip.request.at, trip.assignment.at, trip.arrival.at, trip.started_at, trip.at];
            prop_assert!(times.is_sorted(), "{times:?}");
            let assigned = trip.search.record(trip.assignment.offer).map(|record| record.status);
            prop_assert_eq!(assigned, Some(OfferStatus::Assigned));
            prop_assert_eq!(trip.fare, trip.request.quote.fare);
        }
    }

    #[test]
    fn whoever_is_bound_is_released_when_the_trip_lets_go(
        wishes in prop::collection::vec(wish(), 1..120),
    ) {
        let bound = |trip: &Trip| {
            let open = trip.search().and_then(Search::open).map(|open| open.driver);
            let assigned = (!trip.is_over()).then(|| trip.assignment()).flatten();
            open.or(assigned.map(|assignment| assignment.driver))
        };
        for Step { before, event, after, .. } in play(&wishes) {
            let let_go = bound(&before).filter(|_| bound(&after).is_none());
            let knows = matches!(event, TripEvent::OfferClosed { why, .. } if !why.is_unknown_to_the_driver());
            let released = releases(&event, &after).map(|release| release.driver);
            prop_assert_eq!(released, let_go.filter(|_| !knows));
        }
    }

    #[test]
    fn a_timer_is_waited_for_exactly_while_it_would_do_something(
        wishes in prop::collection::vec(wish(), 1..80),
    ) {
        for Step { after, at, .. } in play(&wishes) {
            for kind in TIMERS {
                let does = matches!(decide(&after, &due(kind), at), Ok(Some(_)));
                prop_assert_eq!(after.waits_for(kind), does, "{:?} in {:?}", kind, after);
            }
        }
    }

    #[test]
    fn folding_any_events_in_any_order_never_panics(
        wishes in prop::collection::vec(wish(), 1..60),
        order in any::<prop::sample::Index>(),
    ) {
        let mut events: Vec<_> = play(&wishes).into_iter().map(|step| step.event).collect();
        if !events.is_empty() {
            let by = order.index(events.len());
            events.rotate_left(by);
            events.reverse();
        }
        let folded = events.iter().fold(Trip::Unknown, |trip, event| evolve(trip, event, given::at(1)));
        prop_assert!(folded.search().is_none_or(|search| search.offers.len() <= OFFERS_MAX));
    }
}

#[test]
fn random_wishes_do_reach_every_phase() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut reached = std::collections::HashSet::new();
    for _ in 0..400 {
        let wishes = prop::collection::vec(wish(), 120).new_tree(&mut runner).unwrap().current();
        reached.extend(play(&wishes).iter().filter_map(|step| step.after.phase()));
    }
    assert_eq!(reached.len(), 7, "{reached:?}");
}
