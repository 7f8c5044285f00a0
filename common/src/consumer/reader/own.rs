//! Reads a consumer that has one owner: one message after the other, a window of pings in flight.

use std::{collections::VecDeque, future::Future, pin::pin, time::Duration};

use async_nats::jetstream;
use futures_util::FutureExt as _;
use tokio::time::Interval;
use tokio_util::sync::CancellationToken;

use super::{DRAIN_MAX, Reader, WINDOW_BATCH};
use crate::{
    consumer::{
        Delivery, Failure,
        patience::{PROGRESS_EVERY, every, say_progress},
        pull::{Broken, Pin, Pull},
        share::Turn,
    },
    stream::{ConsumerKind, PINGS_IN_FLIGHT, PULL_EXPIRES},
};

/// Messages that one pull of a lane asks for.
const LANE_BATCH: usize = 16;

/// Where a reader of an owned consumer stands: whose turn it is, and what the broker knows it by.
pub(super) struct Seat {
    pub(super) turn: Turn,
    /// Kept when a pull breaks: an owner goes on with it, and need not wait for itself to time out.
    pub(super) pin: Option<Pin>,
}

impl Seat {
    /// Gets up. What an owner was given and did not read; nothing of one that is none.
    fn left(&mut self, pull: Pull, waiting: Waiting) -> Option<Vec<jetstream::Message>> {
        self.pin.take()?;
        let mut left = Vec::from(waiting.messages);
        left.extend(pull.left());
        Some(left)
    }
}

/// What an owner was given while it has another message in hand. The broker is told of it, too: it
/// must not use up its tries by waiting.
struct Waiting {
    messages: VecDeque<jetstream::Message>,
    progress: Interval,
}

impl Waiting {
    fn new() -> Self {
        Self { messages: VecDeque::new(), progress: every(PROGRESS_EVERY) }
    }

    fn has_room(&self) -> bool {
        self.messages.len() < usize::try_from(PINGS_IN_FLIGHT).unwrap_or(usize::MAX)
    }

    fn push(&mut self, message: jetstream::Message) {
        self.messages.push_back(message);
    }

    fn next(&mut self) -> Option<jetstream::Message> {
        self.messages.pop_front()
    }

    /// Waits until the broker has to hear of it again, and says so.
    async fn keep(&mut self) {
        self.progress.tick().await;
        for message in &self.messages {
            say_progress(message).await;
        }
    }

    /// As [`Self::keep`] between two messages, where a handler that is always ready leaves no time.
    async fn keep_if_due(&mut self) {
        if self.progress.tick().now_or_never().is_some() {
            for message in &self.messages {
                say_progress(message).await;
            }
        }
    }
}

impl Reader {
    /// One message after the other. While one is in hand the pull is polled on, because an owner
    /// that does not pull loses its pin. What an owner had been given and did not read comes back.
    pub(super) async fn own<H, Fut>(
        &self,
        mut pull: Pull,
        shutdown: &CancellationToken,
        handler: &H,
        seat: &mut Seat,
    ) -> Result<Option<Vec<jetstream::Message>>, Broken>
    where
        H: Fn(Delivery, u32) -> Fut,
        Fut: Future<Output = Result<(), Failure>>,
    {
        let mut waiting = Waiting::new();
        let mut drained = pin!(async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN_MAX).await;
        });
        let mut is_tasting = self.kind() == ConsumerKind::Pings;
        loop {
            waiting.keep_if_due().await;
            let message = match waiting.next() {
                Some(message) => message,
                None => tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return Ok(seat.left(pull, waiting)),
                    () = seat.turn.over() => return Ok(seat.left(pull, waiting)),
                    next = pull.next(self.batch(is_tasting), &mut seat.pin) => next?,
                },
            };
            seat.turn.came();
            // What was in flight comes before what is new: from here on there is nothing to suspect.
            is_tasting &= message.info().is_ok_and(|info| info.delivered > 1);
            let mut settled = pin!(self.settle(message, handler));
            let alone = if is_tasting { PULL_EXPIRES } else { Duration::ZERO };
            let (mut alone, mut is_alone) = (pin!(tokio::time::sleep(alone)), is_tasting);
            loop {
                let has_room = !is_alone && waiting.has_room();
                tokio::select! {
                    biased;
                    () = &mut settled => break,
                    () = &mut drained => {
                        tracing::warn!(consumer = self.spec.name, "a message left to redelivery");
                        return Ok(seat.left(pull, waiting));
                    }
                    () = &mut alone, if is_alone => is_alone = false,
                    () = waiting.keep() => {}
                    next = pull.next(self.batch(is_tasting), &mut seat.pin), if has_room => {
                        waiting.push(next?);
                    }
                }
            }
            if shutdown.is_cancelled() {
                return Ok(seat.left(pull, waiting));
            }
        }
    }

    /// How many messages are asked for at a time. A window counts for all that are in it when their
    /// owner dies, so a new owner takes what was in flight one by one: what kills it comes alone, and
    /// whatever else was in flight with it keeps its tries.
    fn batch(&self, is_tasting: bool) -> usize {
        match self.kind() {
            _ if is_tasting => 1,
            ConsumerKind::Pings => WINDOW_BATCH,
            ConsumerKind::Lane | ConsumerKind::Worker | ConsumerKind::Single => LANE_BATCH,
        }
    }
}
