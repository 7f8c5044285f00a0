//! The rider's own store. Every store function is written once, on a [`Tx`]; the database under it
//! is a file of SQLite for one process, PostgreSQL for several, or memory for simulations.

mod health;
mod inline;
pub mod lease;
pub mod ledger;
pub mod outbox;
mod place;
mod postgres;
mod reader;
pub mod requests;
mod schema;
mod sqlite;
pub mod trips;
mod tx;

use std::{sync::Arc, time::Duration};

use common::{contract::Malformed, failpoint, id::CommandId};
use rusqlite::ErrorCode;
use uuid::Uuid;

use self::{
    inline::Inline,
    postgres::{Postgres, Rights},
    sqlite::Sqlite,
};
pub use self::{
    place::{NotAPlace, Place},
    reader::Reader,
    schema::OpenError,
    sqlite::{Alone, NotAlone, alone},
    tx::{Column, Row, Tx, Value},
};

/// The first pause before a store that is full or away is tried again; it doubles.
const AGAIN_FIRST: Duration = Duration::from_millis(20);
/// The longest.
const AGAIN_MAX: Duration = Duration::from_millis(500);

/// What the database says when it fails.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    /// No session with PostgreSQL is to be had, or the one that was is lost.
    #[error("no session with the database: {0}")]
    Sessions(String),
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

impl StoreError {
    /// Whether it gets well without anybody changing the statement or the data: a disk that is full
    /// or in trouble, a database that is away.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Failed(err) if err.is_outage())
    }

    /// What the database said, for a log.
    fn cause(&self) -> String {
        match self {
            Self::Failed(err) => err.to_string(),
            other => other.to_string(),
        }
    }
}

impl DatabaseError {
    fn is_outage(&self) -> bool {
        match self {
            Self::Sqlite(err) => matches!(
                err.sqlite_error_code(),
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::CannotOpen
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::OperationAborted
                )
            ),
            Self::Postgres(err) => postgres::is_outage(err),
            Self::Sessions(_) => true,
        }
    }
}

impl From<DatabaseError> for StoreError {
    fn from(err: DatabaseError) -> Self {
        Self::Failed(Arc::new(err))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(err: rusqlite::Error) -> Self {
        DatabaseError::from(err).into()
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(err: tokio_postgres::Error) -> Self {
        DatabaseError::from(err).into()
    }
}

/// The store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
    replica: Uuid,
}

#[derive(Debug, Clone)]
enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
    Inline(Inline),
}

impl Store {
    /// Opens it, makes the file where it is missing and brings the tables up to date.
    ///
    /// # Errors
    /// When it cannot be opened, or a newer version of this service wrote it.
    pub async fn open(place: &Place) -> Result<Self, OpenError> {
        let database = match place {
            Place::File(path) => Database::Sqlite(Sqlite::open(path)?),
            Place::Postgres(config) => {
                Database::Postgres(Postgres::connect(config.as_ref().clone(), Rights::Write).await?)
            }
        };
        Ok(Self { database, replica: CommandId::fresh().0 })
    }

    /// In memory, without a thread: a call is done when it is first polled, so that a simulation
    /// always runs alike. Its clones share it; with the last one it is gone.
    ///
    /// # Errors
    /// When the tables cannot be made.
    pub fn inline() -> Result<Self, OpenError> {
        Ok(Self { database: Database::Inline(Inline::open()?), replica: Uuid::nil() })
    }

    /// The name of this process among those that share the store.
    #[must_use]
    pub fn replica(&self) -> Uuid {
        self.replica
    }

    /// Whether other processes may use it at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.database, Database::Postgres(_))
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
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.writer.try_write(work).await,
            Database::Postgres(postgres) => postgres.try_write(work).await,
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
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.writer.write(work).await,
            Database::Postgres(postgres) => postgres.write(work).await,
            Database::Inline(inline) => inline.write(work),
        }
    }

    /// [`Self::write`], again and again while the store is full or away: for work that nobody waits
    /// for and that may be repeated, even after it was done.
    ///
    /// # Errors
    /// What `work` says, or why it could not be written, other than that.
    pub async fn outlast<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: Fn(&Tx<'_>) -> Result<T, StoreError> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        let mut pause = AGAIN_FIRST;
        loop {
            let work = Arc::clone(&work);
            match self.write(move |tx| work(tx)).await {
                Err(err) if err.is_outage() => {
                    tracing::debug!(error = %err.cause(), "not written, trying again");
                }
                done => return done,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }

    /// Whether the last write failed for a reason that passes: then it is better not to come here.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.health.is_failing(),
            Database::Postgres(postgres) => postgres.health.is_failing(),
            Database::Inline(_) => false,
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
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.readers.read(work).await,
            Database::Postgres(postgres) => postgres.read(work).await,
            Database::Inline(inline) => inline.read(work),
        }
    }

    /// Writes what waits. What comes later is refused.
    pub async fn close(&self) {
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.writer.close().await,
            Database::Postgres(postgres) => postgres.close().await,
            Database::Inline(_) => {}
        }
    }
}

/// A commit, on whatever database: before it nothing is written, after it all is.
fn committing<E>(commit: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    failpoint::reach("store.written");
    commit()?;
    failpoint::reach("store.committed");
    Ok(())
}

#[cfg(test)]
mod tests;
