//! Charges and their ledger: double entry, one charge for each trip and purpose.

use common::{clock::Timestamp, event_store::Cause, id::TripId, money::Money};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{StoreError, outbox};
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
pub fn owe(connection: &Connection, debt: &Debt, now: Timestamp) -> Result<Charge, StoreError> {
    let written = connection
        .prepare_cached(
            "INSERT INTO charge
                 (trip, purpose, rider, driver, amount_minor, currency, first_call_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (trip, purpose) DO NOTHING",
        )?
        .execute(params![
            debt.trip.0,
            debt.purpose.name(),
            debt.rider.0,
            debt.driver.map(|driver| driver.0),
            debt.amount.amount_minor,
            debt.amount.currency.code(),
            now.micros(),
        ])?;
    let is_new = written > 0;
    if is_new {
        post(connection, debt, Step::Owed, now)?;
    }
    let state = connection
        .prepare_cached(
            "SELECT first_call_at_us, provider_reference, settled_at_us FROM charge
             WHERE trip = $1 AND purpose = $2",
        )?
        .query_row(params![debt.trip.0, debt.purpose.name()], |row| state(row, 0))?;
    Ok(Charge { state, is_new })
}

/// Records that the provider has the money, and puts `fare_charged` in the outbox; both or neither,
/// and only once.
///
/// # Errors
/// When the store fails.
pub fn settle(
    connection: &Connection,
    debt: &Debt,
    provider_reference: &str,
    cause: Cause,
    now: Timestamp,
) -> Result<(), StoreError> {
    let settled = connection
        .prepare_cached(
            "UPDATE charge SET provider_reference = $1, settled_at_us = $2
             WHERE trip = $3 AND purpose = $4 AND settled_at_us IS NULL",
        )?
        .execute(params![provider_reference, now.micros(), debt.trip.0, debt.purpose.name()])?;
    if settled > 0 {
        post(connection, debt, Step::Settled, now)?;
        outbox::push(connection, &wire::fare_charged_event(debt, provider_reference, cause, now))?;
    }
    Ok(())
}

fn post(
    connection: &Connection,
    debt: &Debt,
    step: Step,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO posting (trip, purpose, step, account, amount_minor, currency, created_at_us)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )?;
    for posting in postings(step, debt.amount) {
        statement.execute(params![
            debt.trip.0,
            debt.purpose.name(),
            step.name(),
            posting.account.name(),
            posting.amount.amount_minor,
            posting.amount.currency.code(),
            now.micros(),
        ])?;
    }
    Ok(())
}

/// The charge of a trip, if one is written down. A trip has one end, so it has one charge at most.
///
/// # Errors
/// When the store fails.
pub fn charge_of(connection: &Connection, trip: TripId) -> Result<Option<ChargeLine>, StoreError> {
    Ok(connection
        .prepare_cached(
            "SELECT purpose, amount_minor, currency, first_call_at_us, provider_reference,
                    settled_at_us
             FROM charge WHERE trip = $1 ORDER BY purpose",
        )?
        .query_row([trip.0], |row| {
            Ok(ChargeLine {
                purpose: parsed(row, 0)?,
                amount: Money::new(row.get(1)?, parsed(row, 2)?),
                state: state(row, 3)?,
            })
        })
        .optional()?)
}

fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|err| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            Box::new(err),
        )
    })
}

/// From three columns: first call, provider's reference, settled.
fn state(row: &Row<'_>, first: usize) -> rusqlite::Result<ChargeState> {
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
pub fn balance(connection: &Connection, account: &str) -> Result<i64, StoreError> {
    Ok(connection
        .prepare_cached("SELECT COALESCE(SUM(amount_minor), 0) FROM posting WHERE account = $1")?
        .query_row([account], |row| row.get(0))?)
}
