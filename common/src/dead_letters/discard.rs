//! Decides that nothing shall come of letters. They stay where they are, with who and why.

use serde::{Deserialize, Serialize};

use super::{
    Filter, Letter, OperationError, list,
    replay::Selection,
    resolution::{Order, Outcome, Resolution, record},
};
use crate::nats::Nats;

/// One order discards so many letters at most.
pub const DISCARDED_MAX: usize = 10_000;

/// What came of an order to discard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Discarded {
    /// Letters of which nothing will come.
    pub discarded: u64,
    /// Letters that are resolved already or on their way back.
    pub skipped: u64,
}

/// Discards the letters of a selection of which something could still come.
///
/// # Errors
/// When the broker cannot be asked. Some may be discarded then, and trying again is safe.
pub async fn discard(
    nats: &Nats,
    selection: &Selection,
    order: &Order,
) -> Result<Discarded, OperationError> {
    let letters = select(nats, selection, DISCARDED_MAX).await?;
    let mut done = Discarded::default();
    for letter in letters {
        let resolution = Resolution {
            letter: letter.sequence,
            outcome: Outcome::Discarded,
            order: order.clone(),
            resolved_at: nats.clock.now(),
            replay: None,
            class: None,
            error: None,
            attempts: None,
        };
        if letter.state.is_open() && record(nats, &letter.origin(), &resolution).await? {
            done.discarded += 1;
        } else {
            done.skipped += 1;
        }
    }
    tracing::info!(by = order.by, count = done.discarded, "dead letters discarded");
    Ok(done)
}

/// The letters of a selection, oldest first.
pub(super) async fn select(
    nats: &Nats,
    selection: &Selection,
    limit: usize,
) -> Result<Vec<Letter>, OperationError> {
    match selection {
        Selection::Filter(filter) => Ok(list(nats, filter, 0, limit).await?.items),
        Selection::Sequences(sequences) => {
            let (Some(first), Some(last)) = (sequences.iter().min(), sequences.iter().max()) else {
                return Ok(Vec::new());
            };
            let span = usize::try_from(last - first).unwrap_or(usize::MAX).saturating_add(1);
            let found = list(nats, &Filter::default(), first.saturating_sub(1), span).await?;
            let mut letters = found.items;
            letters.retain(|letter| sequences.contains(&letter.sequence));
            letters.truncate(limit);
            Ok(letters)
        }
    }
}
