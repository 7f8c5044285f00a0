//! Reads the archive: whose histories are there, and what one of them says. A trip may be in it more
//! than once, since it is archived before it leaves the log: a reader takes every message once.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{id::TripId, log::Stored};

use super::{
    member::{self, HEADER},
    segment::EXTENSION,
};

/// Why the archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file or directory cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Where a member should be, there is none that can be read.
    #[error("`{}` is corrupt at byte {at}: {why}", .path.display())]
    Corrupt {
        /// In which file.
        path: PathBuf,
        /// Where the member begins.
        at: u64,
        /// What is wrong.
        why: String,
    },
}

/// Where a trip's messages are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Whose.
    pub trip: TripId,
    /// In which segment.
    pub segment: Arc<Path>,
    /// From which byte on.
    pub at: u64,
    /// How many bytes.
    pub length: u64,
}

/// What is in an archive.
#[derive(Debug, Default)]
pub struct Contents {
    /// Every complete member, in the order of the segments.
    pub members: Vec<Member>,
    /// Segments whose last member is incomplete: whoever wrote it died, and the trip stayed in the
    /// log.
    pub torn: Vec<PathBuf>,
}

/// Lists what is in the archive. Reads no more than the members' headers.
///
/// # Errors
/// When a file cannot be read, or holds something else.
pub fn contents(dir: &Path) -> Result<Contents, ArchiveError> {
    let mut contents = Contents::default();
    for path in segments(dir)? {
        let is_torn = list(&path, &mut contents.members)?;
        if is_torn {
            contents.torn.push(path);
        }
    }
    Ok(contents)
}

fn segments(dir: &Path) -> Result<Vec<PathBuf>, ArchiveError> {
    let failed = |source| ArchiveError::Io { path: dir.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Says whether the segment ends within a member.
fn list(path: &Path, members: &mut Vec<Member>) -> Result<bool, ArchiveError> {
    let failed = |source| ArchiveError::Io { path: path.to_owned(), source };
    let segment: Arc<Path> = path.into();
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let end = file.get_ref().metadata().map_err(failed)?.len();
    let mut at = 0;
    while at < end {
        let mut bytes = [0; HEADER];
        match file.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(true),
            Err(err) => return Err(failed(err)),
        }
        let Some((trip, length)) = member::header(&bytes) else {
            let why = "no member begins here".to_owned();
            return Err(ArchiveError::Corrupt { path: path.to_owned(), at, why });
        };
        if at.saturating_add(length) > end {
            return Ok(true);
        }
        members.push(Member { trip, segment: Arc::clone(&segment), at, length });
        at += length;
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
    }
    Ok(false)
}

impl Member {
    /// The messages.
    ///
    /// # Errors
    /// When they cannot be read, or are not as they were written.
    pub fn read(&self) -> Result<Vec<Stored>, ArchiveError> {
        let failed = |source| ArchiveError::Io { path: self.segment.to_path_buf(), source };
        let mut file = File::open(&self.segment).map_err(failed)?;
        file.seek(SeekFrom::Start(self.at)).map_err(failed)?;
        let mut packed = Vec::new();
        file.take(self.length).read_to_end(&mut packed).map_err(failed)?;
        member::unpack(&packed).map_err(|err| ArchiveError::Corrupt {
            path: self.segment.to_path_buf(),
            at: self.at,
            why: err.to_string(),
        })
    }
}

impl Contents {
    /// Each archived trip once, with all its members.
    #[must_use]
    pub fn trips(&self) -> BTreeMap<TripId, Vec<&Member>> {
        let mut trips: BTreeMap<TripId, Vec<&Member>> = BTreeMap::new();
        for member in &self.members {
            trips.entry(member.trip).or_default().push(member);
        }
        trips
    }

    /// A trip's history, each event once, oldest first. Empty when it is not in the archive.
    ///
    /// # Errors
    /// As [`Member::read`].
    pub fn history(&self, trip: TripId) -> Result<Vec<Stored>, ArchiveError> {
        merged(self.members.iter().filter(|member| member.trip == trip))
    }
}

/// What several members say of one trip, each message once: by its place in the stream.
///
/// # Errors
/// As [`Member::read`].
pub fn merged<'a>(
    members: impl IntoIterator<Item = &'a Member>,
) -> Result<Vec<Stored>, ArchiveError> {
    let mut messages = BTreeMap::new();
    for member in members {
        messages.extend(member.read()?.into_iter().map(|stored| (stored.sequence, stored)));
    }
    Ok(messages.into_values().collect())
}
