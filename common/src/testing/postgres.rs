//! A private PostgreSQL for a test: a fresh cluster in a folder of its own, reached by a socket
//! there, killed and removed when dropped, gone when its parent is. Where it cannot be had the test
//! fails and says what would help.

use std::{
    env, fs, io,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{deadline, eventually_within};
use crate::leash::Leash;

/// The folder of `initdb` and `postgres`, where they are in none of the usual places.
const FOLDER: &str = "POSTGRES_BIN";
/// Where Debian has them, by version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// PostgreSQL does not run as root: as nobody, then.
const NOBODY: u32 = 65534;
/// The file by which the server says how far it is, and the line of it that says so.
const PID_FILE: &str = "postmaster.pid";
const READY_LINE: usize = 7;
/// Between two looks whether a server has ended.
const REAP_PAUSE: Duration = Duration::from_millis(1);
/// A server that was told to end at once does.
const REAP_LOOKS_MAX: u32 = 5_000;

/// A database server of this test alone.
#[derive(Debug)]
pub struct TestPostgres {
    binaries: PathBuf,
    /// Before the folder: it may only go once nobody writes in it.
    running: Option<Running>,
    folder: TempDir,
    other_user: Option<u32>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    leash: Option<Leash>,
}

/// Makes a cluster and starts it.
pub async fn postgres() -> TestPostgres {
    let binaries = find().unwrap_or_else(|| {
        panic!(
            "this test needs PostgreSQL: install it (`apt-get install -y \
             --no-install-recommends postgresql`), or say by `{FOLDER}` in which folder `initdb` is"
        )
    });
    let folder = TempDir::with_prefix("postgres-").unwrap_or_else(|err| failed("a folder", &err));
    let owner = fs::metadata(folder.path()).map(|folder| folder.uid());
    let owner = owner.unwrap_or_else(|err| failed("its folder", &err));
    let other_user = (owner == 0).then_some(NOBODY);
    if other_user.is_some() {
        chown(folder.path(), other_user, other_user).unwrap_or_else(|err| failed("chown", &err));
    }
    let mut server = TestPostgres { binaries, running: None, folder, other_user };
    server.make().await;
    server.start().await;
    server
}

impl TestPostgres {
    /// `postgres://…`, the same after a restart.
    #[must_use]
    pub fn url(&self) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://rider@{folder}/postgres")
    }

    /// Ends it as a crash would: every session is cut, nothing is tidied up.
    pub fn crash(&mut self) {
        self.running = None;
    }

    /// Starts it again on what it had stored.
    pub async fn start(&mut self) {
        let log = fs::File::create(self.log()).unwrap_or_else(|err| failed("its log", &err));
        let (program, arguments) = self.command("postgres");
        let (mut command, leash) =
            Leash::command(&program).unwrap_or_else(|err| failed("a leash", &err));
        let child = command
            .args(arguments)
            .arg("-D")
            .arg(self.cluster())
            .arg("-k")
            .arg(self.folder.path())
            .args(["-c", "listen_addresses=", "-c", "max_connections=200"])
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|err| failed("postgres", &err));
        self.running = Some(Running { child, leash: Some(leash) });
        eventually_within(deadline::RECOVERY, "PostgreSQL is ready", async || self.is_ready())
            .await;
    }

    async fn make(&self) {
        let (program, arguments) = self.command("initdb");
        let made = Command::new(program)
            .args(arguments)
            .arg("-D")
            .arg(self.cluster())
            .args(["--username=rider", "--auth=trust", "--encoding=UTF8", "--no-locale"])
            .args(["--no-sync", "--wal-segsize=1"])
            .current_dir(self.folder.path())
            .output()
            .await
            .unwrap_or_else(|err| failed("initdb", &err));
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// A program of PostgreSQL, run by somebody who is not root.
    fn command(&self, name: &str) -> (PathBuf, Vec<String>) {
        let program = self.binaries.join(name);
        match self.other_user {
            None => (program, Vec::new()),
            Some(user) => {
                let mut arguments = vec![format!("--reuid={user}"), format!("--regid={user}")];
                arguments.extend(["--clear-groups".to_owned(), program.display().to_string()]);
                (PathBuf::from("setpriv"), arguments)
            }
        }
    }

    fn is_ready(&self) -> bool {
        let state = fs::read_to_string(self.cluster().join(PID_FILE)).unwrap_or_default();
        state.lines().nth(READY_LINE).is_some_and(|line| line.trim() == "ready")
    }

    fn cluster(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Running {
    /// Waits until it has ended: what is dropped next is the folder in which it writes.
    fn drop(&mut self) {
        if let Some(pid) = self.child.id() {
            // At once, but by itself: after a SIGKILL its shared memory would stay.
            let quit = format!("kill -QUIT {pid}");
            if let Err(err) = std::process::Command::new("/bin/sh").args(["-c", &quit]).status() {
                tracing::debug!("PostgreSQL could not be told to end: {err}");
            }
        }
        let mut looks = 0;
        while matches!(self.child.try_wait(), Ok(None)) && looks < REAP_LOOKS_MAX {
            std::thread::sleep(REAP_PAUSE);
            looks += 1;
        }
        if let Some(leash) = self.leash.take() {
            leash.release();
        }
    }
}

/// The folder that has `initdb`: the one that was named, Debian's newest, or one of the `PATH`.
fn find() -> Option<PathBuf> {
    if let Some(folder) = env::var_os(FOLDER) {
        return Some(folder.into());
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|version| {
            Some((version.file_name().to_str()?.parse().ok()?, version.path().join("bin")))
        })
        .collect();
    versions.sort();
    let path = env::var_os("PATH").unwrap_or_default();
    versions
        .into_iter()
        .rev()
        .map(|(_, folder)| folder)
        .chain(env::split_paths(&path))
        .find(|folder| is_there(&folder.join("initdb")) && is_there(&folder.join("postgres")))
}

fn is_there(program: &Path) -> bool {
    fs::metadata(program).is_ok_and(|program| program.is_file())
}

fn failed(what: &str, err: &io::Error) -> ! {
    panic!("a private PostgreSQL could not be started: {what}: {err}")
}
