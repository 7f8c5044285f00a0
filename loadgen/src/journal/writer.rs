//! The thread that writes a journal: lines that come together share one write, and each phone
//! waits until its own line is with the operating system.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use common::clock::machine_time;
use tokio::sync::oneshot;

use super::{Entry, PingTally, PingTotals};

/// How often the totals of the pings are written.
const TOTALS_EVERY: Duration = Duration::from_secs(1);
/// Lines that share one write to the file.
const GROUP_MAX: usize = 512;

/// The journal cannot be written, so no phone may act any more.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the journal cannot be written")]
pub struct JournalBroken;

enum Order {
    Write { line: Vec<u8>, done: oneshot::Sender<()> },
    Close,
}

/// A journal that is being written. Clones write to the same file.
#[derive(Debug, Clone)]
pub struct Journal {
    // Never longer than there are phones: each waits for its own line.
    orders: mpsc::Sender<Order>,
    pings: Arc<PingTally>,
}

/// The thread that writes a journal.
#[derive(Debug)]
pub struct JournalWriter {
    orders: mpsc::Sender<Order>,
    thread: thread::JoinHandle<std::io::Result<()>>,
}

impl Journal {
    /// Begins a journal; a file of that name is replaced.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> std::io::Result<(Self, JournalWriter)> {
        let file = BufWriter::new(File::create(path)?);
        let (orders, inbox) = mpsc::channel();
        let pings = Arc::new(PingTally::default());
        let totals = Arc::clone(&pings);
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || write_all(file, &inbox, &totals))?;
        let writer = JournalWriter { orders: orders.clone(), thread };
        Ok((Self { orders, pings }, writer))
    }

    /// Writes a line and returns once it is with the operating system.
    ///
    /// # Errors
    /// When the file cannot be written any more.
    pub async fn append(&self, entry: &Entry) -> Result<(), JournalBroken> {
        let mut line = serde_json::to_vec(entry).map_err(|_| JournalBroken)?;
        line.push(b'\n');
        let (done, written) = oneshot::channel();
        self.orders.send(Order::Write { line, done }).map_err(|_| JournalBroken)?;
        written.await.map_err(|_| JournalBroken)
    }

    /// Where answers to pings are counted.
    #[must_use]
    pub fn pings(&self) -> &PingTally {
        &self.pings
    }
}

impl JournalWriter {
    /// Writes what was appended before, the last totals, and closes the file.
    ///
    /// # Errors
    /// When any line could not be written.
    pub fn finish(self) -> std::io::Result<()> {
        // A writer that already stopped says why when it is joined.
        drop(self.orders.send(Order::Close));
        self.thread.join().map_err(|_| std::io::Error::other("the journal's thread panicked"))?
    }
}

fn write_all(
    mut file: BufWriter<File>,
    inbox: &mpsc::Receiver<Order>,
    pings: &PingTally,
) -> std::io::Result<()> {
    let mut last = (Instant::now(), PingTotals::default());
    let mut waiting = Vec::new();
    let mut open = true;
    while open {
        let first = inbox.recv_timeout(TOTALS_EVERY);
        open = !matches!(first, Err(mpsc::RecvTimeoutError::Disconnected));
        for order in first.into_iter().chain(inbox.try_iter()).take(GROUP_MAX) {
            match order {
                Order::Write { line, done } => {
                    file.write_all(&line)?;
                    waiting.push(done);
                }
                Order::Close => open = false,
            }
        }
        let totals = pings.totals();
        if totals != last.1 && (!open || last.0.elapsed() >= TOTALS_EVERY) {
            serde_json::to_writer(&mut file, &Entry::Pings { at: machine_time(), totals })?;
            writeln!(file)?;
            last = (Instant::now(), totals);
        }
        file.flush()?;
        for done in waiting.drain(..) {
            let done: oneshot::Sender<()> = done;
            if done.send(()).is_err() {
                tracing::trace!("a phone was gone before its line was written");
            }
        }
    }
    Ok(())
}
