//! One trip's messages as bytes: a gzip member, so that a file of them is a gzip file. Its header
//! names the trip and says how long it is, so that a reader finds one trip without unpacking others.

use std::io::{self, Read as _, Write as _};

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use common::{
    clock::Timestamp,
    contract::{Malformed, v1},
    id::TripId,
    log::Stored,
};
use flate2::{Compression, GzBuilder, read::GzDecoder};
use prost::Message as _;
use uuid::Uuid;

/// The fixed part of a gzip header (RFC 1952): magic, deflate, "has an extra field" …
const FIXED: usize = 10;
const BEGINS: [u8; 4] = [0x1f, 0x8b, 8, 4];
/// … then the extra field's length, and our subfield: its name, its length, trip and total length.
const SUBFIELD: [u8; 2] = *b"RT";
const CONTENT: u16 = 24;
const TRIP_AT: usize = FIXED + 2 + 4;
const LENGTH_AT: usize = TRIP_AT + 16;
/// So much says whose member it is and where the next one begins.
pub(super) const HEADER: usize = LENGTH_AT + 8;

/// No trip has more: offers are limited, and so are tries and ratings.
const UNPACKED_MAX: u64 = 64 * 1024 * 1024;

/// Packs a trip's messages.
pub(super) fn pack(trip: TripId, messages: &[Stored]) -> io::Result<Vec<u8>> {
    let mut extra = Vec::with_capacity(HEADER);
    extra.extend(SUBFIELD);
    extra.extend(CONTENT.to_le_bytes());
    extra.extend(trip.0.as_bytes());
    extra.extend(0_u64.to_le_bytes());
    let mut packed = GzBuilder::new().extra(extra).write(Vec::new(), Compression::default());
    for message in messages {
        packed.write_all(&wire(message).encode_length_delimited_to_vec())?;
    }
    let mut packed = packed.finish()?;
    let length = u64::try_from(packed.len()).unwrap_or(u64::MAX);
    if let Some(place) = packed.get_mut(LENGTH_AT..HEADER) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    Ok(packed)
}

/// Whose member begins so, and how long it is. `None`: it is none of ours.
pub(super) fn header(bytes: &[u8; HEADER]) -> Option<(TripId, u64)> {
    let is_ours = bytes.starts_with(&BEGINS)
        && bytes.get(FIXED + 2..FIXED + 4) == Some(SUBFIELD.as_slice())
        && bytes.get(FIXED + 4..TRIP_AT) == Some(CONTENT.to_le_bytes().as_slice());
    let trip = Uuid::from_slice(bytes.get(TRIP_AT..LENGTH_AT)?).ok()?;
    let length = u64::from_le_bytes(bytes.get(LENGTH_AT..HEADER)?.try_into().ok()?);
    (is_ours && length > HEADER as u64).then_some((TripId(trip), length))
}

/// Unpacks a member. Its checksum is compared.
pub(super) fn unpack(packed: &[u8]) -> anyhow::Result<Vec<Stored>> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).take(UNPACKED_MAX).read_to_end(&mut bytes)?;
    let (mut rest, mut messages) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        messages.push(stored(v1::ArchivedMessage::decode_length_delimited(&mut rest)?)?);
    }
    Ok(messages)
}

fn wire(message: &Stored) -> v1::ArchivedMessage {
    let headers = message.headers.iter().flat_map(|(name, values)| {
        values
            .iter()
            .map(|value| v1::ArchivedHeader { name: name.to_string(), value: value.to_string() })
    });
    v1::ArchivedMessage {
        subject: message.subject.clone(),
        sequence: message.sequence,
        published_us: message.published.micros(),
        headers: headers.collect(),
        payload: message.payload.to_vec(),
    }
}

fn stored(message: v1::ArchivedMessage) -> Result<Stored, Malformed> {
    let mut headers = HeaderMap::new();
    for header in message.headers {
        let name: HeaderName =
            header.name.parse().map_err(|_| Malformed::new("header", &header.name))?;
        let value: HeaderValue =
            header.value.parse().map_err(|_| Malformed::new("header", &header.value))?;
        headers.append(name, value);
    }
    Ok(Stored {
        subject: message.subject,
        sequence: message.sequence,
        published: Timestamp::from_micros(message.published_us),
        headers,
        payload: message.payload.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::{HEADER, Stored, TripId, Uuid, header, pack, unpack};
    use async_nats::HeaderMap;
    use common::clock::Timestamp;

    fn message(sequence: u64) -> Stored {
        let mut headers = HeaderMap::new();
        headers.insert("ce-id", "anything: at all");
        Stored {
            subject: "trip.event.1.x".to_owned(),
            sequence,
            published: Timestamp::from_micros(1_700_000_000_000_000),
            headers,
            payload: vec![7; 900].into(),
        }
    }

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        let (trip, messages) = (TripId(Uuid::from_u128(5)), [message(3), message(9)]);
        let packed = pack(trip, &messages).unwrap();
        let found = header(packed.first_chunk::<HEADER>().unwrap());
        assert_eq!(found, Some((trip, packed.len() as u64)));
        let unpacked = unpack(&packed).unwrap();
        assert_eq!(format!("{unpacked:?}"), format!("{:?}", messages.to_vec()));
        assert!(packed.len() < 400, "{} bytes", packed.len());
    }

    #[test]
    fn a_byte_that_changed_is_noticed() {
        let mut packed = pack(TripId(Uuid::from_u128(5)), &[message(3)]).unwrap();
        let last = packed.len() - 9;
        packed[last] ^= 1;
        assert!(unpack(&packed).is_err());
    }

    #[test]
    fn another_gzip_file_is_not_taken_for_ours() {
        let mut packed = pack(TripId(Uuid::from_u128(5)), &[message(3)]).unwrap();
        packed[12] = b'X';
        assert_eq!(header(packed.first_chunk::<HEADER>().unwrap()), None);
    }
}
