//! How long a driver may be silent.

use std::time::Duration;

use common::{clock::Timestamp, id::DriverId};
use uuid::Uuid;

use super::{
    super::liveness::{DutyState, Liveness, LossKind, Patience},
    at,
};
use crate::index::Activity;

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

#[test]
fn patience_is_counted_from_the_watermark_so_a_stalled_reader_loses_nobody() {
    // An hour passes on the wall; the watermark stays, because nothing was read.
    let idle = DutyState { activity: Activity::Idle, since: at(-900) };
    assert_eq!(Patience::default().lost(at(0), idle, at(0)), None);
    assert_eq!(Patience::default().idle, Duration::from_secs(300));
}
