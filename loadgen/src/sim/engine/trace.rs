//! What happened: a hash of every step, to tell whether two runs were the same, and, where somebody
//! wants to read it, lines of text.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use common::clock::Timestamp;

use super::BEGINNING;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    hasher: DefaultHasher,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn new(has_lines: bool) -> Self {
        Self { hasher: DefaultHasher::new(), lines: has_lines.then(Vec::new) }
    }

    pub(super) fn step(&mut self, now: Timestamp, what: u64) {
        (now.micros(), what).hash(&mut self.hasher);
    }

    pub(super) fn tell(&mut self, now: Timestamp, line: &str) {
        line.hash(&mut self.hasher);
        if let Some(lines) = &mut self.lines {
            let millis = now.since(BEGINNING).as_millis();
            lines.push(format!("{:>6}.{:03} s  {line}", millis / 1000, millis % 1000));
        }
    }

    /// Equal for equal runs.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// The lines that were kept.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}
