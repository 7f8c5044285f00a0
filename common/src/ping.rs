//! Frames of pings: what a gateway gathers from several phones into one message, as columns of
//! differences. Written here and read here; classifying pings is `location`'s.

use prost::Message as _;

use crate::{
    clock::Timestamp,
    contract::{self, Malformed, v1},
    geo::Point,
    id::{DriverId, SessionId},
};

/// Pings that a phone may send at once.
pub const BATCH_PINGS_MAX: usize = 100;
/// Pings in one frame.
pub const FRAME_PINGS_MAX: usize = 8_192;
/// Bytes of one frame. A ping alone in its batch takes about 60, one of many about 12.
pub const FRAME_BYTES_MAX: usize = 768 * 1024;
/// Bytes of an id.
const ID_BYTES: usize = 16;
/// What a phone did not say.
const UNKNOWN: i32 = -1;

/// One position report, as the phone made it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ping {
    /// Counts up within a session.
    pub seq: u64,
    /// When, by the phone's clock.
    pub at: Timestamp,
    /// Where.
    pub position: Point,
    /// Radius of the position's uncertainty, decimetres.
    pub accuracy_dm: Option<u16>,
    /// Centimetres a second.
    pub speed_cm_s: Option<u16>,
    /// Degrees clockwise from north, 0 to 359.
    pub heading_deg: Option<u16>,
}

/// Whose pings they are, and when they travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHead {
    /// Whose phone.
    pub driver: DriverId,
    /// Which run of its app: `seq` counts within it.
    pub session: SessionId,
    /// When the phone sent them, by its own clock.
    pub sent_at: Timestamp,
    /// When the gateway got them, broker time.
    pub received_at: Timestamp,
}

/// What one phone sent at once.
#[derive(Debug, Clone, PartialEq)]
pub struct PingBatch {
    /// Whose phone.
    pub driver: DriverId,
    /// Which run of its app: `seq` counts within it.
    pub session: SessionId,
    /// When the phone sent them, by its own clock.
    pub sent_at: Timestamp,
    /// When the gateway got them, broker time.
    pub received_at: Timestamp,
    /// The pings, in the order in which the phone listed them; 1 to [`BATCH_PINGS_MAX`].
    pub pings: Vec<Ping>,
}

/// The latest value of each column. Differences wrap, as the longest way around the earth in
/// ten-millionths of a degree does not fit into 32 bits.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    sent_at_us: i64,
    received_at_us: i64,
    seq: i64,
    ts_us: i64,
    lat_e7: i32,
    lng_e7: i32,
    accuracy_dm: i32,
    speed_cm_s: i32,
    heading_deg: i32,
}

/// Gathers batches into one frame.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    frame: v1::PingFrame,
    last: Row,
}

impl FrameBuilder {
    /// How many pings the frame has so far.
    #[must_use]
    pub fn pings(&self) -> usize {
        self.frame.seq.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frame.seq.is_empty()
    }

    /// Adds what one phone sent. Nothing is added when there are no pings.
    pub fn push(&mut self, head: &BatchHead, pings: &[Ping]) {
        let Ok(count) = u32::try_from(pings.len()) else { return };
        if count == 0 {
            return;
        }
        let (frame, last) = (&mut self.frame, &mut self.last);
        frame.driver_ids.extend_from_slice(head.driver.0.as_bytes());
        frame.session_ids.extend_from_slice(head.session.0.as_bytes());
        frame.pings_in_batch.push(count);
        frame.sent_at_us.push(step_64(&mut last.sent_at_us, head.sent_at.micros()));
        frame.received_at_us.push(step_64(&mut last.received_at_us, head.received_at.micros()));
        for ping in pings {
            let (lat, lng) = ping.position.to_e7();
            // Beyond an i64 no honest phone counts; the gateway refuses it.
            let seq = i64::try_from(ping.seq).unwrap_or(i64::MAX);
            frame.seq.push(step_64(&mut last.seq, seq));
            frame.ts_us.push(step_64(&mut last.ts_us, ping.at.micros()));
            frame.lat_e7.push(step_32(&mut last.lat_e7, lat));
            frame.lng_e7.push(step_32(&mut last.lng_e7, lng));
            frame.accuracy_dm.push(step_32(&mut last.accuracy_dm, or_unknown(ping.accuracy_dm)));
            frame.speed_cm_s.push(step_32(&mut last.speed_cm_s, or_unknown(ping.speed_cm_s)));
            frame.heading_deg.push(step_32(&mut last.heading_deg, or_unknown(ping.heading_deg)));
        }
    }

