//! What this process has handled well of late. The broker may not know: an ack that is late or lost
//! has the message delivered again, and the deliveries are counted.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// Messages that are remembered: more than a consumer has in flight at a time.
const REMEMBERED: usize = 512;

/// The sequences that were handled well last.
#[derive(Debug, Default)]
pub(super) struct Answered(Mutex<VecDeque<u64>>);

impl Answered {
    /// Remembers one, and forgets the oldest if there are too many.
    pub(super) fn keep(&self, sequence: u64) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == REMEMBERED {
            last.pop_front();
        }
        last.push_back(sequence);
    }

    /// Whether it was handled well not long ago.
    pub(super) fn has(&self, sequence: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::{Answered, REMEMBERED};

    #[test]
    fn the_last_ones_are_remembered_and_the_oldest_is_forgotten() {
        let answered = Answered::default();
        let most = u64::try_from(REMEMBERED).unwrap();
        for sequence in 0..=most {
            answered.keep(sequence);
        }
        assert!(!answered.has(0));
        assert!(answered.has(1) && answered.has(most));
    }
}
