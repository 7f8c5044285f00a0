//! The rules as sentences, and their laws.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use common::{
    clock::Timestamp,
    geo::Point,
    id::{DriverId, SessionId, TripId},
    ping::{Ping, PingBatch},
};
use proptest::{
    collection::vec,
    prelude::{any, prop, prop_assert_eq, proptest},
};
use uuid::Uuid;

use super::{
    Counts,
    frames::{CountedFrames, FrameId},
    liveness::{DutyState, Liveness, LossKind, Patience},
    session::{Rules, Track},
    surge::{Demand, Surge, index_cells, neighbourhood, surge_cell},
};
use crate::index::Activity;

const SECOND: i64 = 1_000_000;
/// Some Thursday.
const NOW: i64 = 1_767_225_600 * SECOND;

/// Metres north of a corner in Gothenburg.
fn north(metres: f64) -> Point {
    Point::new(57.7 + metres / 111_195.0, 11.97).unwrap()
}

fn ping(seq: u64, at_s: i64, metres: f64) -> Ping {
    Ping {
        seq,
        at: Timestamp::from_micros(NOW + at_s * SECOND),
        position: north(metres),
        accuracy_dm: Some(80),
        speed_cm_s: None,
        heading_deg: None,
    }
}

/// A batch that a phone with the right time sends at `at_s`, received at once.
fn batch(session: u128, at_s: i64, pings: Vec<Ping>) -> PingBatch {
    let at = Timestamp::from_micros(NOW + at_s * SECOND);
    PingBatch {
        driver: DriverId(Uuid::from_u128(1)),
        session: SessionId(Uuid::from_u128(session)),
        sent_at: at,
        received_at: at,
        pings,
    }
}

/// What became of a batch's pings, and the number of the one that moved the index.
fn read(track: &mut Track, batch: &PingBatch) -> (Counts, Option<u64>) {
    let (counts, moved) = track.read(batch, &Rules::default());
    (counts, moved.map(|ping| ping.seq))
}

fn fresh(count: u64) -> Counts {
    Counts { fresh: count, ..Counts::default() }
}

fn late(count: u64) -> Counts {
    Counts { late: count, ..Counts::default() }
}

fn duplicate(count: u64) -> Counts {
    Counts { duplicate: count, ..Counts::default() }
}

fn implausible(count: u64) -> Counts {
    Counts { implausible: count, ..Counts::default() }
}

#[test]
fn the_newest_ping_moves_the_index() {
    let mut track = Track::default();
    let pings = vec![ping(1, 0, 0.0), ping(2, 4, 40.0)];
    assert_eq!(read(&mut track, &batch(1, 4, pings)), (fresh(2), Some(2)));
}

#[test]
fn a_ping_that_is_overtaken_is_late() {
    let mut track = Track::default();
    read(&mut track, &batch(1, 8, vec![ping(3, 8, 80.0)]));
    assert_eq!(read(&mut track, &batch(1, 9, vec![ping(2, 4, 40.0)])), (late(1), None));
}

#[test]
fn a_repeated_batch_is_all_duplicates() {
    let mut track = Track::default();
    let sent = batch(1, 8, vec![ping(1, 0, 0.0), ping(2, 4, 40.0), ping(3, 8, 80.0)]);
    read(&mut track, &sent);
    assert_eq!(read(&mut track, &sent), (duplicate(3), None));
}

#[test]
fn the_same_number_in_another_session_is_no_duplicate() {
    let mut track = Track::default();
    read(&mut track, &batch(1, 0, vec![ping(1, 0, 0.0)]));
    assert_eq!(read(&mut track, &batch(2, 4, vec![ping(1, 4, 40.0)])), (fresh(1), Some(1)));
}

#[test]
fn what_an_older_session_still_sends_is_late() {
    let mut track = Track::default();
    read(&mut track, &batch(1, 0, vec![ping(1, 0, 0.0)]));
    read(&mut track, &batch(2, 10, vec![ping(1, 10, 100.0)]));
    assert_eq!(read(&mut track, &batch(1, 11, vec![ping(2, 4, 40.0)])), (late(1), None));
}

