//! SQLite in WAL mode, every commit synced. One writer thread commits all that waits in one
//! transaction; readers have connections of their own. One process to a file.

mod single;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

pub use self::single::{Alone, NotAlone, alone};
use self::writer::Writer;
use super::{OpenError, StoreError, Tx, health::Health, schema};

/// Reads at the same time; more would wait for the same disk and cores.
const READERS_MAX: usize = 4;
/// A lock is only ever held for a commit or a checkpoint.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept per connection.
const STATEMENTS_MAX: usize = 64;

/// A file.
#[derive(Debug, Clone)]
pub(super) struct Sqlite {
    pub(super) writer: Writer,
    pub(super) readers: Readers,
    pub(super) health: Health,
}

impl Sqlite {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let mut connection = connect(path, OpenFlags::default())?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        schema::migrate_sqlite(&mut connection)?;
        let health = Health::default();
        let writer = Writer::start(connection, health.clone())?;
        Ok(Self { writer, readers: Readers::new(path), health })
    }
}

/// Connections that only read.
#[derive(Debug, Clone)]
pub(super) struct Readers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Readers {
    fn new(path: &Path) -> Self {
        Self(Arc::new(Shared {
            path: path.to_owned(),
            idle: Mutex::new(Vec::new()),
            permits: Semaphore::new(READERS_MAX),
        }))
    }

    /// Of a file that must be there.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let this = Self::new(path);
        this.0.give_back(this.0.take()?);
        Ok(this)
    }

    pub(super) async fn read<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        W: Fn(&Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        let Ok(_permit) = self.0.permits.acquire().await else {
            return Err(StoreError::Closed.into());
        };
        let using = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            let connection = using.take()?;
            let result = work(&Tx::sqlite(&connection));
            using.give_back(connection);
            result
        })
        .await
        .unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }
}

impl Shared {
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
