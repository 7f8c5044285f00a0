//! What can be made to fail, and how often it was. Every injected fault is one counted error.

use std::{
    iter::Sum,
    ops::{Add, AddAssign, Sub},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Serialize, Serializer, ser::SerializeMap as _};

/// One kind of injected fault. Those from `PublishDropped` to `Partitioned` hit connections to the
/// broker, the others HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// A publish to a stream never reached the broker.
    PublishDropped,
    /// A publish to a stream reached the broker twice.
    PublishDoubled,
    /// A publish to a stream reached the broker late, perhaps after its sender had given up.
    PublishDelayed,
    /// A message was stored, or refused, and its publisher was not told.
    PublishAckDropped,
    /// A consumer's ack, nak, progress or term never reached the broker.
    AckDropped,
    /// A message that the broker delivered never arrived.
    DeliveryDropped,
    /// A delivered message arrived twice.
    DeliveryDoubled,
    /// A delivered message arrived after the broker had stopped waiting for its ack.
    DeliveryDelayed,
    /// A request, to the JetStream API or to another service, got lost.
    RequestDropped,
    /// The answer to a request got lost.
    AnswerDropped,
    /// A connection to the broker was reset.
    ConnectionReset,
    /// One direction of a connection to the broker stood still for a while.
    ConnectionStalled,
    /// A process was cut off from the broker.
    Partitioned,
    /// An HTTP connection was reset before the request reached a gateway.
    RequestReset,
    /// An HTTP connection was reset while the answer came back.
    AnswerReset,
    /// An HTTP request reached a gateway late.
    RequestDelayed,
    /// An HTTP answer stood still for a while.
    AnswerStalled,
    /// An HTTP connection was refused.
    ConnectionRefused,
}

const KINDS: usize = Fault::ALL.len();

impl Fault {
    /// Each of them.
    pub const ALL: [Self; 18] = [
        Self::PublishDropped,
        Self::PublishDoubled,
        Self::PublishDelayed,
        Self::PublishAckDropped,
        Self::AckDropped,
        Self::DeliveryDropped,
        Self::DeliveryDoubled,
        Self::DeliveryDelayed,
        Self::RequestDropped,
        Self::AnswerDropped,
        Self::ConnectionReset,
        Self::ConnectionStalled,
        Self::Partitioned,
        Self::RequestReset,
        Self::AnswerReset,
        Self::RequestDelayed,
        Self::AnswerStalled,
        Self::ConnectionRefused,
    ];

    /// As reports name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PublishDropped => "publish_dropped",
            Self::PublishDoubled => "publish_doubled",
            Self::PublishDelayed => "publish_delayed",
            Self::PublishAckDropped => "publish_ack_dropped",
            Self::AckDropped => "ack_dropped",
            Self::DeliveryDropped => "delivery_dropped",
            Self::DeliveryDoubled => "delivery_doubled",
            Self::DeliveryDelayed => "delivery_delayed",
            Self::RequestDropped => "request_dropped",
            Self::AnswerDropped => "answer_dropped",
            Self::ConnectionReset => "connection_reset",
            Self::ConnectionStalled => "connection_stalled",
            Self::Partitioned => "partitioned",
            Self::RequestReset => "request_reset",
            Self::AnswerReset => "answer_reset",
            Self::RequestDelayed => "request_delayed",
            Self::AnswerStalled => "answer_stalled",
            Self::ConnectionRefused => "connection_refused",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// A number for every kind of fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PerFault<T>([T; KINDS]);

impl<T: Copy> PerFault<T> {
    pub(super) const fn all(value: T) -> Self {
        Self([value; KINDS])
    }

    pub(super) fn get(&self, fault: Fault) -> Option<T> {
        self.0.get(fault.index()).copied()
    }

    pub(super) fn set(&mut self, fault: Fault, value: T) {
        if let Some(place) = self.0.get_mut(fault.index()) {
            *place = value;
        }
    }

    fn zip(self, other: Self, both: impl Fn(T, T) -> T) -> Self {
        let mut zipped = self;
        for (mine, its) in zipped.0.iter_mut().zip(other.0) {
            *mine = both(*mine, its);
        }
        zipped
    }
}

/// How many errors of each kind were injected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts(PerFault<u64>);

impl Counts {
    /// How many of this kind.
    #[must_use]
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(fault).unwrap_or(0)
    }

    /// How many of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.0.iter().sum()
    }

    /// Every kind with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, u64)> {
        Fault::ALL.into_iter().zip(self.0.0)
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self(PerFault::all(0))
    }
}

impl Add for Counts {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.zip(other.0, u64::saturating_add))
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// What came since an earlier reading.
impl Sub for Counts {
    type Output = Self;
    fn sub(self, earlier: Self) -> Self {
        Self(self.0.zip(earlier.0, u64::saturating_sub))
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(KINDS))?;
        for (fault, count) in self.iter() {
            map.serialize_entry(fault.name(), &count)?;
        }
        map.end()
    }
}

/// The running count, shared by all connections.
#[derive(Debug)]
pub(super) struct Tally {
    faults: [AtomicU64; KINDS],
    /// Appends that the broker was seen to refuse.
    refused: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { faults: std::array::from_fn(|_| AtomicU64::new(0)), refused: AtomicU64::new(0) }
    }
}

impl Tally {
    pub(super) fn note(&self, fault: Fault) {
        if let Some(count) = self.faults.get(fault.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn note_refusal(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn read(&self) -> Counts {
        let mut counts = PerFault::all(0);
        for (count, shared) in counts.0.iter_mut().zip(&self.faults) {
            *count = shared.load(Ordering::Relaxed);
        }
        Counts(counts)
    }
}
