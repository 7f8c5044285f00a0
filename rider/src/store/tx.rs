//! A transaction on either database: what a store function needs to run a statement, and no more.
//! Statements number `$1, $2, …` in the order of their first use, which SQLite and PostgreSQL read
//! alike, so that every store function is written once.

use std::error::Error;

use bytes::BytesMut;
use rusqlite::{
    Connection, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};
use tokio_postgres::types::{IsNull, ToSql, Type};
use uuid::Uuid;

use super::{StoreError, postgres::Session};

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

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Number(number) => number.to_sql_checked(ty, out),
            Self::Text(text) => text.to_sql_checked(ty, out),
            Self::Bytes(bytes) => bytes.to_sql_checked(ty, out),
            Self::Id(id) => id.to_sql_checked(ty, out),
        }
    }

    /// Which types fit depends on the value.
    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// What a column may be read as: `i64`, `String`, `Vec<u8>`, `Uuid`, or an `Option` of those.
pub trait Column: rusqlite::types::FromSql + for<'a> tokio_postgres::types::FromSql<'a> {}

impl<T> Column for T where T: rusqlite::types::FromSql + for<'a> tokio_postgres::types::FromSql<'a> {}

/// A row that a query found.
#[derive(Debug)]
pub struct Row<'a>(Found<'a>);

#[derive(Debug)]
enum Found<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a tokio_postgres::Row),
}

impl Row<'_> {
    /// The column of that number, from 0.
    ///
    /// # Errors
    /// When it is not there, or not of that type.
    pub fn get<T: Column>(&self, column: usize) -> Result<T, StoreError> {
        match self.0 {
            Found::Sqlite(row) => Ok(row.get(column)?),
            Found::Postgres(row) => Ok(row.try_get(column)?),
        }
    }
}

/// A transaction that is open, or a look at what is committed.
#[derive(Debug)]
pub struct Tx<'a>(On<'a>);

#[derive(Debug)]
enum On<'a> {
    Sqlite(&'a Connection),
    Postgres(&'a Session),
}

impl<'a> Tx<'a> {
    pub(super) fn sqlite(connection: &'a Connection) -> Self {
        Self(On::Sqlite(connection))
    }

    pub(super) fn postgres(session: &'a Session) -> Self {
        Self(On::Postgres(session))
    }

    /// Waits until no other transaction has this name, and keeps it to the end of this one. What is
    /// read after it was committed by all that had it before. SQLite has one writer anyway.
    ///
    /// # Errors
    /// When the store fails.
    pub fn lock(&self, name: &str) -> Result<(), StoreError> {
        match self.0 {
            On::Sqlite(_) => Ok(()),
            On::Postgres(session) => session.lock(name),
        }
    }

    /// The time by which replicas judge each other: the database's own, microseconds. A file has one
    /// process, which has nobody to judge: always the same.
    ///
    /// # Errors
    /// When the store fails.
    pub fn time(&self) -> Result<i64, StoreError> {
        match self.0 {
            On::Sqlite(_) => Ok(0),
            On::Postgres(_) => self.number(
                "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
                &[],
            ),
        }
    }

    /// Runs a statement and says how many rows it wrote.
    ///
    /// # Errors
    /// When the store fails.
    pub fn execute(&self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        match self.0 {
            On::Sqlite(connection) => {
                let rows = connection.prepare_cached(sql)?.execute(params_from_iter(values))?;
                Ok(u64::try_from(rows).unwrap_or(u64::MAX))
            }
            On::Postgres(session) => session.execute(sql, values),
        }
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
        match self.0 {
            On::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql).map_err(StoreError::from)?;
                let rows = statement.query(params_from_iter(values));
                let mut rows = rows.map_err(StoreError::from)?;
                let mut found = Vec::new();
                while let Some(row) = rows.next().map_err(StoreError::from)? {
                    found.push(read(&Row(Found::Sqlite(row)))?);
                }
                Ok(found)
            }
            On::Postgres(session) => {
                let rows = session.query(sql, values)?;
                rows.iter().map(|row| read(&Row(Found::Postgres(row)))).collect()
            }
        }
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
