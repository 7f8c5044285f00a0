//! Somebody else's look at the store, an audit for one: it makes nothing and changes nothing.

use super::{
    OpenError, Place, StoreError, Tx,
    postgres::{Postgres, Rights},
    sqlite::Readers,
};

/// A store that is there, to be read only; cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader(Books);

#[derive(Debug, Clone)]
enum Books {
    Sqlite(Readers),
    Postgres(Postgres),
}

impl Reader {
    /// Opens a store that is there already.
    ///
    /// # Errors
    /// When it is not, or cannot be opened.
    pub async fn open(place: &Place) -> Result<Self, OpenError> {
        Ok(Self(match place {
            Place::File(path) => Books::Sqlite(Readers::open(path)?),
            Place::Postgres(config) => {
                let reading = Postgres::connect(config.as_ref().clone(), Rights::Read);
                Books::Postgres(reading.await?)
            }
        }))
    }

    /// Reads what is committed.
    ///
    /// # Errors
    /// What `work` says, or why it could not be read; as well when `work` would write.
    pub async fn read<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        W: Fn(&Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        match &self.0 {
            Books::Sqlite(readers) => readers.read(work).await,
            Books::Postgres(postgres) => postgres.read(work).await,
        }
    }
}
