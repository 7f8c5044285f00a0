//! Which `nats-server` binary to start: the one that is named, one on `PATH` that is new enough,
//! the one in the cache, or one provisioned into it. Blocks on child processes.

use super::environment::Environment;
use super::error::BrokerError;
use super::provision;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Schedules, cron and the reset of a consumer came with 2.14.
pub const VERSION_MIN: Version = Version { major: 2, minor: 14, patch: 0 };

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Version {
    /// From what the server prints: `nats-server: v2.15.1`, maybe with a pre-release behind it.
    fn parse(printed: &str) -> Option<Self> {
        Self::of(printed.trim().strip_prefix("nats-server: v")?)
    }

    /// From the number alone: `2.15.1`.
    #[must_use]
    pub fn of(version: &str) -> Option<Self> {
        let mut numbers = version.split(['.', '-', '+']).map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self { major: next()?, minor: next()?, patch: next()? })
    }
}

pub(super) fn server(environment: &Environment) -> Result<PathBuf, BrokerError> {
    if let Some(path) = &environment.nats_server {
        return named(path);
    }
    for candidate in environment.on_path("nats-server") {
        let path = candidate.display();
        match version_of(&candidate) {
            Ok(found) if VERSION_MIN <= found => return Ok(candidate),
            Ok(found) => tracing::warn!(
                "`{path}` is nats-server {found}, older than {VERSION_MIN}: not used"
            ),
            Err(err) => tracing::warn!("`{path}` does not run as a nats-server ({err}): not used"),
        }
    }
    provision::cached(environment)
}

/// Whoever names a binary wants that one: no quiet fallback to another.
fn named(path: &Path) -> Result<PathBuf, BrokerError> {
    let found = version_of(path)
        .map_err(|source| BrokerError::NotAServer { path: path.to_owned(), source })?;
    if found < VERSION_MIN {
        return Err(BrokerError::TooOld { path: path.to_owned(), found });
    }
    Ok(path.to_owned())
}

pub(super) fn version_of(server: &Path) -> io::Result<Version> {
    let output = Command::new(server).arg("--version").stdin(Stdio::null()).output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    Version::parse(&printed).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("`--version` printed `{}` ({})", printed.trim(), output.status),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{VERSION_MIN, Version};

    #[test]
    fn a_version_is_read_with_and_without_a_pre_release() {
        let released = Some(Version { major: 2, minor: 15, patch: 1 });
        assert_eq!(Version::parse("nats-server: v2.15.1\n"), released);
        assert_eq!(Version::parse("nats-server: v2.15.1-RC.2"), released);
        assert_eq!(Version::parse("nats-server: 2.15"), None);
    }

    #[test]
    fn versions_are_compared_by_number_not_by_letter() {
        let older = Version::parse("nats-server: v2.9.10").unwrap();
        assert!(older < VERSION_MIN);
    }
}
