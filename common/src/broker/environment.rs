//! The part of the process environment that decides which broker is used, read once at the edge
//! so that everything behind it can be tested without touching the real one.

use std::env::{self, consts::EXE_SUFFIX};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folder of this project inside the user's cache directory.
const CACHE_FOLDER: &str = "ride-dispatch";

#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `NATS_URL`: a broker that runs already.
    pub nats_url: Option<String>,
    /// `NATS_SERVER`: the binary to start.
    pub nats_server: Option<PathBuf>,
    /// `PATH`, searched for `nats-server`, python and `uv`.
    pub path: OsString,
    /// Where a provisioned server is kept for the next start.
    pub cache: Option<PathBuf>,
}

impl Environment {
    /// Reads the variables of this process; an empty one counts as not set.
    pub fn of_process() -> Self {
        Self {
            nats_url: variable("NATS_URL").and_then(|url| url.into_string().ok()),
            nats_server: variable("NATS_SERVER").map(PathBuf::from),
            path: variable("PATH").unwrap_or_default(),
            // No fallback to a shared temporary directory: what lies there others may have put
            // there, and it would be executed.
            cache: user_cache().map(|base| base.join(CACHE_FOLDER)),
        }
    }

    /// Every file called `program` on `PATH`, in its order.
    pub(super) fn on_path(&self, program: &str) -> impl Iterator<Item = PathBuf> {
        let file = format!("{program}{EXE_SUFFIX}");
        env::split_paths(&self.path)
            .filter(|folder| folder.is_absolute())
            .map(move |folder| folder.join(&file))
            .filter(|candidate| is_program(candidate))
    }
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn user_cache() -> Option<PathBuf> {
    let folder = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library/Caches"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
    }
}
