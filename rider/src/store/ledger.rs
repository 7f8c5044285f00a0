//! Charges and their ledger: double entry, one charge for each trip and purpose.

use common::{clock::Timestamp, contract::Malformed, event_store::Cause, id::TripId, money::Money};

use uuid::Uuid;

use super::{Row, StoreError, Tx, outbox};
use crate::{
    domain::charge::{ChargeState, Debt, Purpose, Step, postings},
    wire,
};

/// A charge that is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// How far it is.
    pub state: ChargeState,
    /// Whether this call wrote it down, so that nobody can have asked the provider before.
    pub is_new: bool,
}

/// A charge as a receipt shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeLine {
    /// What for.
    pub purpose: Purpose,
    /// How much.
    pub amount: Money,
    /// How far it is.
    pub state: ChargeState,
}

/// Writes a debt down before the provider is asked, or finds what was written before.
///
/// # Errors
/// When the store fails.
pub fn owe(tx: &Tx<'_>, debt: &Debt, now: Timestamp) -> Result<Charge, StoreError> {
    let written = tx.execute(
        "INSERT INTO charge
             (trip, purpose, rider, driver, amount_minor, currency, first_call_at_us)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (trip, purpose) DO NOTHING",
        &[
            debt.trip.0.into(),
            debt.purpose.name().into(),
            debt.rider.0.into(),
            debt.driver.map(|driver| driver.0).into(),
            debt.amount.amount_minor.into(),
            debt.amount.currency.code().into(),
            now.micros().into(),
        ],
    )?;
    let is_new = written > 0;
    if is_new {
        post(tx, debt, Step::Owed, now)?;
        return Ok(Charge { state: ChargeState::Pending { first_call_at: now }, is_new });
    }
    let written = tx.query_one(
        "SELECT first_call_at_us, provider_reference, settled_at_us FROM charge
         WHERE trip = $1 AND purpose = $2",
        &[debt.trip.0.into(), debt.purpose.name().into()],
        |row| state(row, 0),
    )?;
    let state = written.ok_or_else(|| Malformed::new("charge", "it is there and it is not"))?;
    Ok(Charge { state, is_new })
}

/// Makes this replica the one that asks the provider for a debt, unless another one that is alive is
/// asking, or it is settled.
///
/// # Errors
/// When the store fails.
pub fn take(tx: &Tx<'_>, debt: &Debt, replica: Uuid) -> Result<bool, StoreError> {
    let now = tx.time()?;
    let taken = tx.execute(
        "UPDATE charge SET caller = $1
         WHERE trip = $2 AND purpose = $3 AND settled_at_us IS NULL
         AND (caller IS NULL OR caller = $1 OR NOT EXISTS
             (SELECT 1 FROM replica WHERE replica.id = charge.caller AND replica.until_us > $4))",
        &[replica.into(), debt.trip.0.into(), debt.purpose.name().into(), now.into()],
    )?;
    Ok(taken > 0)
}

/// Lets others ask the provider again.
///
/// # Errors
/// When the store fails.
pub fn leave(tx: &Tx<'_>, debt: &Debt, replica: Uuid) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE charge SET caller = NULL WHERE trip = $1 AND purpose = $2 AND caller = $3",
        &[debt.trip.0.into(), debt.purpose.name().into(), replica.into()],
    )?;
    Ok(())
}

/// Records that the provider has the money, and puts `fare_charged` in the outbox; both or neither,
/// and only once.
///
/// # Errors
/// When the store fails.
pub fn settle(
    tx: &Tx<'_>,
    debt: &Debt,
    provider_reference: &str,
    cause: &Cause,
    now: Timestamp,
) -> Result<(), StoreError> {
    let settled = tx.execute(
        "UPDATE charge SET provider_reference = $1, settled_at_us = $2
         WHERE trip = $3 AND purpose = $4 AND settled_at_us IS NULL",
        &[
            provider_reference.into(),
            now.micros().into(),
            debt.trip.0.into(),
            debt.purpose.name().into(),
        ],
    )?;
    if settled > 0 {
        post(tx, debt, Step::Settled, now)?;
        outbox::push(tx, &wire::fare_charged_event(debt, provider_reference, cause.clone(), now))?;
    }
    Ok(())
}

fn post(tx: &Tx<'_>, debt: &Debt, step: Step, now: Timestamp) -> Result<(), StoreError> {
    for posting in postings(step, debt.amount) {
        tx.execute(
            "INSERT INTO posting
                 (trip, purpose, step, account, amount_minor, currency, created_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &[
                debt.trip.0.into(),
                debt.purpose.name().into(),
                step.name().into(),
                posting.account.name().into(),
                posting.amount.amount_minor.into(),
                posting.amount.currency.code().into(),
                now.micros().into(),
            ],
        )?;
    }
    Ok(())
}

/// The charge of a trip, if one is written down. A trip has one end, so it has one charge at most.
///
/// # Errors
/// When the store fails.
pub fn charge_of(tx: &Tx<'_>, trip: TripId) -> Result<Option<ChargeLine>, StoreError> {
    tx.query_one(
        "SELECT purpose, amount_minor, currency, first_call_at_us, provider_reference,
                settled_at_us
         FROM charge WHERE trip = $1 ORDER BY purpose",
        &[trip.0.into()],
        |row| {
            Ok(ChargeLine {
                purpose: parsed(row, 0, "purpose")?,
                amount: Money::new(row.get(1)?, parsed(row, 2, "currency")?),
                state: state(row, 3)?,
            })
        },
    )
}

fn parsed<T>(row: &Row<'_>, column: usize, name: &'static str) -> Result<T, StoreError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|err| Malformed::new(name, err).into())
}

/// From three columns: first call, provider's reference, settled.
fn state(row: &Row<'_>, first: usize) -> Result<ChargeState, StoreError> {
    let first_call_at = Timestamp::from_micros(row.get(first)?);
    let provider_reference: Option<String> = row.get(first + 1)?;
    let settled_at: Option<i64> = row.get(first + 2)?;
    Ok(match (provider_reference, settled_at) {
        (Some(provider_reference), Some(at)) => {
            ChargeState::Succeeded { provider_reference, at: Timestamp::from_micros(at) }
        }
        _ => ChargeState::Pending { first_call_at },
    })
}

/// The sum of all postings of one account, for audits.
///
/// # Errors
/// When the store fails.
pub fn balance(tx: &Tx<'_>, account: &str) -> Result<i64, StoreError> {
    tx.number(
        "SELECT CAST(COALESCE(SUM(amount_minor), 0) AS BIGINT) FROM posting WHERE account = $1",
        &[account.into()],
    )
}
