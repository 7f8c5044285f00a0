//! The store's tables, as migrations in order, for both databases: what they call differently is in
//! braces. A migration that was released is never changed.

use rusqlite::{Connection, ErrorCode};

use super::{StoreError, postgres::Session};

/// What the two databases call differently: in the text, in SQLite, in PostgreSQL.
const WORDS: [(&str, &str, &str); 4] = [
    ("{id}", "BLOB", "UUID"),
    ("{bytes}", "BLOB", "BYTEA"),
    ("{number}", "INTEGER", "BIGINT"),
    ("{row}", "INTEGER NOT NULL PRIMARY KEY", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
];

/// In order; the file's `user_version` says how many it has seen.
const MIGRATIONS: [&str; 3] = [REQUESTS_OUTBOX_LEDGER_VIEW, OUTBOX_IN_ORDER, REPLICAS];

const REQUESTS_OUTBOX_LEDGER_VIEW: &str = "
-- What was answered to a request that carried an Idempotency-Key.
CREATE TABLE idempotency (
    rider          {id}     NOT NULL,
    key            TEXT     NOT NULL,
    fingerprint    {bytes}  NOT NULL,
    status         {number} NOT NULL,
    body           TEXT     NOT NULL,
    created_at_us  {number} NOT NULL,
    PRIMARY KEY (rider, key)
);
CREATE INDEX idempotency_by_age ON idempotency (created_at_us);

-- What riders asked for. `request` is the contract's RideRequested.
CREATE TABLE ride_request (
    trip             {id}     NOT NULL PRIMARY KEY,
    rider            {id}     NOT NULL,
    request          {bytes}  NOT NULL,
    requested_at_us  {number} NOT NULL,
    ended            {number} NOT NULL DEFAULT 0
);
CREATE INDEX ride_request_by_rider ON ride_request (rider, trip);
-- A rider is on one trip at a time.
CREATE UNIQUE INDEX ride_request_open ON ride_request (rider) WHERE ended = 0;

-- Events that wait for the broker, and those that it has: in order for each key.
CREATE TABLE outbox (
    id                  {row},
    key                 {id}     NOT NULL,
    event               {id}     NOT NULL UNIQUE,
    kind                TEXT     NOT NULL,
    correlation         {id}     NOT NULL,
    causation           {id},
    traceparent         TEXT,
    payload             {bytes}  NOT NULL,
    created_at_us       {number} NOT NULL,
    published_sequence  {number}
);
CREATE INDEX outbox_waiting ON outbox (key, id) WHERE published_sequence IS NULL;
CREATE INDEX outbox_published ON outbox (key, published_sequence)
    WHERE published_sequence IS NOT NULL;

-- One charge for each trip and purpose.
CREATE TABLE charge (
    trip                {id}     NOT NULL,
    purpose             TEXT     NOT NULL,
    rider               {id}     NOT NULL,
    driver              {id},
    amount_minor        {number} NOT NULL CHECK (amount_minor > 0),
    currency            TEXT     NOT NULL,
    first_call_at_us    {number} NOT NULL,
    provider_reference  TEXT,
    settled_at_us       {number},
    PRIMARY KEY (trip, purpose)
);

-- Double entry: the postings of one step of one charge sum to zero.
CREATE TABLE posting (
    trip           {id}     NOT NULL,
    purpose        TEXT     NOT NULL,
    step           TEXT     NOT NULL,
    account        TEXT     NOT NULL,
    amount_minor   {number} NOT NULL,
    currency       TEXT     NOT NULL,
    created_at_us  {number} NOT NULL,
    PRIMARY KEY (trip, purpose, step, account),
    FOREIGN KEY (trip, purpose) REFERENCES charge (trip, purpose)
);

-- The newest known state of every trip. `snapshot` is the contract's TripSnapshot.
CREATE TABLE trip_view (
    trip      {id}     NOT NULL PRIMARY KEY,
    rider     {id}     NOT NULL,
    sequence  {number} NOT NULL,
    snapshot  {bytes}  NOT NULL
);
CREATE INDEX trip_view_by_rider ON trip_view (rider, trip);

-- How far in its stream a view has come.
CREATE TABLE view_position (
    view      TEXT     NOT NULL PRIMARY KEY,
    sequence  {number} NOT NULL
);
";

const OUTBOX_IN_ORDER: &str = "
-- The oldest that wait are found without a look at all that wait.
CREATE INDEX outbox_in_order ON outbox (id) WHERE published_sequence IS NULL;
";

const REPLICAS: &str = "
-- Who shares this store, and until when each is surely alive: by the database's clock.
CREATE TABLE replica (
    id        {id}     NOT NULL PRIMARY KEY,
    until_us  {number} NOT NULL
);
-- Who carries which part of the outbox.
CREATE TABLE lease (
    slot   {number} NOT NULL PRIMARY KEY,
    owner  {id}     NOT NULL
);
ALTER TABLE outbox ADD COLUMN slot {number} NOT NULL DEFAULT 0;
-- Who is asking the provider for it, if anybody is.
ALTER TABLE charge ADD COLUMN caller {id};
";

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be read or written.
    #[error("the store cannot be opened")]
    Sqlite(#[from] rusqlite::Error),
    /// The writer's thread cannot be started.
    #[error("the store's writer cannot be started")]
    Thread(#[from] std::io::Error),
    /// The database does not let us in, or cannot be reached.
    #[error("the store cannot be opened")]
    Database(#[from] StoreError),
    /// A newer version wrote it.
    #[error("the store has version {found}, this service knows {known}")]
    Newer {
        /// The store's.
        found: u32,
        /// Ours.
        known: u32,
    },
}

impl OpenError {
    /// Whether trying again later may do.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Database(err) => matches!(err, StoreError::Failed(_)),
            Self::Sqlite(err) => matches!(
                err.sqlite_error_code(),
                Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure)
            ),
            Self::Thread(_) | Self::Newer { .. } => false,
        }
    }
}

