//! The archive's files. Each is written by one process and only grows at its end; a crash may leave
//! its last member incomplete, and nobody writes behind that.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Segments of one day; each start of a service makes one.
const SEGMENTS_MAX: u32 = 100_000;
pub(super) const EXTENSION: &str = "gz";

/// Writes segments into a directory.
#[derive(Debug)]
pub(super) struct Writer {
    dir: PathBuf,
    open: Option<(String, File)>,
}

impl Writer {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, open: None }
    }

    /// Appends to this day's segment. When it returns, the disk has it.
    pub(super) fn append(&mut self, day: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = match self.open.take() {
            Some((of, file)) if of == day => file,
            Some(_) | None => create(&self.dir, day)?,
        };
        // Not put back after a failure: behind half a member nobody would find the next one.
        file.write_all(bytes)?;
        file.sync_data()?;
        self.open = Some((day.to_owned(), file));
        Ok(())
    }
}

/// A file that no other process has.
fn create(dir: &Path, day: &str) -> io::Result<File> {
    fs::create_dir_all(dir)?;
    for number in 0..SEGMENTS_MAX {
        let path = dir.join(format!("trips-{day}-{number:05}.{EXTENSION}"));
        match OpenOptions::new().append(true).create_new(true).open(path) {
            Ok(file) => {
                // The name must outlive a crash of the machine, too.
                File::open(dir)?.sync_all()?;
                return Ok(file);
            }
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            Err(err) => return Err(err),
        }
    }
    Err(io::Error::other("too many segments of one day"))
}
