//! A private `nats-server` as a supervised child: started on free loopback ports, stopped in
//! order, killed and restarted on the same ports and store by those who test recovery.

use super::config::{Ports, ServerConfig, room_bytes};
use super::error::BrokerError;
use super::store::Store;
use super::{Options, find};
use crate::leash::Leash;
use serde::Deserialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// A store with millions of messages takes seconds to recover.
const START_DEADLINE: Duration = Duration::from_secs(30);
const START_PAUSE: Duration = Duration::from_millis(10);
/// After SIGTERM the server writes out what it has; then it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// A killed process is gone within milliseconds.
const REAP_DEADLINE: Duration = Duration::from_secs(1);
const REAP_PAUSE: Duration = Duration::from_millis(1);
/// The greeting of a server is one line of about 500 bytes.
const GREETING_MAX_BYTES: u64 = 64 << 10;

/// Killed when dropped; `stop` ends it in order.
#[derive(Debug)]
pub struct Broker {
    server: PathBuf,
    config: ServerConfig,
    /// As the running server's configuration has them.
    launched_on: Ports,
    url: String,
    monitor_url: String,
    running: Option<Running>,
    /// After `running`: the folder may only go once nobody writes in it.
    store: Store,
}

impl Broker {
    /// Finds or provisions a server, starts it and waits until JetStream answers.
    pub async fn start(options: Options) -> Result<Self, BrokerError> {
        let (server, store, config) = spawn_blocking(move || prepare(options))
            .await
            .map_err(|err| BrokerError::io("prepare", Path::new("nats-server"))(err.into()))??;
        let (running, addresses) = launch(&server, &store, &config).await?;
        let mut broker = Self {
            server,
            config,
            launched_on: Ports::default(),
            url: String::new(),
            monitor_url: String::new(),
            running: Some(running),
            store,
        };
        broker.settle(addresses);
        tracing::info!("nats-server listens on {}", broker.url);
        Ok(broker)
    }

    /// For clients, `nats://127.0.0.1:<port>`. The same after a restart.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its monitoring endpoint, `http://127.0.0.1:<port>`.
    pub fn monitor_url(&self) -> &str {
        &self.monitor_url
    }

    /// The server's own process; none between `kill` and `restart`.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().and_then(|running| running.child.id())
    }

    /// What it may store.
    pub fn max_file_bytes(&self) -> u64 {
        self.config.max_file_bytes
    }

    /// Writes down what the account may store from now on, for a broker that was started with such a
    /// limit. It takes that over when it is told to read its configuration again (SIGHUP), or at its
    /// next start.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn limit_account(&mut self, bytes: u64) -> Result<(), BrokerError> {
        self.config.account_max_file_bytes = Some(bytes);
        // While it runs it takes over no other ports, not even those that it has.
        let ports = std::mem::replace(&mut self.config.ports, self.launched_on);
        let config = self.config.render(&self.store);
        self.config.ports = ports;
        self.store.write_config(&config).map(drop)
    }

    pub fn store(&self) -> &Path {
        self.store.folder()
    }

    /// Waits for an end that nobody asked for.
    pub async fn exited(&mut self) -> Result<ExitStatus, BrokerError> {
        let store = self.store.folder();
        let Some(running) = &mut self.running else {
            return Err(BrokerError::NotRunning { store: store.to_owned() });
        };
        let status =
            running.child.wait().await.map_err(BrokerError::io("wait for", &self.server))?;
        self.running = None;
        Ok(status)
    }

    /// Ends it in order, or by force where it does not end within the deadline.
    pub async fn stop(mut self) -> Result<ExitStatus, BrokerError> {
        let store = self.store.folder();
        let Some(running) = self.running.take() else {
            return Err(BrokerError::NotRunning { store: store.to_owned() });
        };
        running.stop().await.map_err(BrokerError::io("stop", &self.server))
    }

    /// `kill -9`, as a crash would be. What was acknowledged is in the store.
    pub async fn kill(&mut self) -> Result<(), BrokerError> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.child.kill().await.map_err(BrokerError::io("kill", &self.server))
    }

    /// Starts it again on the same ports and store, after killing it if it still runs.
    pub async fn restart(&mut self) -> Result<(), BrokerError> {
        self.kill().await?;
        let (running, addresses) = launch(&self.server, &self.store, &self.config).await?;
        self.launched_on = self.config.ports;
        self.running = Some(running);
        self.settle(addresses);
        Ok(())
    }

    /// Ends it in order and starts it again on the same ports and store.
    pub async fn restart_in_order(&mut self) -> Result<(), BrokerError> {
        if let Some(running) = self.running.take() {
            running.stop().await.map_err(BrokerError::io("stop", &self.server))?;
        }
        self.restart().await
    }

    fn settle(&mut self, addresses: Addresses) {
        self.config.ports = addresses.ports();
        self.url = addresses.client;
        self.monitor_url = addresses.monitor;
    }
}

