//! Messages between machines: they take time, get lost, come twice and overtake each other.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::{
    World,
    services::{Kind, Service},
};
use crate::sim::engine::Host;

/// How long a message takes on a good day.
const FAST: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(15));
/// How long a delayed one takes: longer than an ack is waited for.
const SLOW: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(6));

/// Between whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A process and the broker.
    Broker,
    /// A phone and a gateway, or a gateway and `trip`.
    Call,
    /// Payments and the provider.
    Provider,
}

impl World {
    /// When the copies of a message that is sent now arrive: none where it is lost, two where it is
    /// doubled.
    pub(super) fn travel(&self, way: Way) -> Vec<Duration> {
        let wire = self.wire(way);
        if self.sim.happens(wire.dropped) {
            self.with_witness(|witness| witness.faults += 1);
            return Vec::new();
        }
        let copies = if self.sim.happens(wire.doubled) { 2 } else { 1 };
        (0..copies)
            .map(|_| {
                let is_slow = self.sim.happens(wire.delayed);
                self.with_witness(|witness| witness.faults += u64::from(is_slow));
                let (least, most) = if is_slow { SLOW } else { FAST };
                self.sim.between(least, most)
            })
            .collect()
    }

    /// Has something done elsewhere and waits for the answer, if it comes in time. `effect` happens
    /// where the message arrives, as often as it arrives; without an answer there is none.
    pub(super) async fn request<T: Send + 'static>(
        self: &Arc<Self>,
        way: Way,
        patience: Duration,
        effect: impl Fn(&Arc<Self>) -> Option<T> + Send + Sync + 'static,
    ) -> Option<T> {
        let (answers, mut answered) = mpsc::unbounded_channel();
        let effect = Arc::new(effect);
        for time in self.travel(way) {
            let (world, effect, answers) = (Arc::clone(self), Arc::clone(&effect), answers.clone());
            self.sim.after(time, move || {
                let Some(answer) = effect(&world) else { return };
                world.reply(way, answer, answers);
            });
        }
        // The last sender must not be here: without any answer under way there is only the wait.
        drop(answers);
        let first = async {
            match answered.recv().await {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        };
        self.sim.within(patience, first).await
    }

    fn reply<T: Send + 'static>(
        self: &Arc<Self>,
        way: Way,
        answer: T,
        answers: mpsc::UnboundedSender<T>,
    ) {
        // An answer that comes twice changes nothing; only the first copy is of interest.
        if let Some(time) = self.travel(way).into_iter().min() {
            self.sim.after(time, move || drop(answers.send(answer)));
        }
    }

    /// Calls some process of this kind, as a phone or another service would: the handler runs there,
    /// once for every copy of the call that arrives.
    pub async fn ask<T, F>(
        self: &Arc<Self>,
        kind: Kind,
        patience: Duration,
        handler: F,
    ) -> Option<T>
    where
        T: Send + 'static,
        F: Fn(Arc<Self>, Service) -> BoxFuture<'static, T> + Send + Sync + 'static,
    {
        let (answers, mut answered) = mpsc::unbounded_channel();
        let handler = Arc::new(handler);
        for time in self.travel(Way::Call) {
            let (world, handler, answers) =
                (Arc::clone(self), Arc::clone(&handler), answers.clone());
            self.sim.after(time, move || {
                let Some((host, service)) = world.some_service(kind) else { return };
                let here = Arc::clone(&world);
                world.sim.spawn(host, async move {
                    let answer = handler(Arc::clone(&here), service).await;
                    here.reply(Way::Call, answer, answers);
                });
            });
        }
        drop(answers);
        let first = async {
            match answered.recv().await {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        };
        self.sim.within(patience, first).await
    }

    fn some_service(&self, kind: Kind) -> Option<(Host, Service)> {
        let running: Vec<(Host, Service)> = {
            let shared = self.shared();
            let processes = shared.processes.iter().filter(|(_, process)| process.kind == kind);
            processes
                .filter_map(|(host, process)| Some((*host, process.service.clone()?)))
                .collect()
        };
        self.sim.one_of(&running).cloned()
    }

    /// Repeats something until it says that it is done, a number of times.
    pub async fn persist<T, Fut>(
        self: &Arc<Self>,
        times: u32,
        mut attempt: impl FnMut() -> Fut,
    ) -> Option<T>
    where
        Fut: Future<Output = Option<T>>,
    {
        let mut pause = Duration::from_millis(500);
        for _ in 0..times {
            if let Some(done) = attempt().await {
                return Some(done);
            }
            self.sim.sleep(self.sim.between(pause, pause * 2)).await;
            pause = (pause * 2).min(Duration::from_secs(8));
        }
        None
    }
}
