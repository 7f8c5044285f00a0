//! What a running proxy is told, and how the tasks of its connections hear of it.

use std::{net::SocketAddr, sync::Arc};

use rand::{SeedableRng as _, rngs::ChaCha8Rng};
use tokio::sync::watch;

use super::{
    counts::Tally,
    faults::{Faults, Partition},
};

/// Connections that one proxy carries at a time; more have to wait to be accepted.
pub(super) const CONNECTIONS_MAX: usize = 4096;

/// How the proxy behaves now.
#[derive(Debug, Clone)]
pub(super) struct Control {
    pub(super) upstreams: Arc<[SocketAddr]>,
    pub(super) faults: Arc<Faults>,
    pub(super) partition: Partition,
    /// Counts the calls to reset everything that stands.
    pub(super) resets: u64,
    /// Counts the calls to let go of everything that is held.
    pub(super) releases: u64,
}

impl Control {
    pub(super) fn new(upstreams: &[SocketAddr]) -> Self {
        Self {
            upstreams: upstreams.into(),
            faults: Arc::default(),
            partition: Partition::None,
            resets: 0,
            releases: 0,
        }
    }
}

/// What a connection needs to know of its proxy.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    pub(super) control: watch::Receiver<Control>,
    pub(super) tally: Arc<Tally>,
}

impl Orders {
    pub(super) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.control.borrow().faults)
    }

    /// Comes back when all standing connections are to be reset, or the proxy is gone.
    pub(super) async fn reset(&mut self) {
        let before = self.control.borrow().resets;
        // An error says that the proxy was dropped: that ends the connection as well.
        drop(self.control.wait_for(|control| control.resets != before).await);
    }

    /// Comes back when everything that is held is to be let go, or the proxy is gone.
    pub(super) async fn release(&mut self) {
        let before = self.control.borrow().releases;
        drop(self.control.wait_for(|control| control.releases != before).await);
    }
}

/// A source of chance of its own for each direction of each connection, so that what one draws
/// does not depend on how the others are scheduled.
pub(super) fn chance(seed: u64, connection: u64, direction: u64) -> ChaCha8Rng {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    chance.set_stream(connection.wrapping_mul(2).wrapping_add(direction));
    chance
}