    /// The frame as bytes. The builder is empty afterwards and keeps its room.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        let bytes = self.frame.encode_to_vec();
        let frame = &mut self.frame;
        frame.driver_ids.clear();
        frame.session_ids.clear();
        frame.pings_in_batch.clear();
        frame.sent_at_us.clear();
        frame.received_at_us.clear();
        frame.seq.clear();
        frame.ts_us.clear();
        frame.lat_e7.clear();
        frame.lng_e7.clear();
        frame.accuracy_dm.clear();
        frame.speed_cm_s.clear();
        frame.heading_deg.clear();
        self.last = Row::default();
        bytes
    }
}

fn or_unknown(value: Option<u16>) -> i32 {
    value.map_or(UNKNOWN, i32::from)
}

fn step_64(last: &mut i64, value: i64) -> i64 {
    let step = value.wrapping_sub(*last);
    *last = value;
    step
}

fn step_32(last: &mut i32, value: i32) -> i32 {
    let step = value.wrapping_sub(*last);
    *last = value;
    step
}

/// These batches as one frame.
#[must_use]
pub fn encode(batches: &[PingBatch]) -> Vec<u8> {
    let mut builder = FrameBuilder::default();
    for PingBatch { driver, session, sent_at, received_at, pings } in batches {
        let head = BatchHead {
            driver: *driver,
            session: *session,
            sent_at: *sent_at,
            received_at: *received_at,
        };
        builder.push(&head, pings);
    }
    builder.finish()
}

/// Reads a frame.
///
/// # Errors
/// When it is not one, has columns of different lengths, values out of range, or more than a
/// gateway would ever send.
pub fn decode(bytes: &[u8]) -> Result<Vec<PingBatch>, Malformed> {
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(Malformed::new("ping frame", format!("has {} bytes", bytes.len())));
    }
    let frame: v1::PingFrame = contract::decode("ping frame", bytes)?;
    check_columns(&frame)?;
    let (mut batches, mut last) = (Vec::with_capacity(frame.pings_in_batch.len()), Row::default());
    let mut rows = rows(&frame);
    let ids = frame.driver_ids.chunks_exact(ID_BYTES).zip(frame.session_ids.chunks_exact(ID_BYTES));
    let times = frame.sent_at_us.iter().zip(&frame.received_at_us);
    for (((driver, session), (sent, received)), count) in ids.zip(times).zip(&frame.pings_in_batch)
    {
        last.sent_at_us = last.sent_at_us.wrapping_add(*sent);
        last.received_at_us = last.received_at_us.wrapping_add(*received);
        let count = usize::try_from(*count).unwrap_or(usize::MAX);
        let mut pings = Vec::with_capacity(count.min(BATCH_PINGS_MAX));
        for row in rows.by_ref().take(count) {
            pings.push(ping(&mut last, row)?);
        }
        batches.push(PingBatch {
            driver: contract::id("driver_ids", driver)?,
            session: contract::id("session_ids", session)?,
            sent_at: Timestamp::from_micros(last.sent_at_us),
            received_at: Timestamp::from_micros(last.received_at_us),
            pings,
        });
    }
    Ok(batches)
}

