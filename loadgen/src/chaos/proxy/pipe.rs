//! One direction of a connection to the broker: reads frames, lets chance decide about each, and
//! passes on what is left. Runs of frames that nothing hits leave as they came, in one write.

use std::{ops::RangeInclusive, time::Duration};

use bytes::{Bytes, BytesMut};
use rand::{RngExt as _, rngs::ChaCha8Rng};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{ReadHalf, WriteHalf},
    time::Instant,
};

use super::{
    class::{Kind, Streams, is_refusal},
    control::Orders,
    counts::Fault,
    faults::Partition,
    frames::{Frame, Frames, Next, Verb},
    held::Held,
};

/// Room that is made for each read.
const READ_BYTES: usize = 64 * 1024;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToBroker,
    FromBroker,
}

impl Direction {
    fn is_cut(self, partition: Partition) -> bool {
        match partition {
            Partition::None => false,
            Partition::ToBroker => self == Self::ToBroker,
            Partition::FromBroker => self == Self::FromBroker,
            Partition::Both | Partition::HalfOpen => true,
        }
    }
}

/// Why a direction carries nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Whoever sends is done, and everything that was held has left.
    SenderDone,
    /// Whoever receives is gone.
    ReceiverGone,
    /// A fault wants the connection reset.
    Reset,
    /// The proxy was dropped.
    Stopped,
}

/// One direction of one connection.
#[derive(Debug)]
pub(super) struct Pipe<'a> {
    pub(super) direction: Direction,
    pub(super) orders: Orders,
    pub(super) chance: ChaCha8Rng,
    pub(super) streams: &'a Streams,
    pub(super) frames: Frames,
    pub(super) held: Held,
    /// How many calls to let go of what is held were followed.
    pub(super) releases: u64,
}

impl Pipe<'_> {
    pub(super) async fn run(&mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> End {
        let mut buffer = BytesMut::new();
        let mut sender_is_done = false;
        loop {
            let direction = self.direction;
            let gate = self.orders.control.wait_for(|now| !direction.is_cut(now.partition)).await;
            let Ok(releases) = gate.map(|now| now.releases) else { return End::Stopped };
            if self.releases != releases {
                self.releases = releases;
                if let Err(end) = self.let_go(&mut to).await {
                    return end;
                }
            }
            if sender_is_done && self.held.is_empty() {
                return End::SenderDone;
            }
            buffer.reserve(READ_BYTES);
            let done = tokio::select! {
                biased;
                changed = self.orders.control.changed() => changed.map_err(|_| End::Stopped),
                () = self.held.due() => self.pass_due(&mut to).await,
                read = from.read_buf(&mut buffer), if !sender_is_done => {
                    sender_is_done = !matches!(read, Ok(1..));
                    self.pass(&mut buffer, &mut to).await
                }
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn let_go(&mut self, to: &mut WriteHalf<'_>) -> Result<(), End> {
        while let Some(frame) = self.held.pop_any() {
            write(to, &frame).await?;
        }
        Ok(())
    }

    async fn pass_due(&mut self, to: &mut WriteHalf<'_>) -> Result<(), End> {
        let now = Instant::now();
        while let Some(frame) = self.held.pop(now) {
            write(to, &frame).await?;
        }
        Ok(())
    }

    /// Passes on every whole frame at the front of the buffer, or what chance makes of it.
    async fn pass(&mut self, buffer: &mut BytesMut, to: &mut WriteHalf<'_>) -> Result<(), End> {
        let faults = self.orders.faults();
        // So many bytes at the front pass unchanged.
        let mut unchanged = 0;
        while let Some(rest) = buffer.get(unchanged..) {
            let frame = match self.frames.next(rest) {
                Next::Frame(frame) => frame,
                Next::More => break,
                Next::Opaque => {
                    unchanged = buffer.len();
                    break;
                }
            };
            let (kind, stream) = self.streams.classify(&frame, rest);
            if matches!(kind, Kind::Answer | Kind::PublishAck) && is_refusal(&frame, rest) {
                self.orders.tally.note_refusal();
            }
            let fault = match kind {
                Kind::Other => None,
                kind => faults.rates(stream).draw(kind.faults(), &mut self.chance),
            };
            let alone = if frame.verb == Verb::Info { alone(&frame, rest) } else { None };
            if fault.is_none() && alone.is_none() {
                unchanged += frame.len;
                continue;
            }
            write(to, &buffer.split_to(unchanged)).await?;
            unchanged = 0;
            let bytes = buffer.split_to(frame.len);
            match (fault, alone) {
                (Some(fault), _) => self.inject(fault, &bytes, to).await?,
                (None, Some(alone)) => write(to, &alone).await?,
                (None, None) => (),
            }
        }
        write(to, &buffer.split_to(unchanged)).await
    }

    async fn inject(
        &mut self,
        fault: Fault,
        frame: &[u8],
        to: &mut WriteHalf<'_>,
    ) -> Result<(), End> {
        let faults = self.orders.faults();
        let delay = match fault {
            Fault::PublishDelayed => Some(&faults.publish_delay),
            Fault::DeliveryDelayed => Some(&faults.delivery_delay),
            _ => None,
        };
        if delay.is_some() && !self.held.has_room(frame) {
            return write(to, frame).await;
        }
        self.orders.tally.note(fault);
        if let Some(delay) = delay {
            let due = Instant::now() + draw(delay, &mut self.chance);
            self.held.hold(frame, due);
            return Ok(());
        }
        match fault {
            Fault::PublishDoubled | Fault::DeliveryDoubled => {
                write(to, frame).await?;
                write(to, frame).await
            }
            // Either the frame still got through or it did not: its sender cannot know.
            Fault::ConnectionReset => {
                if self.chance.random() {
                    write(to, frame).await?;
                }
                Err(End::Reset)
            }
            Fault::ConnectionStalled => {
                let span = draw(&faults.stall, &mut self.chance);
                tokio::select! {
                    () = tokio::time::sleep(span) => (),
                    () = self.orders.release() => (),
                }
                write(to, frame).await
            }
            // What is dropped is simply not passed on.
            _ => Ok(()),
        }
    }
}

/// A server's greeting without the addresses of the others in its cluster: a client that knew them
/// would walk around the proxy.
fn alone(frame: &Frame, bytes: &[u8]) -> Option<Bytes> {
    let line = bytes.get(..frame.len)?;
    let json = line.get(b"INFO ".len()..)?;
    let mut info: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json).ok()?;
    info.remove("connect_urls")?;
    let info = serde_json::to_string(&info).ok()?;
    Some(Bytes::from(format!("INFO {info}\r\n")))
}

pub(super) fn draw(span: &RangeInclusive<Duration>, chance: &mut ChaCha8Rng) -> Duration {
    if span.is_empty() { *span.start() } else { chance.random_range(span.clone()) }
}

async fn write(to: &mut WriteHalf<'_>, bytes: &[u8]) -> Result<(), End> {
    if bytes.is_empty() {
        return Ok(());
    }
    to.write_all(bytes).await.map_err(|_| End::ReceiverGone)
}
