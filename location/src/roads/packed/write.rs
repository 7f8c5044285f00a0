//! A road map as the bytes of a road file.

use std::io::Write as _;

use flate2::{Compression, write::ZlibEncoder};

use super::{HEADER_BYTES, MAGIC, ONEWAY_BIT, ORIGIN, PLAIN_BYTES_MAX, RoadFileError, VERSION};
use crate::roads::map::{Micro, RoadMap};

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
