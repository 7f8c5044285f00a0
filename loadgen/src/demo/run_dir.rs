//! Where a run keeps its streams, stores and journal.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A directory for this run: the given one, or one that is removed afterwards.
#[derive(Debug)]
pub enum RunDir {
    /// Named by the user, and kept.
    Kept(PathBuf),
    /// Removed when dropped.
    Temporary(tempfile::TempDir),
}

impl RunDir {
    /// The directory of this name, or a temporary one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(named: Option<&Path>) -> anyhow::Result<Self> {
        Ok(match named {
            Some(dir) => {
                std::fs::create_dir_all(dir)
                    .with_context(|| format!("cannot make `{}`", dir.display()))?;
                Self::Kept(dir.to_owned())
            }
            None => Self::Temporary(
                tempfile::Builder::new()
                    .prefix("ride-dispatch-")
                    .tempdir()
                    .context("no temporary directory")?,
            ),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Kept(dir) => dir,
            Self::Temporary(dir) => dir.path(),
        }
    }

    /// Leaves a temporary directory behind, for somebody to look into.
    #[must_use]
    pub fn keep(self) -> PathBuf {
        match self {
            Self::Kept(dir) => dir,
            Self::Temporary(dir) => dir.keep(),
        }
    }
}
