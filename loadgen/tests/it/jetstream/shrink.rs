//! Runs a sequence of operations on a fresh pair of brokers; cuts one that failed down to what is
//! needed to fail.

use std::time::Duration;

use super::{
    operation::Operation,
    pair::{Difference, Pair},
};

/// Runs that cutting down may take.
const RUNS_MAX: usize = 80;
/// How long the real server is waited for meanwhile: longer than it ever takes where all is well.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Where the sequence failed, and how.
pub(crate) async fn run(
    operations: &[Operation],
    patience: Duration,
) -> Result<(), (usize, Difference)> {
    let mut pair = Pair::start(patience).await.map_err(|difference| (0, difference))?;
    for (at, operation) in operations.iter().enumerate() {
        pair.apply(operation).await.map_err(|difference| (at, difference))?;
    }
    let last = operations.len().saturating_sub(1);
    pair.compare_contents().await.map_err(|difference| (last, difference))
}

/// The shortest part found that still fails, and how it does. `failed` ends with the operation that
/// did.
pub(crate) async fn minimal(
    failed: &[Operation],
    difference: Difference,
) -> (Vec<Operation>, Difference) {
    let mut best = (failed.to_vec(), difference);
    let mut chunk = best.0.len().div_ceil(2);
    let mut runs = 0;
    while chunk > 0 && runs < RUNS_MAX {
        let mut at = 0;
        let mut is_shorter = false;
        while at < best.0.len() && runs < RUNS_MAX {
            let mut cut = best.0.clone();
            cut.drain(at..(at + chunk).min(cut.len()));
            runs += 1;
            match run(&cut, PATIENCE).await {
                Err((failed_at, difference)) if !cut.is_empty() => {
                    cut.truncate(failed_at + 1);
                    best = (cut, difference);
                    is_shorter = true;
                }
                Err(_) | Ok(()) => at += chunk,
            }
        }
        if !is_shorter {
            chunk /= 2;
        }
    }
    best
}
