//! What can be wrong with what is written beside the log: the outbox, views, keys, receipts.

use common::id::TripId;
use serde::Serialize;
use uuid::Uuid;

use super::Book;

/// A book that does not agree with the log, or with another book.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(tag = "violation", rename_all = "snake_case")]
pub enum BookViolation {
    /// A row that was never published.
    #[error("outbox row {row} (`{kind}`, event `{event}`) is not in RIDER")]
    RowWithoutEvent { row: i64, event: Uuid, kind: String },
    /// An event that no row asked for.
    #[error("RIDER {sequence} (`{kind}`, event `{event}`) has no row in the outbox")]
    EventWithoutRow { sequence: u64, event: Uuid, kind: String },
    /// The event says something else than the row.
    #[error("outbox row {row} and RIDER {sequence} (event `{event}`) differ in {field}")]
    RowDiffers { row: i64, sequence: u64, event: Uuid, field: String },
    /// A rider's events are not in the order of their rows.
    #[error(
        "rider `{rider}`: outbox row {row} is RIDER {sequence}, before {after} of a row before it"
    )]
    RowsOutOfOrder { rider: Uuid, row: i64, sequence: u64, after: u64 },
    /// A view shows something else than the log folds to.
    #[error("{projection}: `{key}` is {shown}, but folding the log gives {folded}")]
    ProjectionDiffers { projection: String, key: String, shown: String, folded: String },
    /// One key was answered in two ways.
    #[error("key `{key}` of rider `{rider}` was answered {first}, and then {second}")]
    KeyAnsweredTwice { key: String, rider: Uuid, first: String, second: String },
    /// A request in the log that no phone of the journals has tried to make.
    #[error(
        "trip `{trip}` of rider `{rider}` was asked for by no phone: {asked} keys were sent, {trips} trips came of them"
    )]
    NotAskedFor { trip: TripId, rider: Uuid, asked: u64, trips: u64 },
    /// Something that only a person does, and no phone of the journals has tried to.
    #[error("{stream} {sequence} (`{kind}`): {phone} never sent `{path}`")]
    NotAttempted { stream: String, sequence: u64, kind: String, phone: String, path: String },
    /// The provider's name for a charge is another one in two books.
    #[error(
        "the charge of trip `{trip}` ({purpose}) is `{shown}` in {book}, but {listed} at the provider"
    )]
    ReferenceDiffers { trip: TripId, purpose: String, book: Book, shown: String, listed: String },
    /// A receipt that says something else than the ledger and the log.
    #[error("the receipt of trip `{trip}` says {shown}, but {owed} is owed")]
    ReceiptDiffers { trip: TripId, shown: String, owed: String },
    /// A charge's postings do not say what the charge says.
    #[error("trip `{trip}` ({purpose}): {step} is posted with {posted}, the charge is {charged}")]
    PostingDiffers { trip: TripId, purpose: String, step: String, posted: i64, charged: i64 },
}

impl BookViolation {
    pub(super) fn trip(&self) -> Option<TripId> {
        match self {
            Self::NotAskedFor { trip, .. }
            | Self::ReceiptDiffers { trip, .. }
            | Self::ReferenceDiffers { trip, .. }
            | Self::PostingDiffers { trip, .. } => Some(*trip),
            Self::ProjectionDiffers { key, .. } => key.parse().ok(),
            Self::RowWithoutEvent { .. }
            | Self::EventWithoutRow { .. }
            | Self::RowDiffers { .. }
            | Self::RowsOutOfOrder { .. }
            | Self::NotAttempted { .. }
            | Self::KeyAnsweredTwice { .. } => None,
        }
    }
}
