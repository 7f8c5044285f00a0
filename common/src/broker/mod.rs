//! How this system comes by a NATS broker: one that runs already (`NATS_URL`), or a private
//! `nats-server` found or provisioned here and run as a supervised child.
//! Streams and consumers are not declared here; a broker starts empty or with its own store.

mod child;
mod config;
mod environment;
mod error;
mod find;
mod provision;
mod store;

pub use child::Broker;
pub use config::Fsync;
pub use environment::Environment;
pub use error::BrokerError;
pub use find::{VERSION_MIN, Version};
pub use provision::VERSION as VERSION_PROVISIONED;

use std::path::PathBuf;

/// What a private broker is started with.
#[derive(Debug, Clone)]
pub struct Options {
    pub environment: Environment,
    pub server_name: String,
    /// Where its streams live across starts; without one, a directory that ends with the broker.
    pub store: Option<PathBuf>,
    pub fsync: Fsync,
    /// JetStream's limit on the disk; without one, what is free now less a reserve.
    pub max_file_bytes: Option<u64>,
    /// A limit of the account that everybody uses, which [`Broker::limit_account`] changes.
    pub account_max_file_bytes: Option<u64>,
}

impl Options {
    pub fn new(environment: Environment) -> Self {
        Self {
            environment,
            server_name: "ride-dispatch".to_owned(),
            store: None,
            fsync: Fsync::BeforeAck,
            max_file_bytes: None,
            account_max_file_bytes: None,
        }
    }
}

/// A broker to connect to, and its process where it is ours to stop.
#[derive(Debug)]
pub struct Acquired {
    pub url: String,
    pub child: Option<Broker>,
}

/// The broker that `NATS_URL` names, or else a private one.
pub async fn acquire(options: Options) -> Result<Acquired, BrokerError> {
    if let Some(url) = options.environment.nats_url {
        return Ok(Acquired { url, child: None });
    }
    let broker = Broker::start(options).await?;
    Ok(Acquired { url: broker.url().to_owned(), child: Some(broker) })
}
