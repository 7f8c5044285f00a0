//! What holds for every history, whatever comes in whatever order.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};

use super::given::{
    START, accept, accepted, decline, declined, given, lapsed, offer, offered, online, pair,
    refused, release, released, silent_for, silent_for_too_long, went_offline,
};
use crate::domain::{
    CLOSED_OFFERS_MAX, Driver, DriverCommand, DriverEvent, OfferEnd, decide, evolve,
};

/// Few offers, so that commands meet: ids, in any order, with any repetition.
fn any_command() -> impl Strategy<Value = DriverCommand> {
    let number = 0..6_u128;
    prop_oneof![
        Just(DriverCommand::GoOnline),
        Just(DriverCommand::GoOnline),
        Just(DriverCommand::Finish),
        Just(DriverCommand::GoOffline),
        Just(DriverCommand::LapseOffer),
        number.clone().prop_map(offer),
        number.clone().prop_map(offer),
        number.clone().prop_map(accept),
        number.clone().prop_map(accept),
        number.clone().prop_map(decline),
        number.prop_map(release),
        (0..600_u32).prop_map(silent_for),
        Just(silent_for_too_long()),
    ]
}

fn any_event() -> impl Strategy<Value = DriverEvent> {
    let number = 0..6_u128;
    prop_oneof![
        Just(online()),
        Just(DriverEvent::Finishing),
        proptest::option::of(number.clone()).prop_map(went_offline),
        number.clone().prop_map(offered),
        number.clone().prop_map(|n| refused(n, OfferEnd::Busy)),
        number.clone().prop_map(accepted),
        number.clone().prop_map(declined),
        number.clone().prop_map(lapsed),
        number.clone().prop_map(|n| DriverEvent::Lost { pair: pair(n), silent_s: 61 }),
        (number, any::<bool>()).prop_map(|(n, early)| released(n, early)),
    ]
}

/// What happened, when each command came so many seconds after the one before.
fn history(commands: &[(DriverCommand, u64)]) -> Vec<DriverEvent> {
    let (mut driver, mut now, mut events) = (Driver::default(), START, Vec::new());
    for (command, pause_s) in commands {
        now = now.plus(Duration::from_secs(*pause_s));
        if let Ok(Some(event)) = decide(&driver, command, now) {
            driver = evolve(driver, &event, now);
            events.push(event);
        }
    }
    events
}

proptest! {
    #[test]
    fn folding_never_fails_whatever_the_events(events in vec(any_event(), 0..40)) {
        let driver = given(&events).0;
        prop_assert!(driver.closed.iter().count() <= CLOSED_OFFERS_MAX);
    }

    #[test]
    fn repeating_a_command_says_nothing_new(
        commands in vec((any_command(), 0..20_u64), 0..40),
        command in any_command(),
    ) {
        let now = START.plus(Duration::from_secs(7200));
        let driver = given(&history(&commands)).0;
        if let Ok(Some(event)) = decide(&driver, &command, now) {
            let driver = evolve(driver, &event, now);
            prop_assert!(!matches!(decide(&driver, &command, now), Ok(Some(_))), "{command:?}");
        }
    }

    #[test]
    fn a_driver_has_one_engagement_and_every_offer_ends_once(
        commands in vec((any_command(), 0..20_u64), 0..60),
    ) {
        let (mut open, mut ended) = (None, Vec::new());
        for event in history(&commands) {
            match &event {
                DriverEvent::Offered { pair, .. } => {
                    prop_assert_eq!(open, None, "a second engagement");
                    prop_assert!(!ended.contains(pair), "an offer came back");
                    open = Some(*pair);
                }
                DriverEvent::OfferAccepted { pair } => prop_assert_eq!(open, Some(*pair)),
                _ => {}
            }
            let end = match &event {
                DriverEvent::Released { pair, early: false, .. } => Some(*pair),
                DriverEvent::OfferRefused { .. } => None,
                _ => event.ended_offer().map(|(pair, _)| pair),
            };
            if let Some(pair) = end {
                prop_assert_eq!(open, Some(pair), "what was not open ended");
                prop_assert!(!ended.contains(&pair), "an offer ended twice");
                ended.push(pair);
                open = None;
            }
        }
    }
}
