//! One process to a store: two would each carry the same outbox, and each call the payment provider
//! for the same debt. A lock of the operating system ends with its process, however that ends.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long the process before this one may take to stop.
const OTHER_STOPS_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The store is not this process's own.
#[derive(Debug, thiserror::Error)]
pub enum NotAlone {
    /// Another process has it.
    #[error("another process uses the store: `{}` is locked", .0.display())]
    Taken(PathBuf),
    /// It cannot be known.
    #[error("`{}` cannot be locked", path.display())]
    Unknown {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The store is this process's alone while this lives.
#[derive(Debug)]
pub struct Alone(#[expect(dead_code, reason = "held, not used")] File);

/// Waits until no other process uses the store; `None` when told to stop meanwhile.
///
/// # Errors
/// When another one goes on using it, or the lock file cannot be made.
pub async fn alone(store: &Path, shutdown: &CancellationToken) -> Result<Option<Alone>, NotAlone> {
    let mut path = store.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let unknown = |source| NotAlone::Unknown { path: path.clone(), source };
    let file = File::options().create(true).append(true).open(&path).map_err(unknown)?;
    let deadline = Instant::now() + OTHER_STOPS_WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(Alone(file))),
            Err(TryLockError::Error(source)) => return Err(unknown(source)),
            Err(TryLockError::WouldBlock) if deadline <= Instant::now() => {
                return Err(NotAlone::Taken(path));
            }
            Err(TryLockError::WouldBlock) => {}
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NotAlone, alone};
    use tempfile::TempDir;
    use tokio_util::sync::CancellationToken;

    #[tokio::test(start_paused = true)]
    async fn a_store_has_one_process_at_a_time() {
        let folder = TempDir::new().unwrap();
        let (store, running) = (folder.path().join("rider.db"), CancellationToken::new());
        let first = alone(&store, &running).await.unwrap();
        assert!(first.is_some());
        assert!(matches!(alone(&store, &running).await, Err(NotAlone::Taken(_))));
        drop(first);
        assert!(alone(&store, &running).await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_store_can_be_stopped() {
        let folder = TempDir::new().unwrap();
        let (store, stopped) = (folder.path().join("rider.db"), CancellationToken::new());
        let _first = alone(&store, &stopped).await.unwrap();
        stopped.cancel();
        assert!(alone(&store, &stopped).await.unwrap().is_none());
    }
}
