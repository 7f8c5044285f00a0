//! Frames that come late: held until they are due, in bounded number and size.

use std::{cmp::Reverse, collections::BinaryHeap};

use bytes::Bytes;
use tokio::time::Instant;

/// Frames that one direction of a connection holds back.
const FRAMES_MAX: usize = 4096;
/// And their bytes.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The frames that one direction of a connection holds back.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// By due time, then in the order in which they came.
    frames: BinaryHeap<Reverse<(Instant, u64, Bytes)>>,
    bytes: usize,
    came: u64,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn has_room(&self, frame: &[u8]) -> bool {
        self.frames.len() < FRAMES_MAX && self.bytes + frame.len() <= BYTES_MAX
    }

    /// The frame is copied: what is held for seconds must not hold the whole buffer it came in.
    pub(super) fn hold(&mut self, frame: &[u8], due: Instant) {
        self.came += 1;
        self.bytes += frame.len();
        self.frames.push(Reverse((due, self.came, Bytes::copy_from_slice(frame))));
    }

    /// Waits for the first frame to be due; for ever when there is none.
    pub(super) async fn due(&self) {
        match self.frames.peek() {
            Some(Reverse((due, ..))) => tokio::time::sleep_until(*due).await,
            None => std::future::pending().await,
        }
    }

    /// The next frame that is due by then.
    pub(super) fn pop(&mut self, by: Instant) -> Option<Bytes> {
        let Reverse((due, ..)) = self.frames.peek()?;
        if *due > by {
            return None;
        }
        let Reverse((_, _, frame)) = self.frames.pop()?;
        self.bytes = self.bytes.saturating_sub(frame.len());
        Some(frame)
    }

    /// The next frame, due or not.
    pub(super) fn pop_any(&mut self) -> Option<Bytes> {
        let Reverse((_, _, frame)) = self.frames.pop()?;
        self.bytes = self.bytes.saturating_sub(frame.len());
        Some(frame)
    }
}
