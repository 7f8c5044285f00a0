//! Which class a ping is of.

use std::collections::HashSet;

use common::{
    clock::Timestamp,
    id::{DriverId, SessionId},
    ping::{Ping, PingBatch},
};
use proptest::{
    collection::vec,
    prelude::{prop_assert_eq, proptest},
};
use uuid::Uuid;

use super::{
    super::{
        Counts,
        session::{Rules, Track},
    },
    NOW, SECOND, north,
};

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
}
