//! A TCP balancer in front of the replicas of a gateway, as deployments have one: it knows nothing
//! of HTTP but that a chunk from a client is a request, or a part of one.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use rand::rngs::ChaCha8Rng;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
};
use tokio_util::{sync::DropGuard, task::TaskTracker};

use common::stream::PINGS;

use super::{
    accept,
    control::{Control, Orders, chance},
    counts::{Counts, Fault, Tally},
    faults::Faults,
    pipe::draw,
    reset,
};

/// How often a replica is asked whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A replica that has not said that it is ready by then is not.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// A replica that has not accepted by then is passed over.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Room that is made for each read.
const READ_BYTES: usize = 16 * 1024;
/// Of an answer to a look, only the status line matters.
const STATUS_LINE_BYTES: u64 = 64;

/// How the first line of a request ends.
const VERSION: &[u8] = b" HTTP/1.1";
/// How a request with positions begins. Rates of [`PINGS`] are meant for these.
const PING_REQUEST: &[u8] = b"POST /v1/driver/locations ";

/// Spreads connections over the replicas of a gateway. Dropping it closes everything.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    control: watch::Sender<Control>,
    tally: Arc<Tally>,
    _stop: DropGuard,
}

/// Chooses the replica of a new connection.
#[derive(Debug, Default)]
struct Turns {
    next: AtomicUsize,
    /// Replicas that said that they are not ready.
    not_ready: Mutex<Vec<SocketAddr>>,
}

impl Turns {
    /// All replicas, the next in turn first, without those that said that they are not ready.
    fn order(&self, replicas: &[SocketAddr]) -> Vec<SocketAddr> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let not_ready = self.not_ready.lock().unwrap_or_else(PoisonError::into_inner);
        let in_turn = replicas.iter().cycle().skip(first % replicas.len().max(1));
        in_turn
            .take(replicas.len())
            .filter(|replica| !not_ready.contains(replica))
            .copied()
            .collect()
    }

    async fn connect(&self, replicas: &[SocketAddr]) -> Option<TcpStream> {
        for replica in self.order(replicas) {
            match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(replica)).await {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err(_)) | Err(_) => tracing::debug!(%replica, "a replica is away"),
            }
        }
        None
    }

    async fn look(&self, path: &str, control: watch::Receiver<Control>) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        loop {
            every.tick().await;
            let replicas = Arc::clone(&control.borrow().upstreams);
            let looks = replicas.iter().map(|replica| async move {
                let look = tokio::time::timeout(LOOK_MAX, is_ready(*replica, path));
                (!matches!(look.await, Ok(Ok(true)))).then_some(*replica)
            });
            let not_ready = futures_util::future::join_all(looks).await;
            let not_ready = not_ready.into_iter().flatten().collect();
            *self.not_ready.lock().unwrap_or_else(PoisonError::into_inner) = not_ready;
        }
    }
}

async fn is_ready(replica: SocketAddr, path: &str) -> io::Result<bool> {
    let mut stream = TcpStream::connect(replica).await?;
    let ask = format!("GET {path} HTTP/1.1\r\nhost: {replica}\r\nconnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(STATUS_LINE_BYTES).read_to_end(&mut answer).await?;
    Ok(answer.split(|byte| *byte == b' ').nth(1) == Some(b"200"))
}

impl Balancer {
    /// Listens on a free port of this machine and passes on to these replicas, which need not run
    /// yet. With a path such as `/readyz`, replicas that do not answer it with 200 are left out.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(
        replicas: &[SocketAddr],
        ready_path: Option<&str>,
        seed: u64,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (control, watched) = watch::channel(Control::new(replicas));
        let (tally, turns) = (Arc::<Tally>::default(), Arc::<Turns>::default());
        let orders = Orders { control: watched.clone(), tally: Arc::clone(&tally) };
        let carrying = Arc::clone(&turns);
        let stop = accept(listener, move |client, number| {
            let (orders, turns) = (orders.clone(), Arc::clone(&carrying));
            async move { carry(client, number, seed, orders, &turns).await }
        });
        if let Some(path) = ready_path.map(ToOwned::to_owned) {
            let look = async move { turns.look(&path, watched).await };
            TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(look));
        }
        Ok(Self { address, control, tally, _stop: stop.drop_guard() })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as HTTP clients like it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Turns these faults on, and others off.
    pub fn set(&self, faults: Faults) {
        self.control.send_modify(|control| control.faults = Arc::new(faults));
    }

    /// Turns all faults off.
    pub fn calm(&self) {
        self.control.send_modify(|control| {
            control.faults = Arc::default();
            control.releases += 1;
        });
    }

    /// Resets every connection that stands.
    pub fn reset(&self) {
        self.control.send_modify(|control| control.resets += 1);
    }

    /// How many errors were injected so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.tally.read()
    }

    /// Where the replicas are from now on. Connections that stand stay.
    pub fn replicas(&self, replicas: &[SocketAddr]) {
        self.control.send_modify(|control| control.upstreams = replicas.into());
    }
}

