//! The directory of a private broker: its streams, its configuration, its log.
//! One broker at a time: two servers writing the same streams would destroy them.

use super::error::BrokerError;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{self, Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server whose parent was killed a moment ago still writes out what it has.
const HANDOVER_DEADLINE: Duration = Duration::from_secs(5);
const HANDOVER_PAUSE: Duration = Duration::from_millis(20);
/// Lines of the log that an error quotes.
const TAIL_LINES: usize = 5;

#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    /// Locked, and inherited by the server as its error output: the lock lasts until both this
    /// process and the server are gone, in whichever order they end.
    log: File,
    /// Removes the folder at the end, after the log is closed.
    _scratch: Option<TempDir>,
}

impl Store {
    /// Takes the store for this process, waiting for an earlier owner to end. Blocks.
    pub(super) fn open(folder: Option<PathBuf>) -> Result<Self, BrokerError> {
        let (folder, scratch) = match folder {
            Some(folder) => (folder, None),
            None => {
                let scratch = TempDir::with_prefix("ride-dispatch-")
                    .map_err(BrokerError::io("write in", &std::env::temp_dir()))?;
                (scratch.path().to_owned(), Some(scratch))
            }
        };
        // Relative paths in the configuration would be relative to wherever the server runs.
        let folder = path::absolute(&folder).map_err(BrokerError::io("resolve", &folder))?;
        fs::create_dir_all(&folder).map_err(BrokerError::io("create", &folder))?;
        let log = lock(&folder)?;
        Ok(Self { folder, log, _scratch: scratch })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn streams(&self) -> PathBuf {
        self.folder.join("jetstream")
    }

    pub(super) fn ports(&self) -> PathBuf {
        self.folder.join("ports")
    }

    /// Writes the configuration and forgets the ports of an earlier run.
    pub(super) fn prepare(&self, config: &str) -> Result<PathBuf, BrokerError> {
        let ports = self.ports();
        match fs::remove_dir_all(&ports) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                return Err(BrokerError::io("empty", &ports)(err));
            }
            _ => fs::create_dir_all(&ports).map_err(BrokerError::io("create", &ports))?,
        }
        self.write_config(config)
    }

    /// Writes the configuration, and says where it is.
    pub(super) fn write_config(&self, config: &str) -> Result<PathBuf, BrokerError> {
        let path = self.folder.join("nats-server.conf");
        fs::write(&path, config).map_err(BrokerError::io("write", &path))?;
        Ok(path)
    }

    pub(super) fn log_output(&self) -> Result<Stdio, BrokerError> {
        let log = self.log.try_clone().map_err(BrokerError::io("open the log of", &self.folder))?;
        Ok(log.into())
    }

    /// The last lines of the server's log, for an error.
    pub(super) fn log_tail(&self) -> String {
        let Ok(log) = fs::read_to_string(log_path(&self.folder)) else {
            return "it left no log".to_owned();
        };
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join(" | ")
    }

    pub(super) fn held_bytes(&self) -> Result<u64, BrokerError> {
        let streams = self.streams();
        if !streams.exists() {
            return Ok(0);
        }
        size_bytes(&streams).map_err(BrokerError::io("measure", &streams))
    }
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("nats-server.log")
}

fn lock(folder: &Path) -> Result<File, BrokerError> {
    let path = log_path(folder);
    let log = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(BrokerError::io("open", &path))?;
    let asked = Instant::now();
    loop {
        match log.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(err)) => return Err(BrokerError::io("lock", &path)(err)),
            Err(TryLockError::WouldBlock) if asked.elapsed() < HANDOVER_DEADLINE => {
                thread::sleep(HANDOVER_PAUSE);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(BrokerError::StoreInUse { store: folder.to_owned() });
            }
        }
    }
    log.set_len(0).map_err(BrokerError::io("empty", &path))?;
    Ok(log)
}

fn size_bytes(folder: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        total += if entry.file_type()?.is_dir() {
            size_bytes(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(total)
}
