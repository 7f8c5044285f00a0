//! The store's tables, as migrations in order. A migration that was released is never changed.

use rusqlite::Connection;

/// In order; the file's `user_version` says how many it has seen.
const MIGRATIONS: [&str; 2] = [REQUESTS_OUTBOX_LEDGER_VIEW, OUTBOX_IN_ORDER];

const REQUESTS_OUTBOX_LEDGER_VIEW: &str = "
-- What was answered to a request that carried an Idempotency-Key.
CREATE TABLE idempotency (
    rider          BLOB    NOT NULL,
    key            TEXT    NOT NULL,
    fingerprint    BLOB    NOT NULL,
    status         INTEGER NOT NULL,
    body           TEXT    NOT NULL,
    created_at_us  INTEGER NOT NULL,
    PRIMARY KEY (rider, key)
);
CREATE INDEX idempotency_by_age ON idempotency (created_at_us);

-- What riders asked for. `request` is the contract's RideRequested.
CREATE TABLE ride_request (
    trip             BLOB    NOT NULL PRIMARY KEY,
    rider            BLOB    NOT NULL,
    request          BLOB    NOT NULL,
    requested_at_us  INTEGER NOT NULL,
    ended            INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX ride_request_by_rider ON ride_request (rider, trip);
-- A rider is on one trip at a time.
CREATE UNIQUE INDEX ride_request_open ON ride_request (rider) WHERE ended = 0;

-- Events that wait for the broker, and those that it has: in order for each key.
CREATE TABLE outbox (
    id                  INTEGER NOT NULL PRIMARY KEY,
    key                 BLOB    NOT NULL,
    event               BLOB    NOT NULL UNIQUE,
    kind                TEXT    NOT NULL,
    correlation         BLOB    NOT NULL,
    causation           BLOB,
    traceparent         TEXT,
    payload             BLOB    NOT NULL,
    created_at_us       INTEGER NOT NULL,
    published_sequence  INTEGER
);
CREATE INDEX outbox_waiting ON outbox (key, id) WHERE published_sequence IS NULL;
CREATE INDEX outbox_published ON outbox (key, published_sequence)
    WHERE published_sequence IS NOT NULL;

-- One charge for each trip and purpose.
CREATE TABLE charge (
    trip                BLOB    NOT NULL,
    purpose             TEXT    NOT NULL,
    rider               BLOB    NOT NULL,
    driver              BLOB,
    amount_minor        INTEGER NOT NULL CHECK (amount_minor > 0),
    currency            TEXT    NOT NULL,
    first_call_at_us    INTEGER NOT NULL,
    provider_reference  TEXT,
    settled_at_us       INTEGER,
    PRIMARY KEY (trip, purpose)
);

-- Double entry: the postings of one step of one charge sum to zero.
CREATE TABLE posting (
    trip           BLOB    NOT NULL,
    purpose        TEXT    NOT NULL,
    step           TEXT    NOT NULL,
    account        TEXT    NOT NULL,
    amount_minor   INTEGER NOT NULL,
    currency       TEXT    NOT NULL,
    created_at_us  INTEGER NOT NULL,
    PRIMARY KEY (trip, purpose, step, account),
    FOREIGN KEY (trip, purpose) REFERENCES charge (trip, purpose)
);

-- The newest known state of every trip. `snapshot` is the contract's TripSnapshot.
CREATE TABLE trip_view (
    trip      BLOB    NOT NULL PRIMARY KEY,
    rider     BLOB    NOT NULL,
    sequence  INTEGER NOT NULL,
    snapshot  BLOB    NOT NULL
);
CREATE INDEX trip_view_by_rider ON trip_view (rider, trip);

-- How far in its stream a view has come.
CREATE TABLE view_position (
    view      TEXT    NOT NULL PRIMARY KEY,
    sequence  INTEGER NOT NULL
);
";

const OUTBOX_IN_ORDER: &str = "
-- The oldest that wait are found without a look at all that wait.
CREATE INDEX outbox_in_order ON outbox (id) WHERE published_sequence IS NULL;
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
    /// A newer version wrote it.
    #[error("the store has version {found}, this service knows {known}")]
    Newer {
        /// The file's.
        found: u32,
        /// Ours.
        known: u32,
    },
}

/// Applies what is missing, each migration in a transaction of its own.
///
/// # Errors
/// When a statement fails, or the file is newer than this service.
pub(super) fn migrate_sqlite(connection: &mut Connection) -> Result<(), OpenError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = (1_u32..).zip(MIGRATIONS).last().map_or(0, |(version, _)| version);
    if found > known {
        return Err(OpenError::Newer { found, known });
    }
    for (version, migration) in (1_u32..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
