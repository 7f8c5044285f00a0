//! PostgreSQL, which several replicas may share. Every write is a transaction of its own on one of
//! some sessions; the database itself groups their syncs. Transactions read what is committed
//! (`READ COMMITTED`); what must not change while it is decided upon is locked first, by name
//! ([`Tx::lock`]) or by the row that is written.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    sync::Arc,
    time::Duration,
};

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};
use tokio::runtime::Handle;
use tokio_postgres::{Config, NoTls, Row, error::SqlState, types::ToSql};
use tokio_util::task::TaskTracker;

use super::{DatabaseError, OpenError, StoreError, Tx, Value, committing, health::Health, schema};

/// Sessions of one replica. Each of them may wait for a sync; more would wait for the same disk.
const SESSIONS_MAX: usize = 16;
/// Calls that may wait for a session. More would only wait longer: callers are told to come back.
const QUEUE_MAX: usize = 1024;
/// How long it may take to open a session.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long the database may take for a statement before the session counts as lost.
const CALL_MAX: Duration = Duration::from_secs(5);
/// How often a transaction is carried out that the database had to undo for the sake of another.
const ATTEMPTS_MAX: u32 = 5;
/// A commit is on disk before it is answered, whatever the database was told; a session that its
/// client left in the middle of a transaction does not keep its locks for ever.
const SESSION: &str = "
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') IN ('off', 'local');
    SET idle_in_transaction_session_timeout = '5s';
    SET statement_timeout = '5s'";

/// For those who only look.
const READ_ONLY: &str = "SET default_transaction_read_only = on";

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    Read,
    Write,
}

/// A database.
#[derive(Debug, Clone)]
pub(super) struct Postgres {
    pool: Pool,
    calls: TaskTracker,
    pub(super) health: Health,
}

impl Postgres {
    /// Connects; brings the tables up to date where it may.
    pub(super) async fn connect(mut config: Config, rights: Rights) -> Result<Self, OpenError> {
        config.connect_timeout(CONNECT_MAX).tcp_user_timeout(CALL_MAX);
        if config.get_application_name().is_none() {
            config.application_name("rider");
        }
        let recycling_method = RecyclingMethod::Fast;
        let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method });
        let pool = Pool::builder(manager)
            .max_size(SESSIONS_MAX)
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(CONNECT_MAX))
            .post_create(Hook::async_fn(move |client, _| {
                Box::pin(async move {
                    let begun = async {
                        client.batch_execute(SESSION).await?;
                        match rights {
                            Rights::Write => Ok(()),
                            Rights::Read => client.batch_execute(READ_ONLY).await,
                        }
                    };
                    begun.await.map_err(HookError::Backend)
                })
            }))
            .build()
            .map_err(|err| StoreError::from(DatabaseError::Sessions(err.to_string())))?;
        let this = Self { pool, calls: TaskTracker::new(), health: Health::default() };
        this.call::<_, OpenError>(move |session| match rights {
            Rights::Read => {
                session.execute("SELECT version FROM schema_version LIMIT 1", &[])?;
                Ok(())
            }
            Rights::Write => {
                session.batch("BEGIN")?;
                schema::migrate_postgres(session)?;
                Ok(session.commit()?)
            }
        })
        .await?;
        Ok(this)
    }

    pub(super) async fn try_write<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        W: Fn(&Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        if self.pool.status().waiting >= QUEUE_MAX {
            return Err(StoreError::Overloaded.into());
        }
        self.write(work).await
    }

    pub(super) async fn write<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        W: Fn(&Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.call(move |session| session.write(&work)).await
    }

    pub(super) async fn read<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        W: Fn(&Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.call(move |session| work(&Tx::postgres(session))).await
    }

    async fn call<T, E>(
        &self,
        work: impl FnOnce(&Session) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        // Before the look, so that `close` waits for every call that did not see it closed.
        let token = self.calls.token();
        if self.calls.is_closed() {
            return Err(StoreError::Closed.into());
        }
        let client = self.pool.get().await;
        let client = client
            .map_err(|err| StoreError::from(DatabaseError::Sessions(chain(&err))))
            .inspect_err(|err| self.health.failing(err))?;
        let session = Session::new(client, self.health.clone());
        let done = tokio::task::spawn_blocking(move || {
            let _token = token;
            work(&session)
        });
        done.await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// Carries out what waits. What comes later is refused.
    pub(super) async fn close(&self) {
        self.calls.close();
        self.calls.wait().await;
        self.pool.close();
    }
}

