//! Looks into the archive of trips that have left the log: which there are, what one of them says,
//! and whether each is still a whole history. It needs no broker.

mod verify;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use common::{id::TripId, stream};
use trip::archive::contents;

pub use self::verify::{Verified, verify};
use crate::audit::{Log, Timeline};

/// What to look at.
#[derive(Debug, clap::Args)]
pub struct ArchiveArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Every trip, and where its history is.
    List(At),
    /// What happened to one trip.
    Show {
        /// Which.
        trip: TripId,
        #[command(flatten)]
        at: At,
    },
    /// Unpacks and folds every history, and says what does not fit.
    Verify(At),
}

#[derive(Debug, clap::Args)]
struct At {
    /// The directory that the trip service writes to.
    #[arg(long, env = "ARCHIVE_DIR")]
    dir: PathBuf,
}

/// Looks. `false`: what was found is not good.
///
/// # Errors
/// When the archive cannot be read.
pub fn run(args: &ArchiveArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    match &args.what {
        What::List(at) => list(&at.dir, out),
        What::Show { trip, at } => show(&at.dir, *trip, out),
        What::Verify(at) => {
            let verified = verify(&at.dir)?;
            write!(out, "{verified}")?;
            Ok(verified.is_good())
        }
    }
}

fn list(dir: &Path, out: &mut dyn Write) -> anyhow::Result<bool> {
    let contents = contents(dir)?;
    for member in &contents.members {
        let segment = member.segment.file_name().unwrap_or_default().display();
        writeln!(out, "{}  {segment}:{}  {} bytes", member.trip, member.at, member.length)?;
    }
    writeln!(out, "{} trips", contents.trips().len())?;
    torn(&contents.torn, out)?;
    Ok(true)
}

fn torn(segments: &[PathBuf], out: &mut dyn Write) -> io::Result<()> {
    for segment in segments {
        writeln!(
            out,
            "`{}` ends in the middle: its writer died, the log has it",
            segment.display()
        )?;
    }
    Ok(())
}

fn show(dir: &Path, trip: TripId, out: &mut dyn Write) -> anyhow::Result<bool> {
    let history = contents(dir)?.history(trip)?;
    let mut log = Log::default();
    for stored in history {
        log.take(stream::TRIP, stored);
    }
    if log.is_empty() {
        writeln!(out, "trip {trip} is not in `{}`", dir.display())?;
        return Ok(false);
    }
    write!(out, "{}", Timeline::of(&log, trip)).context("cannot print")?;
    Ok(true)
}
