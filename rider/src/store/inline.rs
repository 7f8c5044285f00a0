//! A store in memory that works at once on the caller's thread: no file, no thread, no waiting. For
//! simulations, where the same calls must always happen in the same order.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::{OpenError, StoreError, Tx, schema};

/// A database in memory; lives as long as one of its clones.
#[derive(Debug, Clone)]
pub(super) struct Inline(Arc<Mutex<Connection>>);

impl Inline {
    pub(super) fn open() -> Result<Self, OpenError> {
        let mut connection = Connection::open_in_memory()?;
        connection.pragma_update(None, "foreign_keys", true)?;
        schema::migrate_sqlite(&mut connection)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Its error undoes what `work` wrote.
    pub(super) fn write<T, E: From<StoreError>>(
        &self,
        work: impl Fn(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction().map_err(StoreError::from)?;
        let done = work(&Tx::sqlite(&transaction))?;
        transaction.commit().map_err(StoreError::from)?;
        Ok(done)
    }

    pub(super) fn read<T, E>(&self, work: impl Fn(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(&Tx::sqlite(&connection))
    }
}