fn prepare(options: Options) -> Result<(PathBuf, Store, ServerConfig), BrokerError> {
    let server = find::server(&options.environment)?;
    let store = Store::open(options.store)?;
    let max_file_bytes = match options.max_file_bytes {
        Some(bytes) => bytes,
        None => room_bytes(store.folder(), store.held_bytes()?)?,
    };
    let config = ServerConfig {
        server_name: options.server_name,
        fsync: options.fsync,
        max_file_bytes,
        account_max_file_bytes: options.account_max_file_bytes,
        ports: Ports::default(),
    };
    Ok((server, store, config))
}

async fn launch(
    server: &Path,
    store: &Store,
    config: &ServerConfig,
) -> Result<(Running, Addresses), BrokerError> {
    let config = store.prepare(&config.render(store))?;
    let (mut command, leash) = Leash::command(server).map_err(BrokerError::io("start", server))?;
    command
        .arg("-c")
        .arg(config)
        .stdout(Stdio::null())
        .stderr(store.log_output()?)
        .kill_on_drop(true);
    let child = command.spawn().map_err(BrokerError::io("start", server))?;
    let mut running = Running { child, leash: Some(leash) };
    match timeout(START_DEADLINE, running.ready(&store.ports())).await {
        Ok(Ok(Ready::Listening(addresses))) => Ok((running, addresses)),
        Ok(Ok(Ready::Ended(status))) => Err(BrokerError::Ended { status, log: store.log_tail() }),
        Ok(Err(err)) => Err(BrokerError::io("start", server)(err)),
        Err(_) => Err(BrokerError::NotReady { waited: START_DEADLINE, log: store.log_tail() }),
    }
}

#[derive(Debug)]
struct Running {
    child: Child,
    leash: Option<Leash>,
}

enum Ready {
    Listening(Addresses),
    Ended(ExitStatus),
}

impl Running {
    async fn ready(&mut self, ports: &Path) -> io::Result<Ready> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Ready::Ended(status));
            }
            if let Some(addresses) = Addresses::read(ports)
                && addresses.has_jetstream().await
            {
                return Ok(Ready::Listening(addresses));
            }
            sleep(START_PAUSE).await;
        }
    }

    async fn stop(mut self) -> io::Result<ExitStatus> {
        drop(self.leash.take());
        #[cfg(not(unix))]
        self.child.start_kill()?;
        if let Ok(ended) = timeout(STOP_DEADLINE, self.child.wait()).await {
            return ended;
        }
        tracing::warn!("nats-server did not stop within {STOP_DEADLINE:?}: killed");
        self.child.kill().await?;
        self.child.wait().await
    }
}

impl Drop for Running {
    /// Waits for the kill to take effect, because what is dropped next is the folder in which the
    /// server writes.
    fn drop(&mut self) {
        if let Err(err) = self.child.start_kill() {
            tracing::debug!("nats-server could not be killed: {err}");
        }
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && asked.elapsed() < REAP_DEADLINE {
            thread::sleep(REAP_PAUSE);
        }
        if let Some(leash) = self.leash.take() {
            leash.release();
        }
    }
}

/// Where the server listens, as its ports file says.
#[derive(Debug)]
struct Addresses {
    client: String,
    monitor: String,
}

#[derive(Deserialize)]
struct PortsFile {
    nats: Vec<String>,
    monitoring: Vec<String>,
}

#[derive(Deserialize)]
struct Greeting {
    #[serde(default)]
    jetstream: bool,
}

impl Addresses {
    /// None while the file is missing or half written.
    fn read(ports: &Path) -> Option<Self> {
        let mut files = fs::read_dir(ports).ok()?.flatten().map(|entry| entry.path());
        let file = files.find(|file| file.extension().is_some_and(|end| end == "ports"))?;
        let ports: PortsFile = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        Some(Self {
            client: ports.nats.into_iter().next()?,
            monitor: ports.monitoring.into_iter().next()?,
        })
    }

    fn ports(&self) -> Ports {
        Ports { client: port(&self.client), monitor: port(&self.monitor) }
    }

    /// The server greets each connection with `INFO {…}`, once its streams are recovered.
    async fn has_jetstream(&self) -> bool {
        let Some(port) = port(&self.client) else { return false };
        let Ok(connection) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
        let mut line = String::new();
        let read = BufReader::new(connection.take(GREETING_MAX_BYTES)).read_line(&mut line).await;
        read.is_ok()
            && line
                .strip_prefix("INFO ")
                .and_then(|greeting| serde_json::from_str::<Greeting>(greeting).ok())
                .is_some_and(|greeting| greeting.jetstream)
    }
}

fn port(url: &str) -> Option<u16> {
    url.rsplit(':').next()?.parse().ok()
}
