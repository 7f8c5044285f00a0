//! Which frames of a partition were counted. The broker delivers at least once and, after a
//! take-over, not in order; a count must not notice.

use std::collections::VecDeque;

use common::clock::Timestamp;

/// Frames that are remembered one by one. What the broker may deliver again is at most what is
/// unacknowledged for its ack time, far less than this.
const RECENT_MAX: usize = 2048;

/// A frame. A broker that crashes may lose the newest frames, since `PINGS` is not synced, and give
/// their sequences to others; so a frame is known by when it was stored, too, and that is what orders
/// them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrameId {
    /// By the broker.
    pub stored_at: Timestamp,
    /// In the stream.
    pub sequence: u64,
}

/// The frames that were counted: all up to the floor, and the recent ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CountedFrames {
    floor: u64,
    /// Ascending, all above the floor.
    recent: VecDeque<FrameId>,
}

impl CountedFrames {
    /// From what a checkpoint says.
    #[must_use]
    pub fn restore(floor: u64, recent: impl IntoIterator<Item = FrameId>) -> Self {
        let mut frames = Self { floor, recent: VecDeque::new() };
        for frame in recent {
            frames.take(frame);
        }
        frames
    }

    /// Takes note of a frame; false if it was counted before.
    pub fn take(&mut self, frame: FrameId) -> bool {
        if frame.sequence <= self.floor {
            return false;
        }
        match self.recent.back() {
            Some(newest) if frame.sequence <= newest.sequence => {
                match self.recent.binary_search_by_key(&frame.sequence, |known| known.sequence) {
                    Ok(at) => return self.replace(at, frame),
                    Err(at) => self.recent.insert(at, frame),
                }
            }
            Some(_) | None => self.recent.push_back(frame),
        }
        if self.recent.len() > RECENT_MAX {
            self.floor = self.recent.pop_front().map_or(self.floor, |oldest| oldest.sequence);
        }
        true
    }

    /// Another frame has this one's sequence, or it is the same.
    fn replace(&mut self, at: usize, frame: FrameId) -> bool {
        let Some(known) = self.recent.get_mut(at) else { return false };
        let is_another = *known != frame;
        *known = frame;
        is_another
    }

    /// The newest frame counted, which need not have the highest sequence; none is older than any.
    #[must_use]
    pub fn newest(&self) -> FrameId {
        self.recent.iter().max().copied().unwrap_or_default()
    }

    /// Everything up to here was counted.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// What was counted above the floor, ascending.
    pub fn recent(&self) -> impl Iterator<Item = FrameId> {
        self.recent.iter().copied()
    }
}
