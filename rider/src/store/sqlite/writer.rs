//! The one writer: a thread that takes all jobs that wait, carries each out in a savepoint of its
//! own, commits them together (one sync for all) and only then tells anybody.

use std::thread;

use rusqlite::{Connection, TransactionBehavior, ffi};
use tokio::sync::{mpsc, oneshot};

use super::super::{StoreError, Tx, committing, health::Health};

/// Jobs that may wait. More would only wait longer: callers are told to come back.
const QUEUE_MAX: usize = 1024;
/// Jobs in one transaction.
const GROUP_MAX: usize = 256;

/// What a job left behind, until the commit decides.
struct Done {
    keep: bool,
    tell: Box<dyn FnOnce(Result<(), StoreError>)>,
}

/// Carried out in a transaction, or told why there is none.
type Job = Box<dyn FnOnce(Result<&Tx<'_>, StoreError>) -> Done + Send>;

enum Message {
    Write(Job),
    Close(oneshot::Sender<()>),
}

#[derive(Debug, Clone)]
pub(in crate::store) struct Writer {
    queue: mpsc::Sender<Message>,
}

impl Writer {
    pub(in crate::store) fn start(connection: Connection, health: Health) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || run(connection, jobs, &health))?;
        Ok(Self { queue })
    }

    pub(in crate::store) async fn try_write<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        W: Fn(&Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        let (job, answer) = job(work);
        self.queue.try_send(job).map_err(|err| match err {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    pub(in crate::store) async fn write<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        W: Fn(&Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        let (job, answer) = job(work);
        self.queue.send(job).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    pub(in crate::store) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        // Either error means that the writer is gone already.
        if self.queue.send(Message::Close(done)).await.is_ok() {
            closed.await.ok();
        }
    }
}

fn job<T, E, W>(work: W) -> (Message, oneshot::Receiver<Result<T, E>>)
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    W: Fn(&Tx<'_>) -> Result<T, E> + Send + 'static,
{
    let (answer, asked) = oneshot::channel();
    let job: Job = Box::new(move |tx| {
        let result = tx.map_err(E::from).and_then(work);
        let keep = result.is_ok();
        let tell = Box::new(move |committed: Result<(), StoreError>| {
            let result = committed.map_err(E::from).and(result);
            if answer.send(result).is_err() {
                tracing::debug!("nobody waits for this write any more");
            }
        });
        Done { keep, tell }
    });
    (Message::Write(job), asked)
}

fn run(mut connection: Connection, mut queue: mpsc::Receiver<Message>, health: &Health) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    let mut closing = Vec::new();
    while queue.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
        let mut jobs = Vec::with_capacity(group.len());
        for message in group.drain(..) {
            match message {
                Message::Write(job) => jobs.push(job),
                // What is queued already is still written; nothing new comes in.
                Message::Close(done) => {
                    queue.close();
                    closing.push(done);
                }
            }
        }
        if !jobs.is_empty() {
            commit_together(&mut connection, jobs, health);
        }
    }
    if let Err((_, err)) = connection.close() {
        tracing::warn!(error = %err, "the store did not close cleanly");
    }
    for done in closing {
        done.send(()).ok();
    }
}

fn commit_together(connection: &mut Connection, jobs: Vec<Job>, health: &Health) {
    let mut done = Vec::with_capacity(jobs.len());
    let mut jobs = jobs.into_iter();
    let before = connection.total_changes();
    let committed = carry_out(connection, &mut jobs, &mut done).map_err(StoreError::from);
    match &committed {
        // What wrote nothing says nothing about the disk.
        Ok(()) if connection.total_changes() > before => health.well(),
        Ok(()) => {}
        Err(err) => {
            tracing::warn!(error = %err.cause(), jobs = done.len(), "the store could not commit");
            health.failing(err);
        }
    }
    // Only now: an answer may have been read from what a neighbour wrote in this transaction.
    for job in done {
        (job.tell)(committed.clone());
    }
    // Those that a failed transaction never reached.
    if let Err(err) = committed {
        for job in jobs {
            (job(Err(err.clone())).tell)(Err(err.clone()));
        }
    }
}

fn carry_out(
    connection: &mut Connection,
    jobs: &mut impl Iterator<Item = Job>,
    done: &mut Vec<Done>,
) -> rusqlite::Result<()> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in jobs {
        let savepoint = transaction.savepoint()?;
        let result = job(Ok(&Tx::sqlite(&savepoint)));
        let keep = result.keep;
        done.push(result);
        // A statement that finds the disk full may take the whole transaction with it. What came
        // next would be written outside of any.
        if savepoint.is_autocommit() {
            return Err(rolled_back());
        }
        if keep {
            savepoint.commit()?;
        } else {
            savepoint.finish()?;
        }
    }
    committing(|| transaction.commit())
}

fn rolled_back() -> rusqlite::Error {
    let why = "the transaction was rolled back by one of its statements".to_owned();
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK), Some(why))
}
