//! What was counted of a partition, and of which frames: one message, so that the two never disagree.

use common::{clock::Timestamp, contract::v1};

use crate::domain::{
    Counts,
    frames::{CountedFrames, FrameId},
};

/// Which frames were counted, and what they came to. Stored as one, so that they never disagree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) frames: CountedFrames,
    pub(crate) counts: Counts,
    pub(crate) malformed_frames: u64,
    pub(crate) redelivered_frames: u64,
}

impl From<&Tally> for v1::CountedFrames {
    fn from(tally: &Tally) -> Self {
        let floor = tally.frames.floor();
        let (mut recent, mut stored_at_us) = (Vec::new(), Vec::new());
        let mut before = FrameId { sequence: floor, stored_at: Timestamp::default() };
        for frame in tally.frames.recent() {
            recent.push(frame.sequence - before.sequence);
            stored_at_us.push(frame.stored_at.micros().wrapping_sub(before.stored_at.micros()));
            before = frame;
        }
        Self {
            floor,
            recent,
            stored_at_us,
            counts: Some(tally.counts.into()),
            malformed_frames: tally.malformed_frames,
            redelivered_frames: tally.redelivered_frames,
        }
    }
}

impl From<v1::CountedFrames> for Tally {
    fn from(stored: v1::CountedFrames) -> Self {
        let mut last = FrameId { sequence: stored.floor, stored_at: Timestamp::default() };
        let recent = stored.recent.into_iter().zip(stored.stored_at_us).map(|(step, later)| {
            last = FrameId {
                sequence: last.sequence.saturating_add(step),
                stored_at: Timestamp::from_micros(last.stored_at.micros().wrapping_add(later)),
            };
            last
        });
        Self {
            frames: CountedFrames::restore(stored.floor, recent),
            counts: stored.counts.unwrap_or_default().into(),
            malformed_frames: stored.malformed_frames,
            redelivered_frames: stored.redelivered_frames,
        }
    }
}

#[cfg(test)]
mod tests {
    use common::{clock::Timestamp, contract::v1};

    use super::Tally;
    use crate::domain::{Counts, frames::FrameId};

    #[test]
    fn a_tally_survives_its_checkpoint() {
        let mut tally = Tally {
            counts: Counts { fresh: 7, late: 1, ..Counts::default() },
            malformed_frames: 2,
            redelivered_frames: 3,
            ..Tally::default()
        };
        for n in 1..5000 {
            let stored_at = Timestamp::from_micros(1_767_225_600_000_000 + n * 997);
            let sequence = u64::try_from(n * 3).unwrap();
            tally.frames.take(FrameId { sequence, stored_at });
        }
        let stored = v1::CountedFrames::from(&tally);
        assert!(prost::Message::encoded_len(&stored) < 10_000);
        assert_eq!(Tally::from(stored), tally);
    }
}
