//! The road file: a header, then one zlib stream of columns (deltas as variable-length integers),
//! because like beside like compresses best. Version 1; a reader refuses what it does not know.

mod read;
mod write;

use super::map::Micro;

const MAGIC: [u8; 8] = *b"RIDEROAD";
const VERSION: u16 = 1;
/// Magic, version, then the lengths of the compressed and the plain columns.
const HEADER_BYTES: usize = 8 + 2 + 4 + 4;
/// A whole country fits; a forged header cannot ask for more.
const PLAIN_BYTES_MAX: u32 = 1 << 30;
/// The first place is stored as its way from here.
const ORIGIN: Micro = Micro { lat: 0, lng: 0 };
/// Bit in a segment's flags beside the class code.
const ONEWAY_BIT: u8 = 0x80;

/// Why some bytes are not a usable road file.
#[derive(Debug, thiserror::Error)]
pub enum RoadFileError {
    /// The bytes do not begin like a road file.
    #[error("not a road file")]
    Foreign,
    /// Written by a version that this one cannot read.
    #[error("road file version `{found}` is not supported, expected `{VERSION}`")]
    Version {
        /// The version in the file.
        found: u16,
    },
    /// The file ends early.
    #[error("road file is cut off: `{found}` bytes of `{expected}`")]
    Truncated {
        /// Bytes present.
        found: usize,
        /// Bytes that the header promises.
        expected: usize,
    },
    /// The checksum or a value inside is wrong.
    #[error("road file is damaged: {0}")]
    Corrupt(&'static str),
    /// The file could not be read or written.
    #[error("cannot access road file `{path}`")]
    Io {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The map is larger than the format can hold.
    #[error("the map is too large for a road file")]
    TooLarge,
}
