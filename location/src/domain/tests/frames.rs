//! Which frames were counted.

use std::collections::HashMap;

use common::clock::Timestamp;
use proptest::{
    collection::vec,
    prelude::{any, prop, prop_assert_eq, proptest},
};

use super::super::frames::{CountedFrames, FrameId};

proptest! {
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
fn the_newest_frame_is_the_one_that_was_stored_last() {
    let mut before_the_crash = CountedFrames::default();
    assert_eq!(before_the_crash.newest(), FrameId::default());
    assert!((1..=9).all(|n| before_the_crash.take(frame(n, 10))));
    let mut after_it = CountedFrames::restore(0, before_the_crash.recent().take(5));
    assert!((6..=7).all(|n| after_it.take(frame(n, 20))));
    assert_eq!(after_it.newest(), frame(7, 20));
    assert!(before_the_crash.newest() < after_it.newest());
}

#[test]
fn what_is_remembered_of_frames_is_bounded() {
    let mut frames = CountedFrames::default();
    for sequence in 1..100_000 {
        assert!(frames.take(frame(sequence * 7, 0)));
    }
    assert!(frames.recent().count() <= 2048);
    assert_eq!(frames.newest(), frame(99_999 * 7, 0));
    assert!(!frames.take(frame(7, 0)) && !frames.take(frame(50_000 * 7, 0)));
}
