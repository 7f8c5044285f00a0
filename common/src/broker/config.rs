//! The configuration file of a private broker: loopback only, limits below the free disk,
//! every acknowledged write on the disk unless a benchmark asks for the broker's own default.

use super::error::BrokerError;
use super::store::Store;
use std::fmt;
use std::path::Path;

/// Above the largest frame of pings, far below what would stall a connection.
const PAYLOAD_MAX_BYTES: u64 = 1 << 20;
/// The system keeps all streams in files; this only bounds a mistake.
const MEMORY_MAX_BYTES: u64 = 256 << 20;
/// One part in so many of the free disk is left to the machine, and at least a GiB.
const DISK_RESERVE_DIVISOR: u64 = 10;
const DISK_RESERVE_MIN_BYTES: u64 = 1 << 30;
/// With less than this, streams would refuse writes within minutes of the start.
const ROOM_MIN_BYTES: u64 = 256 << 20;

/// When a write is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fsync {
    /// Before it is acknowledged.
    #[default]
    BeforeAck,
    /// Within two minutes, as the broker does if it is not told otherwise: faster, and a crash of
    /// the machine loses what was acknowledged meanwhile. For measuring the price of `BeforeAck`.
    BrokerDefault,
}

#[derive(Debug)]
pub(super) struct ServerConfig {
    pub(super) server_name: String,
    pub(super) fsync: Fsync,
    pub(super) max_file_bytes: u64,
    pub(super) account_max_file_bytes: Option<u64>,
    pub(super) ports: Ports,
}

/// The ports to listen on; the server chooses those that are not given.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ports {
    pub(super) client: Option<u16>,
    pub(super) monitor: Option<u16>,
}

impl ServerConfig {
    pub(super) fn render(&self, store: &Store) -> String {
        let sync = match self.fsync {
            Fsync::BeforeAck => "sync_interval: always",
            Fsync::BrokerDefault => "# sync_interval: the broker's default",
        };
        format!(
            "server_name: {name}\n\
             listen: \"127.0.0.1:{client}\"\n\
             http: \"127.0.0.1:{monitor}\"\n\
             ports_file_dir: {ports}\n\
             max_payload: {PAYLOAD_MAX_BYTES}\n\
             jetstream {{\n  \
               store_dir: {streams}\n  \
               max_mem: {MEMORY_MAX_BYTES}\n  \
               max_file: {max_file}\n  \
               {sync}\n\
             }}\n\
             {account}",
            name = Quoted(&self.server_name),
            client = Port(self.ports.client),
            monitor = Port(self.ports.monitor),
            ports = Quoted(&store.ports().to_string_lossy()),
            streams = Quoted(&store.streams().to_string_lossy()),
            max_file = self.max_file_bytes,
            account = self.account(),
        )
    }

    /// An account of its own for whoever connects, so that it has a limit of its own: the broker
    /// takes over another one while it runs.
    fn account(&self) -> String {
        let Some(max_file) = self.account_max_file_bytes else { return String::new() };
        format!(
            "accounts {{ RIDES {{\n  \
               jetstream: {{ max_mem: {MEMORY_MAX_BYTES}, max_file: {max_file} }}\n  \
               users: [ {{ user: rides, password: rides }} ]\n\
             }} }}\n\
             no_auth_user: rides\n"
        )
    }
}

/// What JetStream may use of the disk: what it holds already and what is free, less the reserve.
pub(super) fn room_bytes(store: &Path, held_bytes: u64) -> Result<u64, BrokerError> {
    let free_bytes =
        fs4::available_space(store).map_err(BrokerError::io("measure the disk of", store))?;
    let reserve = (free_bytes / DISK_RESERVE_DIVISOR).max(DISK_RESERVE_MIN_BYTES);
    let room = held_bytes.saturating_add(free_bytes).saturating_sub(reserve);
    if room < ROOM_MIN_BYTES {
        return Err(BrokerError::NoRoom { store: store.to_owned(), free_bytes });
    }
    Ok(room)
}

struct Port(Option<u16>);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(port) => write!(f, "{port}"),
            // Any free one, which the server then writes to its ports file.
            None => f.write_str("-1"),
        }
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}
