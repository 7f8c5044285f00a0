//! Outages, flapping and quiet hours, in virtual time.

use super::{Breaker, BreakerConfig, State};
use futures_util::FutureExt as _;
use std::time::Duration;
use tokio::time::{Instant, advance};

fn breaker(config: BreakerConfig) -> Breaker {
    Breaker::new("test", config)
}

async fn call(breaker: &Breaker, is_success: bool) {
    breaker.pass().await.note(is_success);
}

const OPEN: Duration = Duration::from_millis(1_000);

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_open_it_and_one_call_tries_for_all() {
    let breaker = breaker(BreakerConfig::default());
    for _ in 0..5 {
        assert_eq!(breaker.state(), State::Closed);
        call(&breaker, false).await;
    }
    assert_eq!(breaker.state(), State::Open);
    let opened = Instant::now();
    let probe = breaker.pass().await;
    assert!(opened.elapsed() >= OPEN);
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(breaker.pass().now_or_never().is_none(), "nobody else may call");
    probe.note(true);
    assert_eq!(breaker.state(), State::Closed);
    assert!(breaker.pass().now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn half_of_twenty_calls_open_it_and_of_nineteen_they_do_not() {
    let breaker = breaker(BreakerConfig::default());
    for nth in 0..19 {
        call(&breaker, nth % 2 == 0).await;
        assert_eq!(breaker.state(), State::Closed, "{nth}");
    }
    call(&breaker, false).await;
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn what_failed_before_the_window_does_not_count() {
    let breaker = breaker(BreakerConfig::default());
    for nth in 0..19 {
        call(&breaker, nth % 2 == 0).await;
    }
    advance(Duration::from_secs(11)).await;
    for nth in 0..19 {
        call(&breaker, nth % 2 == 0).await;
        assert_eq!(breaker.state(), State::Closed, "{nth}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_calls_count_as_failed() {
    let config = BreakerConfig { breaker_failures_in_row: 3, ..BreakerConfig::default() };
    let breaker = breaker(config);
    for _ in 0..3 {
        let pass = breaker.pass().await;
        advance(Duration::from_millis(2_001)).await;
        pass.note(true);
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_opens_it_for_as_long_again() {
    let breaker = breaker(BreakerConfig::default());
    for _ in 0..5 {
        call(&breaker, false).await;
    }
    let opened = Instant::now();
    for _ in 0..10 {
        call(&breaker, false).await;
        assert_eq!(breaker.state(), State::Open);
    }
    assert!(opened.elapsed() >= OPEN * 10);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_was_dropped_leaves_the_probe_to_the_next() {
    let breaker = breaker(BreakerConfig::default());
    for _ in 0..5 {
        call(&breaker, false).await;
    }
    drop(breaker.pass().await);
    assert_eq!(breaker.state(), State::HalfOpen);
    call(&breaker, true).await;
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn answers_to_calls_from_before_it_opened_say_nothing_about_now() {
    let breaker = breaker(BreakerConfig::default());
    let (early, late) = (breaker.pass().await, breaker.pass().await);
    for _ in 0..5 {
        call(&breaker, false).await;
    }
    early.note(true);
    assert_eq!(breaker.state(), State::Open);
    let probe = breaker.pass().await;
    late.note(false);
    assert_eq!(breaker.state(), State::HalfOpen);
    probe.note(true);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn several_probes_go_one_after_the_other() {
    let breaker = breaker(BreakerConfig { breaker_probes: 3, ..BreakerConfig::default() });
    for _ in 0..5 {
        call(&breaker, false).await;
    }
    for _ in 0..3 {
        let probe = breaker.pass().await;
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(breaker.pass().now_or_never().is_none());
        probe.note(true);
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_work_hears_when_to_stop_and_when_to_go_on() {
    let breaker = breaker(BreakerConfig::default());
    breaker.opened().await;
    let mut shut = Box::pin(breaker.shut());
    assert!(shut.as_mut().now_or_never().is_none());
    for _ in 0..5 {
        call(&breaker, false).await;
    }
    shut.await;
    let since = Instant::now();
    breaker.opened().await;
    assert!(since.elapsed() >= OPEN);
    let probe = breaker.pass().await;
    assert!(breaker.opened().now_or_never().is_none(), "one probe is enough");
    probe.note(true);
    breaker.opened().await;
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_comes_and_goes_changes_the_state_at_the_pace_of_the_open_time() {
    let breaker = breaker(BreakerConfig::default());
    let began = Instant::now();
    let (mut calls, mut changes, mut before) = (0_u32, 0_u32, State::Closed);
    while began.elapsed() < Duration::from_secs(60) {
        // Half a second it answers, half a second it does not.
        let pass = breaker.pass().await;
        advance(Duration::from_millis(10)).await;
        let is_up = began.elapsed().subsec_millis() < 500;
        pass.note(is_up);
        calls += 1;
        let state = breaker.state();
        changes += u32::from(state != before);
        before = state;
    }
    // Each second brings an opening and a closing at most, and five failures between the two.
    assert!(changes <= 2 * 60, "{changes}");
    assert!(calls <= 60 * (50 + 5), "{calls}");
}
