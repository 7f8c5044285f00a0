//! The rider service's own books: its ledger, its outbox, the keys that it answered, and its view of
//! trips. Read as they are; nothing is changed.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use common::{
    contract::{decode, v1},
    id::{RiderId, TripId},
};
use rider::store::{Place, Row, Store, StoreError, Tx};
use uuid::Uuid;

/// The rider service's books.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Books {
    /// What is owed and paid.
    pub ledger: Ledger,
    /// What was to be published, in order.
    pub outbox: Vec<OutboxRow>,
    /// Every trip as the service would show it.
    pub trips: Vec<TripRow>,
    /// What was answered to requests with a key.
    pub keys: Vec<KeyRow>,
}

/// What is owed and paid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Every charge.
    pub charges: Vec<LedgerCharge>,
    /// Every side of every entry.
    pub postings: Vec<Posting>,
}

/// A charge in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerCharge {
    /// For which trip.
    pub trip: TripId,
    /// `fare` or `cancellation_fee`.
    pub purpose: String,
    /// Minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// The provider's name for it, once it has the money.
    pub settled_as: Option<String>,
}

/// One side of an entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// For which trip.
    pub trip: TripId,
    /// For what.
    pub purpose: String,
    /// `owed` or `settled`.
    pub step: String,
    /// Which account.
    pub account: String,
    /// Minor units: positive debits the account.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
}

/// An event that was to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    /// The row: rows of one rider are in the order of these.
    pub row: i64,
    /// Whose order it belongs to.
    pub rider: RiderId,
    /// `ce-id`.
    pub event: Uuid,
    /// `ce-type`.
    pub kind: String,
    /// What happened.
    pub says: v1::RiderEvent,
    /// Its sequence in the log, once it is there.
    pub published: Option<u64>,
}

/// A trip as the service would show it.
#[derive(Debug, Clone, PartialEq)]
pub struct TripRow {
    /// Which trip.
    pub trip: TripId,
    /// Whether its rider may ask for another one.
    pub has_ended: bool,
    /// What is known of it, if anything is.
    pub snapshot: Option<v1::TripSnapshot>,
}

/// What was answered to a request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Who asked.
    pub rider: RiderId,
    /// Under which key.
    pub key: String,
    /// The trip that came of it.
    pub trip: Option<TripId>,
}

impl Books {
    /// Reads the books.
    ///
    /// # Errors
    /// When there are none there, or not the rider service's.
    pub async fn read(place: &Place) -> anyhow::Result<Self> {
        let books = open(place).await?.read(Self::all).await;
        books.with_context(|| format!("the rider's books in `{place}`"))
    }

    /// Reads them in a store that is open.
    ///
    /// # Errors
    /// When they are not the rider service's.
    pub fn all(tx: &Tx<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            ledger: Ledger::all(tx)?,
            outbox: tx.query(
                "SELECT id, key, event, kind, payload, published_sequence FROM outbox ORDER BY id",
                &[],
                outbox_row,
            )?,
            trips: tx.query(
                "SELECT ride_request.trip, ride_request.ended, trip_view.snapshot FROM ride_request
                 LEFT JOIN trip_view ON trip_view.trip = ride_request.trip",
                &[],
                trip_row,
            )?,
            keys: tx.query("SELECT rider, key, body FROM idempotency", &[], key_row)?,
        })
    }
}

impl Ledger {
    fn all(tx: &Tx<'_>) -> Result<Self, StoreError> {
        let charges = tx.query(
            "SELECT trip, purpose, amount_minor, currency, provider_reference, settled_at_us
             FROM charge",
            &[],
            |row| {
                let settled_at: Option<i64> = row.get(5)?;
                let reference: Option<String> = row.get(4)?;
                Ok::<_, StoreError>(LedgerCharge {
                    trip: TripId(row.get(0)?),
                    purpose: row.get(1)?,
                    amount_minor: row.get(2)?,
                    currency: row.get(3)?,
                    settled_as: settled_at.map(|_| reference.unwrap_or_default()),
                })
            },
        )?;
        let postings = tx.query(
            "SELECT trip, purpose, step, account, amount_minor, currency FROM posting",
            &[],
            |row| {
                Ok::<_, StoreError>(Posting {
                    trip: TripId(row.get(0)?),
                    purpose: row.get(1)?,
                    step: row.get(2)?,
                    account: row.get(3)?,
                    amount_minor: row.get(4)?,
                    currency: row.get(5)?,
                })
            },
        )?;
        Ok(Self { charges, postings })
    }

    /// Sums of single steps that are not zero, added up without their signs.
    #[must_use]
    pub fn unbalanced(&self) -> i64 {
        let mut sums: BTreeMap<_, i64> = BTreeMap::new();
        for it in &self.postings {
            let sum = sums.entry((it.trip, &it.purpose, &it.step, &it.currency)).or_default();
            *sum = sum.saturating_add(it.amount_minor);
        }
        sums.values().map(|sum| sum.abs()).sum()
    }
}

fn outbox_row(row: &Row<'_>) -> Result<OutboxRow, StoreError> {
    let payload: Vec<u8> = row.get(4)?;
    let published: Option<i64> = row.get(5)?;
    Ok(OutboxRow {
        row: row.get(0)?,
        rider: RiderId(row.get(1)?),
        event: row.get(2)?,
        kind: row.get(3)?,
        says: decode("rider event", &payload)?,
        published: published.and_then(|sequence| u64::try_from(sequence).ok()),
    })
}

fn trip_row(row: &Row<'_>) -> Result<TripRow, StoreError> {
    let ended: i64 = row.get(1)?;
    let snapshot: Option<Vec<u8>> = row.get(2)?;
    let snapshot = snapshot.map(|bytes| decode("trip snapshot", &bytes)).transpose()?;
    Ok(TripRow { trip: TripId(row.get(0)?), has_ended: ended != 0, snapshot })
}

fn key_row(row: &Row<'_>) -> Result<KeyRow, StoreError> {
    let body: String = row.get(2)?;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    let trip = body.get("trip_id").and_then(|trip| trip.as_str()?.parse().ok());
    Ok(KeyRow { rider: RiderId(row.get(0)?), key: row.get(1)?, trip })
}

/// How many of the rider service's events still wait for the broker, and how many charges for the
/// provider.
pub(super) async fn waiting(store: &Store) -> anyhow::Result<(u64, u64)> {
    let count = |tx: &Tx<'_>| {
        let outbox =
            tx.number("SELECT COUNT(*) FROM outbox WHERE published_sequence IS NULL", &[])?;
        let charges = tx.number("SELECT COUNT(*) FROM charge WHERE settled_at_us IS NULL", &[])?;
        Ok::<_, StoreError>((outbox, charges))
    };
    let (outbox, charges) = store.read(count).await?;
    Ok((u64::try_from(outbox)?, u64::try_from(charges)?))
}

/// Opening a store makes it where it is missing; an audit must not.
pub(super) async fn open(place: &Place) -> anyhow::Result<Store> {
    if let Place::File(path) = place
        && !path.exists()
    {
        bail!("there is no store of the rider service at `{place}`");
    }
    let store = Store::open(place).await;
    store.with_context(|| format!("cannot open the rider's store `{place}`"))
}