fn check_columns(frame: &v1::PingFrame) -> Result<(), Malformed> {
    let batches = frame.pings_in_batch.len();
    let per_batch = [
        frame.driver_ids.len() / ID_BYTES,
        frame.driver_ids.len().div_ceil(ID_BYTES),
        frame.session_ids.len() / ID_BYTES,
        frame.session_ids.len().div_ceil(ID_BYTES),
        frame.sent_at_us.len(),
        frame.received_at_us.len(),
    ];
    if per_batch.iter().any(|count| *count != batches) {
        return Err(Malformed::new("ping frame", "has columns of different lengths"));
    }
    let most = u32::try_from(BATCH_PINGS_MAX).unwrap_or(u32::MAX);
    if frame.pings_in_batch.iter().any(|count| *count == 0 || *count > most) {
        return Err(Malformed::new("pings_in_batch", format!("not within 1 to {most}")));
    }
    let pings: u64 = frame.pings_in_batch.iter().map(|count| u64::from(*count)).sum();
    let pings = usize::try_from(pings).unwrap_or(usize::MAX);
    if pings > FRAME_PINGS_MAX {
        return Err(Malformed::new("ping frame", format!("has {pings} pings")));
    }
    let per_ping = [
        frame.seq.len(),
        frame.ts_us.len(),
        frame.lat_e7.len(),
        frame.lng_e7.len(),
        frame.accuracy_dm.len(),
        frame.speed_cm_s.len(),
        frame.heading_deg.len(),
    ];
    if per_ping.iter().any(|count| *count != pings) {
        return Err(Malformed::new("ping frame", "has columns of different lengths"));
    }
    Ok(())
}

/// The differences of one ping, column by column.
fn rows(frame: &v1::PingFrame) -> impl Iterator<Item = Row> + '_ {
    let whens = frame.seq.iter().zip(&frame.ts_us);
    let wheres = frame.lat_e7.iter().zip(&frame.lng_e7);
    let hows = frame.accuracy_dm.iter().zip(&frame.speed_cm_s).zip(&frame.heading_deg);
    whens.zip(wheres).zip(hows).map(|(((seq, ts), (lat, lng)), ((accuracy, speed), heading))| Row {
        seq: *seq,
        ts_us: *ts,
        lat_e7: *lat,
        lng_e7: *lng,
        accuracy_dm: *accuracy,
        speed_cm_s: *speed,
        heading_deg: *heading,
        ..Row::default()
    })
}

fn ping(last: &mut Row, step: Row) -> Result<Ping, Malformed> {
    last.seq = last.seq.wrapping_add(step.seq);
    last.ts_us = last.ts_us.wrapping_add(step.ts_us);
    last.lat_e7 = last.lat_e7.wrapping_add(step.lat_e7);
    last.lng_e7 = last.lng_e7.wrapping_add(step.lng_e7);
    last.accuracy_dm = last.accuracy_dm.wrapping_add(step.accuracy_dm);
    last.speed_cm_s = last.speed_cm_s.wrapping_add(step.speed_cm_s);
    last.heading_deg = last.heading_deg.wrapping_add(step.heading_deg);
    let heading_deg = known("heading_deg", last.heading_deg)?;
    if heading_deg.is_some_and(|heading| heading >= 360) {
        return Err(Malformed::new("heading_deg", last.heading_deg));
    }
    Ok(Ping {
        seq: u64::try_from(last.seq).map_err(|err| Malformed::new("seq", err))?,
        at: Timestamp::from_micros(last.ts_us),
        position: Point::from_e7(last.lat_e7, last.lng_e7)
            .map_err(|err| Malformed::new("position", err))?,
        accuracy_dm: known("accuracy_dm", last.accuracy_dm)?,
        speed_cm_s: known("speed_cm_s", last.speed_cm_s)?,
        heading_deg,
    })
}

