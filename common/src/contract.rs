//! The contract in Rust: what `proto/` says, and the steps that every reader repeats (an id of 16
//! bytes, a point in range, a known enum). What does not convert is [`Malformed`].

/// Generated from `proto/ride/v1`. The `.proto` files are the documentation.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::use_self,
    clippy::indexing_slicing,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/ride.v1.rs"));
}

/// The compiled contract as a `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ride.binpb"));

use prost::Message;

use crate::{
    clock::Timestamp,
    geo::Point,
    money::{Currency, Money},
};

/// Bytes that are not what the contract says. Trying again cannot help.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("malformed {what}: {why}")]
pub struct Malformed {
    /// The message or field.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl Malformed {
    /// This field is wrong, for that reason.
    #[allow(clippy::needless_pass_by_value, reason = "errors are handed over where they are made")]
    pub fn new(what: &'static str, why: impl ToString) -> Self {
        Self { what, why: why.to_string() }
    }

    /// This field is missing.
    #[must_use]
    pub fn missing(what: &'static str) -> Self {
        Self { what, why: "is missing".to_owned() }
    }
}

/// Decodes a message.
///
/// # Errors
/// When the bytes are not that message.
pub fn decode<M: Message + Default>(what: &'static str, bytes: &[u8]) -> Result<M, Malformed> {
    M::decode(bytes).map_err(|err| Malformed::new(what, err))
}

/// Reads an id.
///
/// # Errors
/// When it has not 16 bytes.
pub fn id<'a, T>(what: &'static str, bytes: &'a [u8]) -> Result<T, Malformed>
where
    T: TryFrom<&'a [u8], Error = crate::id::NotAnId>,
{
    T::try_from(bytes).map_err(|err| Malformed::new(what, err))
}

/// Takes a field that must be there.
///
/// # Errors
/// When it is not.
pub fn required<T>(what: &'static str, field: Option<T>) -> Result<T, Malformed> {
    field.ok_or_else(|| Malformed::missing(what))
}

/// Reads a point that must be there and in range.
///
/// # Errors
/// When it is missing or out of range.
pub fn point(what: &'static str, field: Option<&v1::Point>) -> Result<Point, Malformed> {
    let raw = required(what, field)?;
    Point::from_e7(raw.lat_e7, raw.lng_e7).map_err(|err| Malformed::new(what, err))
}

/// Reads an amount that must be there, in a known currency.
///
/// # Errors
/// When it is missing or its currency unknown.
pub fn money(what: &'static str, field: Option<&v1::Money>) -> Result<Money, Malformed> {
    let raw = required(what, field)?;
    let currency: Currency = raw.currency.parse().map_err(|err| Malformed::new(what, err))?;
    Ok(Money::new(raw.amount_minor, currency))
}

/// A moment, where zero means "not yet".
#[must_use]
pub fn moment(micros: i64) -> Option<Timestamp> {
    (micros != 0).then(|| Timestamp::from_micros(micros))
}

impl From<Point> for v1::Point {
    fn from(point: Point) -> Self {
        let (lat_e7, lng_e7) = point.to_e7();
        Self { lat_e7, lng_e7 }
    }
}

impl From<Money> for v1::Money {
    fn from(money: Money) -> Self {
        Self { amount_minor: money.amount_minor, currency: money.currency.code().to_owned() }
    }
}
