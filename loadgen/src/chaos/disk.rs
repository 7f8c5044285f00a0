//! The disk under the outbox: a small one of its own, which is filled up and freed again. Where this
//! process may not mount one, the rider's files are kept from growing instead, which it is told in
//! another way (`EFBIG` for `ENOSPC`).

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{process::Command, time::Instant};

use super::system::{Node, System};
use crate::client::{Ask, HttpClient};

/// As large as the store of hours.
const SIZE: &str = "size=256m";
const BALLAST: &str = "ballast";
const STORE: &str = "rider.db";
/// A store goes on writing where it has written before, until it needs more.
const BITES_WITHIN: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const PIECE_BYTES: usize = 1 << 20;
/// What a service says whose store cannot be written.
const STORE_FAILS: &str = "the store cannot be written";

/// Where the rider's file is.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// Where files go once it is not mounted any more.
    kept: PathBuf,
    is_mounted: bool,
}

impl Disk {
    /// A disk in this folder, mounted if that is allowed.
    pub(super) async fn open(dir: &Path) -> anyhow::Result<Self> {
        let (folder, kept) = (dir.join("rider"), dir.to_owned());
        fs::create_dir_all(&folder)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(&folder);
        let is_mounted = match mount.output().await {
            Ok(mounted) if mounted.status.success() => true,
            Ok(refused) => {
                let why = String::from_utf8_lossy(&refused.stderr).trim().to_owned();
                super::say(&format!(
                    "no disk to fill ({why}): the rider's files are limited instead"
                ));
                false
            }
            Err(err) => {
                super::say(&format!(
                    "no disk to fill ({err}): the rider's files are limited instead"
                ));
                false
            }
        };
        Ok(Self { folder, kept, is_mounted })
    }

    /// The store's file.
    pub(super) fn store(&self) -> PathBuf {
        self.folder.join(STORE)
    }

    /// Leaves no room, and returns when the rider has met that. `false`: it had nothing to write that
    /// needed any.
    pub(super) async fn fill(&self, system: &System) -> anyhow::Result<bool> {
        let http = HttpClient::new(1);
        let began = Instant::now();
        while began.elapsed() < BITES_WITHIN {
            // Again, for what room there was the store may have freed itself; and for a new process.
            self.take_room(system).await?;
            for node in system.of("rider") {
                let ready = http.send(&node.http, &Ask::get("/readyz"), None).await;
                if ready.is_ok_and(|answer| answer.body.as_ref() == STORE_FAILS.as_bytes()) {
                    return Ok(true);
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tracing::warn!("nothing had to be written on a full disk");
        Ok(false)
    }

    async fn take_room(&self, system: &System) -> anyhow::Result<()> {
        if self.is_mounted {
            return fill_up(&self.folder.join(BALLAST)).context("filling the disk");
        }
        limit(system.of("rider"), "1").await
    }

    /// Gives the room back.
    pub(super) async fn free(&self, system: &System) -> anyhow::Result<()> {
        if self.is_mounted {
            return match fs::remove_file(self.folder.join(BALLAST)) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err.into()),
                _ => Ok(()),
            };
        }
        limit(system.of("rider"), "unlimited").await
    }
}

impl Drop for Disk {
    /// What is on it stays for whoever wants to know what went wrong.
    fn drop(&mut self) {
        if !self.is_mounted {
            return;
        }
        if let Err(err) = keep(&self.folder, &self.kept) {
            tracing::warn!(error = %err, "the rider's store is not kept");
        }
        match std::process::Command::new("umount").arg(&self.folder).status() {
            Ok(status) if status.success() => {}
            failed => tracing::warn!(?failed, "`{}` is still mounted", self.folder.display()),
        }
    }
}

fn keep(folder: &Path, kept: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() != BALLAST {
            fs::copy(entry.path(), kept.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Writes until nothing more fits.
fn fill_up(ballast: &Path) -> io::Result<()> {
    let mut ballast = fs::File::options().create(true).append(true).open(ballast)?;
    let piece = vec![0x5a; PIECE_BYTES];
    loop {
        match ballast.write(&piece) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::StorageFull => return Ok(()),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

/// No file of these processes may have more than so many bytes.
async fn limit(nodes: impl Iterator<Item = &Node>, bytes: &str) -> anyhow::Result<()> {
    for node in nodes {
        let Some(pid) = node.replica.life().pid else { continue };
        let (pid, limit) = (pid.to_string(), format!("--fsize={bytes}:"));
        let limited = Command::new("prlimit").args(["--pid", &pid, &limit]).output().await;
        let limited = limited.context("`prlimit` of util-linux")?;
        if !limited.status.success() {
            // It may just have died.
            let why = String::from_utf8_lossy(&limited.stderr).into_owned();
            tracing::debug!(why, "a process is not limited");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::{Disk, fill_up};

    #[tokio::test]
    async fn a_full_disk_takes_nothing_and_what_was_on_it_is_kept_when_it_goes() {
        let folder = TempDir::new().unwrap();
        let disk = Disk::open(folder.path()).await.unwrap();
        fs::write(disk.store(), "books").unwrap();
        if disk.is_mounted {
            fill_up(&disk.folder.join(super::BALLAST)).unwrap();
            let refused = fs::write(disk.folder.join("more"), "x").unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
            drop(disk);
            assert!(!folder.path().join("rider/rider.db").exists());
            assert_eq!(fs::read_to_string(folder.path().join("rider.db")).unwrap(), "books");
        }
    }
}