fn known(what: &'static str, value: i32) -> Result<Option<u16>, Malformed> {
    if value == UNKNOWN {
        return Ok(None);
    }
    u16::try_from(value).map(Some).map_err(|err| Malformed::new(what, err))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};
    use prost::Message as _;
    use uuid::Uuid;

    use super::{
        BATCH_PINGS_MAX, DriverId, FRAME_BYTES_MAX, FrameBuilder, Ping, PingBatch, Point,
        SessionId, Timestamp, decode, encode, v1,
    };

    fn any_time() -> impl Strategy<Value = Timestamp> {
        (0..4_000_000_000_000_000_i64).prop_map(Timestamp::from_micros)
    }

    fn any_ping() -> impl Strategy<Value = Ping> {
        (
            0..u64::from(u32::MAX),
            any_time(),
            (-900_000_000..=900_000_000_i32, -1_800_000_000..=1_800_000_000_i32),
            option::of(any::<u16>()),
            option::of(any::<u16>()),
            option::of(0..360_u16),
        )
            .prop_map(|(seq, at, (lat, lng), accuracy_dm, speed_cm_s, heading_deg)| Ping {
                seq,
                at,
                position: Point::from_e7(lat, lng).unwrap(),
                accuracy_dm,
                speed_cm_s,
                heading_deg,
            })
    }

    fn any_batch() -> impl Strategy<Value = PingBatch> {
        (any::<u128>(), any::<u128>(), any_time(), any_time(), vec(any_ping(), 1..5)).prop_map(
            |(driver, session, sent_at, received_at, pings)| PingBatch {
                driver: DriverId(Uuid::from_u128(driver)),
                session: SessionId(Uuid::from_u128(session)),
                sent_at,
                received_at,
                pings,
            },
        )
    }

    proptest! {
        #[test]
        fn a_frame_is_read_as_it_was_written(batches in vec(any_batch(), 0..8)) {
            prop_assert_eq!(decode(&encode(&batches)), Ok(batches));
        }

        #[test]
        fn no_bytes_make_the_reader_fail_otherwise(bytes in vec(any::<u8>(), 0..200)) {
            if let Ok(batches) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&batches)), Ok(batches));
            }
        }
    }

    #[test]
    fn a_builder_starts_over_after_each_frame() {
        let batch = PingBatch {
            driver: DriverId(Uuid::from_u128(1)),
            session: SessionId(Uuid::from_u128(2)),
            sent_at: Timestamp::from_micros(3),
            received_at: Timestamp::from_micros(4),
            pings: vec![Ping {
                seq: 5,
                at: Timestamp::from_micros(6),
                position: Point::new(57.7, 11.97).unwrap(),
                accuracy_dm: Some(50),
                speed_cm_s: None,
                heading_deg: Some(359),
            }],
        };
        let head = super::BatchHead {
            driver: batch.driver,
            session: batch.session,
            sent_at: batch.sent_at,
            received_at: batch.received_at,
        };
        let mut builder = FrameBuilder::default();
        builder.push(&head, &batch.pings);
        let first = builder.finish();
        assert!(builder.is_empty());
        builder.push(&head, &batch.pings);
        assert_eq!(builder.finish(), first);
        assert_eq!(first, encode(&[batch]));
    }

    #[test]
    fn frames_larger_than_any_gateway_sends_are_refused_unread() {
        assert!(decode(&vec![0; FRAME_BYTES_MAX + 1]).is_err());
        let bomb = v1::PingFrame {
            driver_ids: vec![0; 16],
            session_ids: vec![0; 16],
            pings_in_batch: vec![u32::MAX],
            sent_at_us: vec![0],
            received_at_us: vec![0],
            ..v1::PingFrame::default()
        };
        assert!(decode(&bomb.encode_to_vec()).is_err());
    }

    #[test]
    fn columns_that_do_not_fit_together_are_malformed() {
        let one = |pings_in_batch| v1::PingFrame {
            driver_ids: vec![0; 16],
            session_ids: vec![0; 16],
            pings_in_batch,
            sent_at_us: vec![0],
            received_at_us: vec![0],
            seq: vec![0],
            ts_us: vec![0],
            lat_e7: vec![0],
            lng_e7: vec![0],
            accuracy_dm: vec![0],
            speed_cm_s: vec![0],
            heading_deg: vec![0],
        };
        assert!(decode(&one(vec![1]).encode_to_vec()).is_ok());
        assert!(decode(&one(vec![2]).encode_to_vec()).is_err(), "too few pings");
        assert!(decode(&one(vec![0]).encode_to_vec()).is_err(), "an empty batch");
        let most = u32::try_from(BATCH_PINGS_MAX).unwrap();
        assert!(decode(&one(vec![most + 1]).encode_to_vec()).is_err(), "a batch too large");
        let short_id = v1::PingFrame { driver_ids: vec![0; 17], ..one(vec![1]) };
        assert!(decode(&short_id.encode_to_vec()).is_err(), "half an id");
        let off_the_earth = v1::PingFrame { lat_e7: vec![900_000_001], ..one(vec![1]) };
        assert!(decode(&off_the_earth.encode_to_vec()).is_err(), "off the earth");
        let north_again = v1::PingFrame { heading_deg: vec![360], ..one(vec![1]) };
        assert!(decode(&north_again.encode_to_vec()).is_err(), "360 degrees");
    }
}