/// A connection that ended by a fault rather than by its ends.
#[derive(Debug, PartialEq, Eq)]
enum Over {
    Done,
    Reset,
}

async fn carry(mut client: TcpStream, number: u64, seed: u64, mut orders: Orders, turns: &Turns) {
    let mut chances = (chance(seed, number, 0), chance(seed, number, 1));
    let refusal = orders.faults().rates.draw(&[Fault::ConnectionRefused], &mut chances.0);
    if let Some(fault) = refusal {
        orders.tally.note(fault);
        return reset(&client);
    }
    let replicas = Arc::clone(&orders.control.borrow().upstreams);
    let Some(mut replica) = turns.connect(&replicas).await else { return reset(&client) };
    for stream in [&client, &replica] {
        if let Err(err) = stream.set_nodelay(true) {
            tracing::debug!(error = %err, "small writes may wait");
        }
    }
    let (client_reads, client_writes) = client.split();
    let (replica_reads, replica_writes) = replica.split();
    let asked = Asked::default();
    let over = tokio::select! {
        over = requests(client_reads, replica_writes, orders.clone(), &mut chances.0, &asked) => over,
        over = answers(replica_reads, client_writes, orders.clone(), &mut chances.1, &asked) => over,
        () = orders.reset() => {
            orders.tally.note(Fault::AnswerReset);
            Over::Reset
        }
    };
    if over == Over::Reset {
        reset(&client);
        reset(&replica);
    }
}

/// What the last request on a connection was.
#[derive(Debug, Default)]
struct Asked {
    is_ping: AtomicBool,
}

impl Asked {
    /// A chunk that is the rest of a request belongs to what came before it.
    fn note(&self, chunk: &[u8]) {
        let begins = chunk.iter().position(|byte| *byte == b'\n');
        let line = chunk.get(..begins.unwrap_or(0)).unwrap_or_default();
        if line.windows(VERSION.len()).any(|window| window == VERSION) {
            self.is_ping.store(line.starts_with(PING_REQUEST), Ordering::Relaxed);
        }
    }

    /// As rates name it.
    fn owner(&self) -> Option<&'static str> {
        self.is_ping.load(Ordering::Relaxed).then_some(PINGS)
    }
}

async fn requests(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut orders: Orders,
    chance: &mut ChaCha8Rng,
    asked: &Asked,
) -> Over {
    const FAULTS: [Fault; 2] = [Fault::RequestReset, Fault::RequestDelayed];
    let mut chunk = BytesMut::new();
    loop {
        chunk.clear();
        chunk.reserve(READ_BYTES);
        if !matches!(from.read_buf(&mut chunk).await, Ok(1..)) {
            // The client is done sending; the answer to what it sent may still come.
            return match to.shutdown().await {
                Ok(()) => std::future::pending().await,
                Err(_) => Over::Done,
            };
        }
        asked.note(&chunk);
        let faults = orders.faults();
        if let Some(fault) = faults.rates(asked.owner()).draw(&FAULTS, chance) {
            orders.tally.note(fault);
            if fault == Fault::RequestReset {
                return Over::Reset;
            }
            let span = draw(&faults.request_delay, chance);
            tokio::select! {
                () = tokio::time::sleep(span) => (),
                () = orders.release() => (),
            }
        }
        if to.write_all(&chunk).await.is_err() {
            return Over::Done;
        }
    }
}

async fn answers(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut orders: Orders,
    chance: &mut ChaCha8Rng,
    asked: &Asked,
) -> Over {
    const FAULTS: [Fault; 2] = [Fault::AnswerReset, Fault::AnswerStalled];
    let mut chunk = BytesMut::new();
    loop {
        chunk.clear();
        chunk.reserve(READ_BYTES);
        if !matches!(from.read_buf(&mut chunk).await, Ok(1..)) {
            return Over::Done;
        }
        let faults = orders.faults();
        match faults.rates(asked.owner()).draw(&FAULTS, chance) {
            Some(Fault::AnswerReset) => {
                orders.tally.note(Fault::AnswerReset);
                // Half an answer: the request was carried out, and its sender cannot know.
                let half = chunk.len() / 2;
                return match to.write_all(&chunk.split_to(half)).await {
                    Ok(()) => Over::Reset,
                    Err(_) => Over::Done,
                };
            }
            Some(fault) => {
                orders.tally.note(fault);
                let span = draw(&faults.stall, chance);
                tokio::select! {
                    () = tokio::time::sleep(span) => (),
                    () = orders.release() => (),
                }
            }
            None => (),
        }
        if to.write_all(&chunk).await.is_err() {
            return Over::Done;
        }
    }
}