#[test]
fn pings_that_were_buffered_in_a_tunnel_are_for_the_trail_only() {
    let mut track = Track::default();
    read(&mut track, &batch(1, 0, vec![ping(1, 0, 0.0)]));
    let buffered = (0..10).map(|n| ping(2 + n, 4 + 4 * i64::try_from(n).unwrap(), 40.0)).collect();
    assert_eq!(read(&mut track, &batch(1, 120, buffered)), (late(10), None));
}

#[test]
fn of_a_buffered_batch_that_ends_now_the_end_counts() {
    let mut track = Track::default();
    let pings = (0..30).map(|n| ping(n, 4 * i64::try_from(n).unwrap(), 40.0 * n as f64)).collect();
    let (counts, moved) = read(&mut track, &batch(1, 116, pings));
    assert_eq!((counts.late, counts.fresh, moved), (26, 4, Some(29)));
}

#[test]
fn a_phone_whose_clock_is_an_hour_wrong_is_heard_as_any_other() {
    for wrong in [-3600, 3600] {
        let mut track = Track::default();
        let mut sent = batch(1, 4, vec![ping(1, wrong, 0.0), ping(2, 4 + wrong, 40.0)]);
        sent.sent_at = Timestamp::from_micros(NOW + (4 + wrong) * SECOND);
        assert_eq!(read(&mut track, &sent), (fresh(2), Some(2)));
        assert_eq!(track.clock_offset_us(), -wrong * SECOND);
    }
}

#[test]
fn a_ping_from_after_it_was_sent_is_clamped_and_moves_the_index() {
    let mut track = Track::default();
    let clamped = Counts { clamped: 1, ..Counts::default() };
    assert_eq!(read(&mut track, &batch(1, 0, vec![ping(1, 6, 0.0)])), (clamped, Some(1)));
    // Its time was set to the reception: the next one is not judged by what it claimed.
    assert_eq!(read(&mut track, &batch(1, 4, vec![ping(2, 4, 40.0)])), (fresh(1), Some(2)));
}

#[test]
fn five_seconds_ahead_are_forgiven() {
    let mut track = Track::default();
    assert_eq!(read(&mut track, &batch(1, 0, vec![ping(1, 5, 0.0)])), (fresh(1), Some(1)));
}

#[test]
fn a_batch_that_was_long_under_way_does_not_move_the_phones_clock() {
    let mut track = Track::default();
    read(&mut track, &batch(1, 0, vec![ping(1, 0, 0.0)]));
    let mut retried = batch(1, 4, vec![ping(2, 4, 40.0)]);
    retried.received_at = Timestamp::from_micros(NOW + 64 * SECOND);
    assert_eq!(read(&mut track, &retried), (late(1), None));
    assert_eq!(track.clock_offset_us(), 0);
    assert_eq!(read(&mut track, &batch(1, 68, vec![ping(3, 68, 80.0)])), (fresh(1), Some(3)));
}

#[test]
fn a_phone_whose_clock_is_set_back_is_heard_again_after_five_batches() {
    let mut track = Track::default();
    read(&mut track, &batch(1, 0, vec![ping(1, 0, 0.0)]));
    let mut classes = Vec::new();
    for n in 1..=5 {
        let at = i64::try_from(n * 4).unwrap();
        let mut sent = batch(1, at, vec![ping(1 + n, at - 3600, 10.0)]);
        sent.sent_at = Timestamp::from_micros(NOW + (at - 3600) * SECOND);
        classes.push(read(&mut track, &sent).0);
    }
    assert_eq!(classes, [late(1), late(1), late(1), late(1), fresh(1)]);
}

#[test]
fn nobody_drives_at_300_kilometres_an_hour() {
    let mut track = Track::default();
    read(&mut track, &batch(1, 0, vec![ping(1, 0, 0.0)]));
    assert_eq!(read(&mut track, &batch(1, 10, vec![ping(2, 10, 833.0)])), (implausible(1), None));
    // At 180 since the last good one.
    assert_eq!(read(&mut track, &batch(1, 20, vec![ping(3, 20, 1000.0)])), (fresh(1), Some(3)));
}

