//! Proxies that make the network fail on purpose: one that knows frames for connections to the
//! broker, and a balancer for HTTP in front of a gateway's replicas.

mod balancer;
mod class;
mod control;
mod counts;
mod faults;
mod frames;
mod held;
mod pipe;
#[cfg(test)]
mod tests;

pub use balancer::Balancer;
pub use counts::{Counts, Fault};
pub use faults::{Faults, Partition, Rates};

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::{
    class::Streams,
    control::{CONNECTIONS_MAX, Control, Orders, chance},
    counts::Tally,
    frames::Frames,
    held::Held,
    pipe::{Direction, End, Pipe},
};

/// Stands between one process and the broker, so that this process alone can be cut off. Without
/// faults it passes on what comes, byte by byte. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    control: watch::Sender<Control>,
    tally: Arc<Tally>,
    _stop: DropGuard,
}

impl Proxy {
    /// Listens on a free port of this machine and passes on to the broker at `upstream`, which need
    /// not run yet. The same seed draws the same fate for the same frames of the same connection.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (control, watched) = watch::channel(Control::new(&[upstream]));
        let tally = Arc::<Tally>::default();
        let orders = Orders { control: watched, tally: Arc::clone(&tally) };
        let streams = Arc::new(Streams::of_system());
        let stop = accept(listener, move |client, number| {
            let (orders, streams) = (orders.clone(), Arc::clone(&streams));
            async move { carry(client, number, seed, orders, &streams).await }
        });
        Ok(Self { address, control, tally, _stop: stop.drop_guard() })
    }

    /// Where to connect instead of to the broker.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as clients of NATS like it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Turns these faults on, and others off.
    pub fn set(&self, faults: Faults) {
        self.control.send_modify(|control| control.faults = Arc::new(faults));
    }

    /// Cuts the process off, in this way, until told otherwise.
    pub fn partition(&self, partition: Partition) {
        if partition != Partition::None {
            self.tally.note(Fault::Partitioned);
        }
        self.control.send_modify(|control| {
            control.partition = partition;
            if partition == Partition::HalfOpen {
                control.resets += 1;
            }
        });
    }

    /// Resets every connection that stands.
    pub fn reset(&self) {
        self.control.send_modify(|control| control.resets += 1);
    }

    /// Turns all faults off and heals partitions. What was held back leaves now.
    pub fn calm(&self) {
        self.control.send_modify(|control| {
            control.faults = Arc::default();
            control.partition = Partition::None;
            control.releases += 1;
        });
    }

    /// How many errors were injected so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.tally.read()
    }

    /// How many appends the broker refused, because another one was faster or its writer was a zombie.
    #[must_use]
    pub fn appends_refused(&self) -> u64 {
        self.tally.refused()
    }

    /// Where the broker is from now on. Connections that stand stay.
    pub fn upstream(&self, upstream: SocketAddr) {
        self.control.send_modify(|control| control.upstreams = [upstream].into());
    }
}

/// Accepts until the token that it returns is cancelled, which also ends what was accepted.
fn accept<F>(
    listener: TcpListener,
    carry: impl Fn(TcpStream, u64) -> F + Send + 'static,
) -> CancellationToken
where
    F: Future<Output = ()> + Send + 'static,
{
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let tasks = TaskTracker::new();
    tasks.clone().spawn(stop.clone().run_until_cancelled_owned(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut number = 0;
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok((client, _)) => {
                    let carried = carry(client, number);
                    number += 1;
                    tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
                        carried.await;
                        drop(place);
                    }));
                }
                // Out of descriptors, or a client that was faster gone than here.
                Err(err) => {
                    tracing::debug!(error = %err, "not accepted");
                    tokio::task::yield_now().await;
                }
            }
        }
    }));
    stopped
}

/// Carries one connection to the broker until either side is done with it.
async fn carry(
    mut client: TcpStream,
    number: u64,
    seed: u64,
    mut orders: Orders,
    streams: &Streams,
) {
    // A new connection of a process that is cut off hangs, as it would without a route.
    let is_open = |now: &Control| !matches!(now.partition, Partition::Both | Partition::HalfOpen);
    let Ok(upstream) =
        orders.control.wait_for(is_open).await.map(|now| now.upstreams.first().copied())
    else {
        return;
    };
    let Some(upstream) = upstream else { return };
    let mut broker = match TcpStream::connect(upstream).await {
        Ok(broker) => broker,
        Err(err) => {
            tracing::debug!(%upstream, error = %err, "the broker is away");
            return;
        }
    };
    for stream in [&client, &broker] {
        if let Err(err) = stream.set_nodelay(true) {
            tracing::debug!(error = %err, "small frames may wait");
        }
    }
    let pipe = |direction| Pipe {
        direction,
        orders: orders.clone(),
        chance: chance(seed, number, u64::from(direction == Direction::FromBroker)),
        streams,
        frames: Frames::default(),
        held: Held::default(),
        releases: orders.control.borrow().releases,
    };
    let mut pipes = (pipe(Direction::ToBroker), pipe(Direction::FromBroker));
    let is_reset = tokio::select! {
        end = both(&mut pipes, &mut client, &mut broker) => end == End::Reset,
        () = orders.reset() => {
            orders.tally.note(Fault::ConnectionReset);
            true
        }
    };
    // The broker's side is closed, not reset: a reset could overtake the frame that gets through.
    if is_reset {
        reset(&client);
    }
}

async fn both(
    (to, from): &mut (Pipe<'_>, Pipe<'_>),
    client: &mut TcpStream,
    broker: &mut TcpStream,
) -> End {
    let (client_reads, client_writes) = client.split();
    let (broker_reads, broker_writes) = broker.split();
    let mut to = std::pin::pin!(to.run(client_reads, broker_writes));
    let end = tokio::select! {
        end = &mut to => return end,
        end = from.run(broker_reads, client_writes) => end,
    };
    // A process that died may have sent what is still held back. It arrives, as from a host that
    // was only slow.
    if end == End::ReceiverGone { to.await } else { end }
}

/// What is dropped after this is reset, not closed.
fn reset(stream: &TcpStream) {
    if let Err(err) = stream.set_zero_linger() {
        tracing::debug!(error = %err, "closed instead of reset");
    }
}
