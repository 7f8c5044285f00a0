//! What operations do after a bad night: send back what was given up and is no poison, one letter
//! first, and see to it that it is handled.

use std::time::Duration;

use common::dead_letters::{Filter, Letter, Run};
use serde_json::json;
use tokio::time::Instant;

use super::{Door, LOOK_EVERY, Ordered, letters, office::Office};
use crate::client::Service;

/// Letters that are looked at.
const LETTERS_MAX: usize = 10_000;
/// One letter is handled, or given up once more, within this.
const ONE_WITHIN: Duration = Duration::from_secs(60);

/// What became of letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Mended {
    /// Sent back, and handled.
    pub handled: u64,
    /// Sent back, and given up once more.
    pub failed: u64,
    /// Of a consumer that takes nothing back, or meaning nothing any more by the time.
    pub unsendable: u64,
}

impl std::ops::AddAssign for Mended {
    fn add_assign(&mut self, other: Self) {
        self.handled += other.handled;
        self.failed += other.failed;
        self.unsendable += other.unsendable;
    }
}

/// Sends back every open letter that `is_innocent`, each when the one before was handled; the first
/// that fails again ends it.
///
/// # Errors
/// When the trip service cannot be asked.
pub async fn mend(
    trip: &Service,
    reason: &str,
    is_innocent: impl Fn(&Letter) -> bool,
) -> anyhow::Result<Mended> {
    let office = Office::enter(trip, Door { token: None }).await?;
    let open = letters(&office, &Filter::default(), LETTERS_MAX).await?;
    let mut mended = Mended::default();
    for letter in open.iter().filter(|letter| letter.state.is_open() && is_innocent(letter)) {
        if letter.returns_to().is_none() {
            mended.unsendable += 1;
            continue;
        }
        let run = replay(&office, letter.sequence, reason).await?;
        mended.handled += run.handled;
        mended.failed += run.failed;
        mended.unsendable += run.unsendable;
        if run.failed > 0 {
            break;
        }
    }
    Ok(mended)
}

async fn replay(office: &Office, letter: u64, reason: &str) -> anyhow::Result<Run> {
    let body = json!({ "reason": reason, "again": false });
    let ordered: Ordered = office.post(&format!("/v1/ops/dlq/{letter}/replay"), &body).await?;
    let path = format!("/v1/ops/dlq/replays/{}", ordered.run);
    let deadline = Instant::now() + ONE_WITHIN;
    loop {
        let run: Run = office.get(&path).await?;
        if run.is_over() {
            return Ok(run);
        }
        anyhow::ensure!(Instant::now() < deadline, "letter {letter} is still on its way");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
