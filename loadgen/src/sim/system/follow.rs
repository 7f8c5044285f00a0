//! Views: a process reads a stream in order, beginning with the last message of every subject or
//! after its own position, and lags behind for a moment each time.

use std::{sync::Arc, time::Duration};

use common::{log::Stored, view::Start};

use super::{World, broker::stored};
use crate::sim::engine::Host;

/// How long a view lags.
const LAG: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(40));
/// A reader that missed the bell looks again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl World {
    /// Hands all messages of a stream that a filter takes to `apply`, for ever.
    pub(super) async fn follow(
        self: Arc<Self>,
        host: Host,
        stream: &'static str,
        filter: String,
        start: Start,
        mut apply: impl FnMut(Stored),
    ) {
        let mut from = match start {
            Start::After(sequence) => sequence + 1,
            Start::LastPerSubject | Start::Since(_) => {
                let last = loop {
                    let last = self.shared().broker.last_per_subject(stream, &filter);
                    if let Ok(last) = last {
                        break last;
                    }
                    self.sim.sleep(LOOK_EVERY).await;
                };
                let next = last.last().map_or(1, |message| message.sequence + 1);
                last.iter().for_each(|message| apply(stored(message)));
                next
            }
        };
        let Some(bell) = self.stored.get(stream) else { return };
        loop {
            let mut rung = std::pin::pin!(bell.notified());
            rung.as_mut().enable();
            while let Some(next) = self.read_next(host, stream, &filter, from) {
                from = next.sequence + 1;
                apply(next);
            }
            self.sim.within(LOOK_EVERY, rung).await;
            self.sim.sleep(self.sim.between(LAG.0, LAG.1)).await;
        }
    }

    fn read_next(&self, host: Host, stream: &str, filter: &str, from: u64) -> Option<Stored> {
        if !self.is_connected(host) {
            return None;
        }
        let next = self.shared().broker.next(stream, filter, from).ok()??;
        Some(stored(&next))
    }
}
