//! The rider's own store: SQLite in WAL mode, every commit synced. One writer thread commits all that
//! waits in one transaction; readers have connections of their own. Statements number `$1, $2, …` in
//! the order of their first use, which PostgreSQL reads alike.

pub mod ledger;
pub mod outbox;
pub mod requests;
mod schema;
mod single;
pub mod trips;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::contract::Malformed;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

pub use self::single::{NotAlone, alone};
use self::writer::Writer;

/// Reads at the same time; more would wait for the same disk and cores.
const READERS_MAX: usize = 4;
/// A lock is only ever held for a commit or a checkpoint.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept per connection.
const STATEMENTS_MAX: usize = 64;

/// Why the store did not do something, split by what the caller does next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Too many writes wait already: ask again later.
    #[error("the store's queue is full")]
    Overloaded,
    /// The service is stopping.
    #[error("the store is closed")]
    Closed,
    /// The disk or the file failed; nothing of this call was written.
    #[error("the store failed")]
    Failed(#[source] Arc<rusqlite::Error>),
    /// A row does not hold what was written in it.
    #[error("the store is corrupt")]
    Corrupt(#[from] Malformed),
}

impl From<rusqlite::Error> for StoreError {
    fn from(err: rusqlite::Error) -> Self {
        Self::Failed(Arc::new(err))
    }
}

/// The store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    writer: Writer,
    readers: Arc<Readers>,
}

impl Store {
    /// Opens the file, makes it where it is missing and brings its tables up to date.
    ///
    /// # Errors
    /// When the file cannot be opened, or a newer version of this service wrote it.
    pub fn open(path: &Path) -> Result<Self, schema::OpenError> {
        let mut connection = connect(path, OpenFlags::default())?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        schema::migrate(&mut connection)?;
        let readers = Readers {
            path: path.to_owned(),
            idle: Mutex::new(Vec::new()),
            permits: Semaphore::new(READERS_MAX),
        };
        Ok(Self { writer: Writer::start(connection)?, readers: Arc::new(readers) })
    }

    /// Carries `work` out on the writer and answers once it is on disk. Its error undoes what it
    /// wrote, and only that. Refuses at once when too much waits.
    ///
    /// # Errors
    /// What `work` says, or why it could not be written.
    pub async fn try_write<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        W: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        self.writer.try_write(work).await
    }

    /// [`Self::try_write`] that waits for room: for work that nobody could be sent away from.
    ///
    /// # Errors
    /// What `work` says, or why it could not be written.
    pub async fn write<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        W: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        self.writer.write(work).await
    }

    /// Reads what is committed.
    ///
    /// # Errors
    /// What `work` says, or why it could not be read.
    pub async fn read<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        W: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let readers = Arc::clone(&self.readers);
        let Ok(_permit) = readers.permits.acquire().await else {
            return Err(StoreError::Closed.into());
        };
        let using = Arc::clone(&readers);
        tokio::task::spawn_blocking(move || {
            let connection = using.take()?;
            let result = work(&connection);
            using.give_back(connection);
            result
        })
        .await
        .unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// Writes what waits and stops the writer. What comes later is refused.
    pub async fn close(&self) {
        self.writer.close().await;
    }
}

#[derive(Debug)]
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Readers {
    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                Ok(connect(&self.path, flags)?)
            }
        }
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

#[cfg(test)]
mod tests;
