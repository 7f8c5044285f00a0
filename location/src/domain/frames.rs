//! Which frames of a partition were counted. The broker delivers at least once and, after a
//! take-over, not in order; a count must not notice.

use std::collections::VecDeque;

/// Frames that are remembered one by one. What the broker may deliver again is at most what is
/// unacknowledged for its ack time, far less than this.
const RECENT_MAX: usize = 2048;

/// The sequences of the frames that were counted: all up to the floor, and the recent ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CountedFrames {
    floor: u64,
    /// Ascending, all above the floor.
    recent: VecDeque<u64>,
}

impl CountedFrames {
    /// From what a checkpoint says.
    #[must_use]
    pub fn restore(floor: u64, recent: impl IntoIterator<Item = u64>) -> Self {
        let mut frames = Self { floor, recent: VecDeque::new() };
        for sequence in recent {
            frames.take(sequence);
        }
        frames
    }

    /// Takes note of a frame; false if it was counted before.
    pub fn take(&mut self, sequence: u64) -> bool {
        if sequence <= self.floor {
            return false;
        }
        match self.recent.back() {
            Some(newest) if sequence <= *newest => match self.recent.binary_search(&sequence) {
                Ok(_) => return false,
                Err(at) => self.recent.insert(at, sequence),
            },
            Some(_) | None => self.recent.push_back(sequence),
        }
        if self.recent.len() > RECENT_MAX {
            self.floor = self.recent.pop_front().unwrap_or(self.floor);
        }
        true
    }

    /// Whether a frame was counted.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        sequence <= self.floor || self.recent.binary_search(&sequence).is_ok()
    }

    /// The newest frame counted.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.recent.back().copied().unwrap_or(self.floor)
    }

    /// Everything up to here was counted.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// What was counted above the floor, ascending.
    pub fn recent(&self) -> impl Iterator<Item = u64> {
        self.recent.iter().copied()
    }
}
