//! What a call brings about besides its answer.

use super::answer::{Output, Pin};

/// What a call brings about besides its answer.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) outputs: Vec<Output>,
    pins: u64,
}

impl Effects {
    pub(super) fn fresh_pin(&mut self) -> Pin {
        self.pins += 1;
        Pin(self.pins)
    }
}