#[test]
fn a_position_known_to_half_a_kilometre_says_nothing() {
    let mut track = Track::default();
    let vague = Ping { accuracy_dm: Some(5000), ..ping(1, 0, 0.0) };
    assert_eq!(read(&mut track, &batch(1, 0, vec![vague])), (implausible(1), None));
    let unknown = Ping { accuracy_dm: None, ..ping(2, 4, 0.0) };
    assert_eq!(read(&mut track, &batch(1, 4, vec![unknown])), (fresh(1), Some(2)));
}

#[test]
fn a_jump_that_lasts_is_believed_at_the_fifth_ping() {
    let mut track = Track::default();
    read(&mut track, &batch(1, 0, vec![ping(1, 0, 0.0)]));
    let far: Vec<Ping> =
        (1..=6).map(|n| ping(1 + n, i64::try_from(n).unwrap(), 30_000.0)).collect();
    let (counts, moved) = read(&mut track, &batch(1, 6, far));
    assert_eq!((counts.implausible, counts.fresh, moved), (4, 2, Some(7)));
}

#[test]
fn a_ping_too_far_behind_to_be_recognized_is_late_and_harmless() {
    let mut track = Track::default();
    read(&mut track, &batch(1, 0, vec![ping(1, 0, 0.0)]));
    read(&mut track, &batch(1, 4, vec![ping(1000, 4, 10.0)]));
    assert_eq!(read(&mut track, &batch(1, 5, vec![ping(1, 0, 0.0)])), (late(1), None));
}

#[test]
fn extreme_clocks_break_nothing() {
    let mut track = Track::default();
    for (sent, at) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (0, i64::MIN)] {
        let pings = vec![Ping { at: Timestamp::from_micros(at), ..ping(1, 0, 0.0) }];
        let sent_at = Timestamp::from_micros(sent);
        track.read(&PingBatch { sent_at, ..batch(9, 0, pings) }, &Rules::default());
    }
    assert_eq!(track.counts().total(), 3);
}

proptest! {
    #[test]
    fn every_ping_is_counted_exactly_once(
        batches in vec((0_u128..5, 0_i64..400, vec((0_u64..600, -50_i64..400, 0.0_f64..9000.0), 1..40)), 1..20),
    ) {
        let mut track = Track::default();
        let (mut sum, mut pings) = (Counts::default(), 0);
        for (session, at, points) in batches {
            let points: Vec<Ping> =
                points.into_iter().map(|(seq, at, metres)| ping(seq, at, metres)).collect();
            pings += points.len() as u64;
            let (counts, moved) = read(&mut track, &batch(session, at, points));
            prop_assert_eq!(moved.is_some(), counts.fresh + counts.clamped > 0);
            sum += counts;
        }
        prop_assert_eq!(sum.total(), pings);
        prop_assert_eq!(track.counts(), sum);
    }

    #[test]
    fn how_wrong_a_phones_clock_is_changes_no_class(
        wrong in -100_000_i64..100_000,
        batches in vec((0_i64..400, vec((0_u64..300, -50_i64..400, 0.0_f64..9000.0), 1..20)), 1..12),
    ) {
        let (mut right, mut shifted) = (Track::default(), Track::default());
        for (at, points) in batches {
            let points: Vec<Ping> =
                points.into_iter().map(|(seq, at, metres)| ping(seq, at, metres)).collect();
            let sent = batch(1, at, points);
            let mut other = sent.clone();
            other.sent_at = Timestamp::from_micros(sent.sent_at.micros() + wrong * SECOND);
            for ping in &mut other.pings {
                ping.at = Timestamp::from_micros(ping.at.micros() + wrong * SECOND);
            }
            prop_assert_eq!(read(&mut right, &sent), read(&mut shifted, &other));
        }
    }

    #[test]
    fn a_batch_read_again_within_the_window_changes_nothing_but_the_count_of_duplicates(
        start in 0_u64..1_000_000, count in 1_usize..100,
    ) {
        let pings = (0..count).map(|n| ping(start + n as u64, i64::try_from(n).unwrap(), n as f64)).collect();
        let sent = batch(1, i64::try_from(count).unwrap(), pings);
        let mut track = Track::default();
        read(&mut track, &sent);
        prop_assert_eq!(read(&mut track, &sent), (duplicate(count as u64), None));
    }

    #[test]
    fn a_number_is_recognized_as_a_set_would(seqs in vec(0_u64..250, 1..300)) {
        let (mut track, mut known) = (Track::default(), HashSet::new());
        for seq in seqs {
            let (counts, _) = read(&mut track, &batch(1, 0, vec![ping(seq, 0, 0.0)]));
            prop_assert_eq!(counts.duplicate == 1, !known.insert(seq));
        }
    }

    #[test]
    fn a_frame_is_counted_once_in_whatever_order_it_comes_and_comes_again(
        order in vec((1_u64..1500, 0_i64..2), 0..3000), checkpoint_at in any::<prop::sample::Index>(),
    ) {
        let (mut frames, mut known) = (CountedFrames::default(), HashMap::new());
        let cut = if order.is_empty() { 0 } else { checkpoint_at.index(order.len()) };
        for (n, (sequence, stored_at)) in order.into_iter().enumerate() {
            if n == cut {
                frames = CountedFrames::restore(frames.floor(), frames.recent());
            }
            // The stream has one frame of a sequence at a time.
            let is_new = known.insert(sequence, stored_at) != Some(stored_at);
            prop_assert_eq!(frames.take(frame(sequence, stored_at)), is_new);
        }
    }
}

