//! The rider's own store. Every store function is written once, on a [`Tx`]; the database under it
//! is a file of SQLite, or memory for simulations.

mod inline;
pub mod ledger;
pub mod outbox;
pub mod requests;
mod schema;
mod sqlite;
pub mod trips;
mod tx;

use std::{path::Path, sync::Arc};

use common::contract::Malformed;

use self::{inline::Inline, sqlite::Sqlite};
pub use self::{
    schema::OpenError,
    sqlite::{NotAlone, alone},
    tx::{Column, Row, Tx, Value},
};

/// What the database says when it fails.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Why the store did not do something, split by what the caller does next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Too many writes wait already: ask again later.
    #[error("the store's queue is full")]
    Overloaded,
    /// The service is stopping.
    #[error("the store is closed")]
    Closed,
    /// The disk or the database failed. Nothing of this call was written, unless the very commit
    /// failed: then it may have been. Whoever repeats it must find that out by itself.
    #[error("the store failed")]
    Failed(#[source] Arc<DatabaseError>),
    /// A row does not hold what was written in it.
    #[error("the store is corrupt")]
    Corrupt(#[from] Malformed),
}

impl From<rusqlite::Error> for StoreError {
    fn from(err: rusqlite::Error) -> Self {
        Self::Failed(Arc::new(err.into()))
    }
}

/// The store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Database);

#[derive(Debug, Clone)]
enum Database {
    Sqlite(Sqlite),
    Inline(Inline),
}

impl Store {
    /// Opens the file, makes it where it is missing and brings its tables up to date.
    ///
    /// # Errors
    /// When the file cannot be opened, or a newer version of this service wrote it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self(Database::Sqlite(Sqlite::open(path)?)))
    }

    /// In memory, without a thread: a call is done when it is first polled, so that a simulation
    /// always runs alike. Its clones share it; with the last one it is gone.
    ///
    /// # Errors
    /// When the tables cannot be made.
    pub fn inline() -> Result<Self, OpenError> {
        Ok(Self(Database::Inline(Inline::open()?)))
    }

    /// Carries `work` out and answers once it is on disk. Its error undoes what it wrote, and only
    /// that. Refuses at once when too much waits. `work` may be carried out again where the
    /// database had to undo it.
    ///
    /// # Errors
    /// What `work` says, or why it could not be written.
    pub async fn try_write<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        W: Fn(&Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        match &self.0 {
            Database::Sqlite(sqlite) => sqlite.writer.try_write(work).await,
            Database::Inline(inline) => inline.write(work),
        }
    }

    /// [`Self::try_write`] that waits for room: for work that nobody could be sent away from.
    ///
    /// # Errors
    /// What `work` says, or why it could not be written.
    pub async fn write<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        W: Fn(&Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        match &self.0 {
            Database::Sqlite(sqlite) => sqlite.writer.write(work).await,
            Database::Inline(inline) => inline.write(work),
        }
    }

    /// Reads what is committed.
    ///
    /// # Errors
    /// What `work` says, or why it could not be read.
    pub async fn read<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        W: Fn(&Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        match &self.0 {
            Database::Sqlite(sqlite) => sqlite.read(work).await,
            Database::Inline(inline) => inline.read(work),
        }
    }

    /// Writes what waits. What comes later is refused.
    pub async fn close(&self) {
        match &self.0 {
            Database::Sqlite(sqlite) => sqlite.writer.close().await,
            Database::Inline(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
