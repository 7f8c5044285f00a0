//! The road file: a header, then one zlib stream of columns (deltas as variable-length integers),
//! because like beside like compresses best. Version 1; a reader refuses what it does not know.

use std::io::{Read as _, Write as _};

use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};

use super::map::{Micro, RoadClass, RoadMap, RoadSegment};

const MAGIC: [u8; 8] = *b"RIDEROAD";
const VERSION: u16 = 1;
/// Magic, version, then the lengths of the compressed and the plain columns.
const HEADER_BYTES: usize = 8 + 2 + 4 + 4;
/// A whole country fits; a forged header cannot ask for more.
const PLAIN_BYTES_MAX: u32 = 1 << 30;
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

impl RoadMap {
    /// The map as the bytes of a road file; the same map gives the same bytes.
    ///
    /// # Errors
    /// When the map is too large for the format.
    pub fn pack(&self) -> Result<Vec<u8>, RoadFileError> {
        let plain = self.columns()?;
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        // Writing to memory fails only when there is no memory.
        let packed = encoder
            .write_all(&plain)
            .and_then(|()| encoder.finish())
            .map_err(|_| RoadFileError::TooLarge)?;
        let plain_bytes = short(plain.len())?;
        if plain_bytes > PLAIN_BYTES_MAX {
            return Err(RoadFileError::TooLarge);
        }
        let mut file = Vec::with_capacity(HEADER_BYTES + packed.len());
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&VERSION.to_le_bytes());
        file.extend_from_slice(&short(packed.len())?.to_le_bytes());
        file.extend_from_slice(&plain_bytes.to_le_bytes());
        file.extend_from_slice(&packed);
        Ok(file)
    }

    /// Reads the bytes of a road file. Indices and ranges are checked when a graph is made of it.
    ///
    /// # Errors
    /// When the bytes are foreign, of another version, cut off or damaged.
    pub fn unpack(file: &[u8]) -> Result<Self, RoadFileError> {
        let plain = inflate(file)?;
        let mut columns = Columns { rest: &plain };
        let map = columns.map()?;
        if columns.rest.is_empty() { Ok(map) } else { Err(corrupt("bytes after the last column")) }
    }

    fn columns(&self) -> Result<Vec<u8>, RoadFileError> {
        let mut out = Vec::new();
        for text in [&self.name, &self.source] {
            put(&mut out, u64::from(short(text.len())?));
            out.extend_from_slice(text.as_bytes());
        }
        put(&mut out, u64::from(short(self.junctions.len())?));
        put(&mut out, u64::from(short(self.segments.len())?));
        put_places(&mut out, self.junctions.iter().scan(ORIGIN, step));
        let segments = &self.segments;
        let mut previous = 0;
        for segment in segments {
            put_signed(&mut out, i64::from(segment.tail) - previous);
            previous = i64::from(segment.tail);
        }
        segments.iter().for_each(|s| put_signed(&mut out, i64::from(s.head) - i64::from(s.tail)));
        segments.iter().for_each(|s| put(&mut out, u64::from(s.millis)));
        segments.iter().for_each(|s| put(&mut out, u64::from(s.decimetres)));
        segments
            .iter()
            .for_each(|s| out.push(s.class.code() | if s.is_oneway { ONEWAY_BIT } else { 0 }));
        for segment in segments {
            put(&mut out, u64::from(short(segment.bends.len())?));
        }
        for segment in segments {
            let tail = usize::try_from(segment.tail).ok().and_then(|at| self.junctions.get(at));
            let tail = *tail.ok_or(RoadFileError::Corrupt("a segment begins nowhere"))?;
            put_places(&mut out, segment.bends.iter().scan(tail, step));
        }
        Ok(out)
    }
}

const ORIGIN: Micro = Micro { lat: 0, lng: 0 };

/// The way from the place before to this one.
fn step(before: &mut Micro, place: &Micro) -> Option<(i64, i64)> {
    let delta = (
        i64::from(place.lat) - i64::from(before.lat),
        i64::from(place.lng) - i64::from(before.lng),
    );
    *before = *place;
    Some(delta)
}

fn put_places(out: &mut Vec<u8>, steps: impl Iterator<Item = (i64, i64)> + Clone) {
    steps.clone().for_each(|(lat, _)| put_signed(out, lat));
    steps.for_each(|(_, lng)| put_signed(out, lng));
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7f).to_le_bytes()[0];
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Small numbers of either sign become small bytes: 0, -1, 1, -2 … as 0, 1, 2, 3 …
fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn short(length: usize) -> Result<u32, RoadFileError> {
    u32::try_from(length).map_err(|_| RoadFileError::TooLarge)
}

fn corrupt(reason: &'static str) -> RoadFileError {
    RoadFileError::Corrupt(reason)
}

