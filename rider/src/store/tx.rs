//! A transaction on either database: what a store function needs to run a statement, and no more.
//! Statements number `$1, $2, …` in the order of their first use, which SQLite and PostgreSQL read
//! alike, so that every store function is written once.

use rusqlite::{
    Connection, params_from_iter,
    types::{FromSql, ToSqlOutput, ValueRef},
};
use uuid::Uuid;

use super::StoreError;

/// A value that a statement is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Nothing.
    Null,
    /// A whole number: counts, times in µs, money in minor units.
    Number(i64),
    /// Text.
    Text(&'a str),
    /// Bytes: messages of the contract.
    Bytes(&'a [u8]),
    /// An id.
    Id(Uuid),
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<Uuid> for Value<'_> {
    fn from(id: Uuid) -> Self {
        Self::Id(id)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a, T: Into<Self>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Number(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
            Self::Id(id) => ValueRef::Blob(id.as_bytes()),
        }))
    }
}

/// What a column may be read as: `i64`, `String`, `Vec<u8>`, `Uuid`, or an `Option` of those.
pub trait Column: FromSql {}

impl<T: FromSql> Column for T {}

/// A row that a query found.
#[derive(Debug)]
pub struct Row<'a>(&'a rusqlite::Row<'a>);

impl Row<'_> {
    /// The column of that number, from 0.
    ///
    /// # Errors
    /// When it is not there, or not of that type.
    pub fn get<T: Column>(&self, column: usize) -> Result<T, StoreError> {
        Ok(self.0.get(column)?)
    }
}

/// A transaction that is open.
#[derive(Debug)]
pub struct Tx<'a>(&'a Connection);

impl<'a> Tx<'a> {
    pub(super) fn sqlite(connection: &'a Connection) -> Self {
        Self(connection)
    }

    /// Runs a statement and says how many rows it wrote.
    ///
    /// # Errors
    /// When the store fails.
    pub fn execute(&self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        let rows = self.0.prepare_cached(sql)?.execute(params_from_iter(values))?;
        Ok(u64::try_from(rows).unwrap_or(u64::MAX))
    }

    /// All rows that a query finds, each as `read` reads it.
    ///
    /// # Errors
    /// When the store fails, or what `read` says.
    pub fn query<T, E: From<StoreError>>(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        let mut statement = self.0.prepare_cached(sql).map_err(StoreError::from)?;
        let mut rows = statement.query(params_from_iter(values)).map_err(StoreError::from)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            found.push(read(&Row(row))?);
        }
        Ok(found)
    }

    /// The row that a query finds, if it finds one.
    ///
    /// # Errors
    /// When the store fails, or what `read` says.
    pub fn query_one<T, E: From<StoreError>>(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        Ok(self.query(sql, values, read)?.into_iter().next())
    }

    /// The one number that a query of counts or sums finds.
    ///
    /// # Errors
    /// When the store fails.
    pub fn number(&self, sql: &'static str, values: &[Value<'_>]) -> Result<i64, StoreError> {
        let number = self.query_one::<_, StoreError>(sql, values, |row| row.get(0))?;
        Ok(number.unwrap_or(0))
    }
}
