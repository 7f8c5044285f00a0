//! The audit must be able to fail: for every violation, a log that has it and nothing else wrong.

mod books;
mod histories;
mod messages;
mod money;
mod offers;
mod order;
mod outbox;
mod promises;
mod town;

use super::{Evidence, Timeline, Verdict};
use town::{TRIP, Town};

/// A ride as it should be.
pub(super) fn a_ride() -> Evidence {
    Town::with_a_ride().evidence
}

#[test]
fn a_ride_as_it_should_be_has_no_violation() {
    assert_eq!(Town::with_a_ride().violations(), []);
}

#[test]
fn an_empty_log_has_no_violation_and_says_that_it_is_empty() {
    let verdict = Verdict::of(&Town::default().evidence);
    assert_eq!(verdict.violations, []);
    assert_eq!((verdict.tallies.events, verdict.tallies.completed), (0, 0));
}

#[test]
fn the_tallies_say_how_much_was_audited() {
    let tallies = Verdict::of(&Town::with_a_ride().evidence).tallies;
    assert_eq!((tallies.trips, tallies.completed, tallies.drivers), (1, 1, 2));
    assert_eq!((tallies.promises, tallies.charges), (4, 1));
    assert_eq!((tallies.pings_accepted, tallies.pings_counted), (100, 103));
}

#[test]
fn a_timeline_tells_the_trip_from_all_three_streams_in_order() {
    let timeline = Timeline::of(&Town::with_a_ride().evidence.log, TRIP);
    let streams: Vec<&str> = timeline.moments.iter().map(|moment| moment.stream).collect();
    assert_eq!(streams.first(), Some(&"RIDER"));
    assert!(streams.contains(&"DRIVER") && streams.contains(&"TRIP"));
    let text = timeline.to_string();
    assert!(text.contains("declined") && text.contains("paid 123.00 SEK"), "{text}");
}