fn inflate(file: &[u8]) -> Result<Vec<u8>, RoadFileError> {
    let cut_off = |expected| RoadFileError::Truncated { found: file.len(), expected };
    let (magic, rest) = file.split_first_chunk::<8>().ok_or(RoadFileError::Foreign)?;
    if *magic != MAGIC {
        return Err(RoadFileError::Foreign);
    }
    let (version, rest) = rest.split_first_chunk::<2>().ok_or(cut_off(HEADER_BYTES))?;
    let found = u16::from_le_bytes(*version);
    if found != VERSION {
        return Err(RoadFileError::Version { found });
    }
    let (packed_bytes, rest) = rest.split_first_chunk::<4>().ok_or(cut_off(HEADER_BYTES))?;
    let (plain_bytes, rest) = rest.split_first_chunk::<4>().ok_or(cut_off(HEADER_BYTES))?;
    let expected = index(u32::from_le_bytes(*packed_bytes)).saturating_add(HEADER_BYTES);
    if file.len() != expected {
        return Err(if file.len() < expected {
            cut_off(expected)
        } else {
            corrupt("bytes after the end")
        });
    }
    let plain_bytes = u32::from_le_bytes(*plain_bytes);
    if plain_bytes > PLAIN_BYTES_MAX {
        return Err(corrupt("promises more than any map holds"));
    }
    let mut plain = Vec::new();
    ZlibDecoder::new(rest)
        // One byte more than promised, so that too much is noticed.
        .take(u64::from(plain_bytes) + 1)
        .read_to_end(&mut plain)
        .map_err(|_| corrupt("the compressed columns do not check"))?;
    if plain.len() == index(plain_bytes) {
        Ok(plain)
    } else {
        Err(corrupt("the columns have another length than promised"))
    }
}

/// A file's 32-bit number as an index on this machine.
fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What has not been read yet of the plain columns.
struct Columns<'a> {
    rest: &'a [u8],
}

impl Columns<'_> {
    fn map(&mut self) -> Result<RoadMap, RoadFileError> {
        let name = self.text()?;
        let source = self.text()?;
        let junction_count = self.count()?;
        let segment_count = self.count()?;
        let junctions = self.places(junction_count, ORIGIN)?;
        let mut tail = 0_i64;
        let tails = self.column(segment_count, |columns| {
            tail = tail.saturating_add(columns.signed()?);
            within(tail)
        })?;
        let heads = tails
            .iter()
            .map(|tail| within(i64::from(*tail).saturating_add(self.signed()?)))
            .collect::<Result<Vec<u32>, _>>()?;
        let millis = self.column(segment_count, Self::number)?;
        let decimetres = self.column(segment_count, Self::number)?;
        let flags = self.column(segment_count, Self::byte)?;
        let bend_counts = self.column(segment_count, Self::count)?;
        let mut segments = Vec::with_capacity(segment_count);
        let ends = tails.into_iter().zip(heads);
        let measures = millis.into_iter().zip(decimetres);
        for (((tail, head), (millis, decimetres)), (flags, bend_count)) in
            ends.zip(measures).zip(flags.into_iter().zip(bend_counts))
        {
            let from = junctions.get(index(tail)).ok_or(corrupt("a segment begins nowhere"))?;
            segments.push(RoadSegment {
                tail,
                head,
                millis,
                decimetres,
                class: RoadClass::from_code(flags & !ONEWAY_BIT).ok_or(corrupt("road class"))?,
                is_oneway: flags & ONEWAY_BIT != 0,
                bends: self.places(bend_count, *from)?,
            });
        }
        Ok(RoadMap { name, source, junctions, segments })
    }

    fn column<T>(
        &mut self,
        count: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, RoadFileError>,
    ) -> Result<Vec<T>, RoadFileError> {
        (0..count).map(|_| read(self)).collect()
    }

    fn places(&mut self, count: usize, from: Micro) -> Result<Vec<Micro>, RoadFileError> {
        let (mut lat, mut lng) = (i64::from(from.lat), i64::from(from.lng));
        let place = |value: i64| i32::try_from(value).map_err(|_| corrupt("a place off the earth"));
        let lats = self.column(count, |columns| {
            lat = lat.saturating_add(columns.signed()?);
            place(lat)
        })?;
        let lngs = self.column(count, |columns| {
            lng = lng.saturating_add(columns.signed()?);
            place(lng)
        })?;
        Ok(lats.into_iter().zip(lngs).map(|(lat, lng)| Micro { lat, lng }).collect())
    }

    fn text(&mut self) -> Result<String, RoadFileError> {
        let length = self.count()?;
        let (text, rest) =
            self.rest.split_at_checked(length).ok_or(corrupt("a column ends early"))?;
        self.rest = rest;
        String::from_utf8(text.to_vec()).map_err(|_| corrupt("a name is not text"))
    }

    fn byte(&mut self) -> Result<u8, RoadFileError> {
        let (byte, rest) = self.rest.split_first().ok_or(corrupt("a column ends early"))?;
        self.rest = rest;
        Ok(*byte)
    }

    fn varint(&mut self) -> Result<u64, RoadFileError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(corrupt("a number does not end"))
    }

    fn signed(&mut self) -> Result<i64, RoadFileError> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn number(&mut self) -> Result<u32, RoadFileError> {
        u32::try_from(self.varint()?).map_err(|_| corrupt("a number is too large"))
    }

    /// A number of things that are still to come, each of which takes at least a byte.
    fn count(&mut self) -> Result<usize, RoadFileError> {
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if count <= self.rest.len() { Ok(count) } else { Err(corrupt("a column ends early")) }
    }
}

fn within(index: i64) -> Result<u32, RoadFileError> {
    u32::try_from(index).map_err(|_| corrupt("a segment ends nowhere"))
}
