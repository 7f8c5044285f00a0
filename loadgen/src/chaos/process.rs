//! One process on a leash: it writes its log into a file, is signalled by its own id alone, and
//! does not outlive this process.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use common::leash::Leash;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

/// What to run.
#[derive(Debug, Clone)]
pub(super) struct Start<'a> {
    pub(super) program: &'a Path,
    pub(super) arguments: &'a [String],
    pub(super) environment: &'a [(&'static str, String)],
    /// Where its standard error goes.
    pub(super) log: PathBuf,
}

/// A running process. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    leash: Option<Leash>,
}

impl Process {
    pub(super) fn start(start: &Start<'_>) -> io::Result<Self> {
        let (mut command, leash) = Leash::command(start.program)?;
        command
            .args(start.arguments)
            .envs(start.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(File::create(&start.log)?)
            .kill_on_drop(true);
        Ok(Self { child: command.spawn()?, leash: Some(leash) })
    }

    /// Its id, as long as nobody has waited for its end.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        send(self.pid(), signal)
    }

    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        if let Some(leash) = self.leash.take() {
            leash.release();
        }
        status
    }
}

/// Signals a process that was started here; one that has ended is left alone.
pub(super) fn send(pid: Option<u32>, signal: Signal) -> io::Result<()> {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    match pid {
        Some(pid) => Ok(kill_process(pid, signal)?),
        None => Ok(()),
    }
}