fn frame(sequence: u64, stored_at: i64) -> FrameId {
    FrameId { sequence, stored_at: Timestamp::from_micros(stored_at) }
}

#[test]
fn a_frame_that_got_the_sequence_of_a_lost_one_is_counted() {
    let mut frames = CountedFrames::default();
    assert!(frames.take(frame(1, 10)) && frames.take(frame(2, 20)));
    assert!(frames.take(frame(2, 30)));
    assert!(!frames.take(frame(2, 30)) && !frames.take(frame(1, 10)));
}

#[test]
fn what_is_remembered_of_frames_is_bounded() {
    let mut frames = CountedFrames::default();
    for sequence in 1..100_000 {
        assert!(frames.take(frame(sequence * 7, 0)));
    }
    assert!(frames.recent().count() <= 2048);
    assert_eq!(frames.newest(), 99_999 * 7);
    assert!(!frames.take(frame(7, 0)) && !frames.take(frame(50_000 * 7, 0)));
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(NOW + seconds * SECOND)
}

#[test]
fn a_driver_is_live_for_15_seconds_and_stale_for_a_minute() {
    let judge = |silence| Patience::default().liveness(at(0), at(silence));
    assert_eq!([judge(0), judge(15), judge(16)], [Liveness::Live, Liveness::Live, Liveness::Stale]);
    assert_eq!([judge(60), judge(61)], [Liveness::Stale, Liveness::Lost]);
    assert_eq!(Patience::default().liveness(Timestamp::default(), at(0)), Liveness::Unknown);
}

#[test]
fn somebody_heard_after_the_watermark_is_live() {
    assert_eq!(Patience::default().liveness(at(5), at(0)), Liveness::Live);
}

fn lost(activity: Activity, since: i64, silence: i64) -> Option<LossKind> {
    let state = DutyState { activity, since: at(since) };
    Patience::default().lost(at(0), state, at(silence)).map(|loss| loss.kind)
}

#[test]
fn an_offer_ends_after_a_minute_of_silence_and_idle_duty_after_five() {
    assert_eq!(lost(Activity::Offered, 50, 60), None);
    assert_eq!(lost(Activity::Offered, 50, 61), Some(LossKind::Offered));
    assert_eq!(lost(Activity::Idle, -900, 300), None);
    assert_eq!(lost(Activity::Idle, -900, 301), Some(LossKind::Idle));
}

#[test]
fn a_trip_goes_on_without_a_phone() {
    assert_eq!(lost(Activity::Engaged, -900, 9000), None);
    assert_eq!(lost(Activity::Offline, -900, 9000), None);
}

