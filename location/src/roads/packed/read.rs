//! The bytes of a road file as a road map; nothing in them is believed.

use std::io::Read as _;

use flate2::read::ZlibDecoder;

use super::{HEADER_BYTES, MAGIC, ONEWAY_BIT, ORIGIN, PLAIN_BYTES_MAX, RoadFileError, VERSION};
use crate::roads::map::{Micro, RoadClass, RoadMap, RoadSegment};

impl RoadMap {
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