/// One session, for as long as one call has it. Used off the runtime's own threads, which it waits
/// for.
#[derive(Debug)]
pub(super) struct Session {
    client: RefCell<Option<Object>>,
    runtime: Handle,
    /// Whether it may be in the middle of something, and so is no good for others.
    is_busy: Cell<bool>,
    /// Why the transaction cannot be committed any more, whatever its work makes of that.
    failure: RefCell<Option<Arc<DatabaseError>>>,
    health: Health,
}

impl Session {
    fn new(client: Object, health: Health) -> Self {
        Self {
            client: RefCell::new(Some(client)),
            runtime: Handle::current(),
            is_busy: Cell::new(false),
            failure: RefCell::default(),
            health,
        }
    }

    fn write<T, E: From<StoreError>>(
        &self,
        work: impl Fn(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut attempts = 1;
        loop {
            self.batch("BEGIN")?;
            let done = work(&Tx::postgres(self));
            let failed = self.failure.take();
            let failure = match (done, failed) {
                (Ok(done), None) => match self.commit() {
                    Ok(()) => return Ok(done),
                    Err(StoreError::Failed(err)) => err,
                    Err(err) => return Err(err.into()),
                },
                (Err(refusal), None) => {
                    self.undo();
                    return Err(refusal);
                }
                (_, Some(failure)) => failure,
            };
            self.undo();
            if !is_worth_another(&failure) || attempts == ATTEMPTS_MAX {
                return Err(StoreError::Failed(failure).into());
            }
            attempts += 1;
        }
    }

    pub(super) fn commit(&self) -> Result<(), StoreError> {
        committing(|| self.batch("COMMIT"))?;
        self.is_busy.set(false);
        self.health.well();
        Ok(())
    }

    /// Should the session be lost instead, the database undoes it by itself.
    fn undo(&self) {
        match self.batch("ROLLBACK") {
            Ok(()) => self.is_busy.set(false),
            Err(err) => tracing::debug!(error = %err, "a session of the database is given up"),
        }
        self.failure.take();
    }

    pub(super) fn lock(&self, name: &str) -> Result<(), StoreError> {
        self.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[name.into()])?;
        Ok(())
    }

    pub(super) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        self.is_busy.set(true);
        self.call(async |client| client.batch_execute(sql).await)
    }

    pub(super) fn execute(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<u64, StoreError> {
        self.call(async |client| {
            let statement = client.prepare_cached(sql).await?;
            client.execute(&statement, &references(values)).await
        })
    }

    pub(super) fn query(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.call(async |client| {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, &references(values)).await
        })
    }

    fn call<T>(
        &self,
        ask: impl AsyncFnOnce(&Object) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StoreError> {
        let client = self.client.borrow();
        let client = client.as_ref().ok_or(StoreError::Closed)?;
        self.wait(ask(client)).inspect_err(|err| {
            self.health.failing(err);
            if let StoreError::Failed(failure) = err {
                self.failure.borrow_mut().get_or_insert_with(|| Arc::clone(failure));
            }
        })
    }

    fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        // A limit of its own: a database that is gone without a word says nothing at all.
        let in_time = async { tokio::time::timeout(CALL_MAX * 2, answer).await };
        match self.runtime.block_on(in_time) {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                self.is_busy.set(true);
                Err(DatabaseError::Sessions("the database does not answer".into()).into())
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(client) = self.client.take()
            && self.is_busy.get()
        {
            // Not back to the others: it is closed, and the database undoes what was under way.
            drop(Object::take(client));
        }
    }
}

fn references<'a>(values: &'a [Value<'_>]) -> Vec<&'a (dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

/// Whether the database gave this transaction up for the sake of another one, and nothing is wrong.
fn is_worth_another(failure: &DatabaseError) -> bool {
    let DatabaseError::Postgres(err) = failure else { return false };
    let deadlock = &SqlState::T_R_DEADLOCK_DETECTED;
    let serialization = &SqlState::T_R_SERIALIZATION_FAILURE;
    err.code().is_some_and(|code| code == deadlock || code == serialization)
}

/// Whether the database is away, or has no room: nothing is wrong with the statement.
pub(super) fn is_outage(err: &tokio_postgres::Error) -> bool {
    // Connection exceptions, no resources (disk full, too many sessions), an operator's shutdown or
    // a crash, a failure of the system.
    const CLASSES: [&str; 4] = ["08", "53", "57", "58"];
    match err.code() {
        Some(code) => CLASSES.iter().any(|class| code.code().starts_with(class)),
        // Nothing came back at all.
        None => {
            err.is_closed() || std::error::Error::source(err).is_some_and(|it| it.is::<io::Error>())
        }
    }
}

fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