#[test]
fn who_became_idle_a_moment_ago_is_not_sent_home_for_the_silence_before() {
    assert_eq!(lost(Activity::Idle, 290, 310), None);
    assert_eq!(lost(Activity::Idle, 290, 356), Some(LossKind::Idle));
}

#[test]
fn the_same_silence_gives_the_same_command_and_another_another() {
    let driver = DriverId(Uuid::from_u128(1));
    let idle = DutyState { activity: Activity::Idle, since: at(-900) };
    let offered = DutyState { activity: Activity::Offered, since: at(-900) };
    let command = |since, state, now| {
        Patience::default().lost(at(since), state, at(now)).unwrap().command_id(driver)
    };
    assert_eq!(command(0, idle, 400), command(0, idle, 500));
    assert_ne!(command(0, idle, 400), command(1, idle, 400));
    assert_ne!(command(0, idle, 400), command(0, offered, 400));
}

fn demand(count: u128, at: Timestamp) -> Demand {
    let mut demand = Demand::default();
    for trip in 0..count {
        let cell = surge_cell(north(0.0)).unwrap();
        demand.requested(TripId(Uuid::from_u128(trip)), at, cell, at);
    }
    demand
}

fn settled(demand: &Demand, cars: u32) -> u32 {
    let here = surge_cell(north(0.0)).unwrap();
    let mut surge = Surge::default();
    for _ in 0..100 {
        surge.update(demand, |cell| if cell == here { cars } else { 0 });
    }
    surge.percent(here)
}

#[test]
fn more_requests_than_cars_cost_more_in_steps_of_ten_up_to_two_and_a_half() {
    assert_eq!(settled(&demand(8, at(0)), 9), 100);
    assert_eq!(settled(&demand(12, at(0)), 9), 120);
    assert_eq!(settled(&demand(127, at(0)), 99), 130);
    assert_eq!(settled(&demand(90, at(0)), 9), 250);
}

#[test]
fn a_surge_comes_and_goes_slowly() {
    let here = surge_cell(north(0.0)).unwrap();
    let (busy, mut surge) = (demand(90, at(0)), Surge::default());
    surge.update(&busy, |_| 0);
    let first = surge.percent(here);
    assert!((110..=140).contains(&first), "{first}");
    for _ in 0..30 {
        surge.update(&busy, |_| 0);
    }
    assert_eq!(surge.percent(here), 250);
    surge.update(&Demand::default(), |_| 0);
    assert!(surge.percent(here) > 200);
    for _ in 0..60 {
        surge.update(&Demand::default(), |_| 0);
    }
    assert_eq!(surge.percent(here), 100);
}

#[test]
fn a_request_counts_once_and_for_five_minutes() {
    let cell = surge_cell(north(0.0)).unwrap();
    let trip = TripId(Uuid::from_u128(1));
    let mut demand = Demand::default();
    demand.requested(trip, at(0), cell, at(0));
    demand.requested(trip, at(0), cell, at(1));
    assert_eq!(demand.in_cell(cell), 1);
    demand.forget_before(at(300));
    assert_eq!(demand.in_cell(cell), 1);
    demand.forget_before(at(301));
    assert_eq!((demand.in_cell(cell), demand.cells().count()), (0, 0));
    demand.requested(TripId(Uuid::from_u128(2)), at(0), cell, at(400));
    assert_eq!(demand.in_cell(cell), 0);
}

#[test]
fn a_surge_cell_is_made_of_seven_cells_of_the_index() {
    let cell = surge_cell(north(0.0)).unwrap();
    assert_eq!(index_cells(cell).count(), 7);
    assert_eq!(neighbourhood(cell).len(), 7);
}

#[test]
fn patience_is_counted_from_the_watermark_so_a_stalled_reader_loses_nobody() {
    // An hour passes on the wall; the watermark stays, because nothing was read.
    let idle = DutyState { activity: Activity::Idle, since: at(-900) };
    assert_eq!(Patience::default().lost(at(0), idle, at(0)), None);
    assert_eq!(Patience::default().idle, Duration::from_secs(300));
}