/// What a store of that version has not seen, in order.
fn missing(found: u32) -> Result<impl Iterator<Item = (u32, &'static str)>, OpenError> {
    let all = || (1_u32..).zip(MIGRATIONS);
    let known = all().last().map_or(0, |(version, _)| version);
    if found > known {
        return Err(OpenError::Newer { found, known });
    }
    Ok(all().filter(move |(version, _)| *version > found))
}

/// Applies what is missing, each migration in a transaction of its own.
///
/// # Errors
/// When a statement fails, or the file is newer than this service.
pub(super) fn migrate_sqlite(connection: &mut Connection) -> Result<(), OpenError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (version, migration) in missing(found)? {
        let mut migration = migration.to_owned();
        for (word, sqlite, _) in WORDS {
            migration = migration.replace(word, sqlite);
        }
        let transaction = connection.transaction()?;
        transaction.execute_batch(&migration)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

/// As [`migrate_sqlite`], in the transaction that is open. Replicas that start together take turns.
///
/// # Errors
/// When a statement fails, or the tables are newer than this service.
pub(super) fn migrate_postgres(session: &Session) -> Result<(), OpenError> {
    session.lock("schema")?;
    session.batch("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")?;
    let found = session.query("SELECT version FROM schema_version ORDER BY version DESC", &[])?;
    let found = found.first().map(|row| row.try_get::<_, i64>(0)).transpose();
    let found = found.map_err(StoreError::from)?.unwrap_or(0);
    for (version, migration) in missing(u32::try_from(found).unwrap_or(u32::MAX))? {
        let mut migration = migration.to_owned();
        for (word, _, postgres) in WORDS {
            migration = migration.replace(word, postgres);
        }
        session.batch(&migration)?;
        session.execute("INSERT INTO schema_version (version) VALUES ($1)", &[version.into()])?;
    }
    Ok(())
}
