//! The connection to the broker: the client, two JetStream contexts and broker time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{
    ConnectOptions, Event,
    jetstream::{
        self, ErrorCode,
        context::{ContextBuilder, PublishError, PublishErrorKind},
    },
};
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{VERSION_MIN, Version},
    clock::{Clock, NotATime, Timestamp, wall_set_by_us},
    consumer::ConsumerConfig,
    metrics,
    stream::{self, ProvisionError},
    subject::Partitions,
};

/// An ack that has not come by then is *unknown*, and the one rule for that applies.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);
/// Making streams and consumers may take the broker longer.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(20);
/// How often broker time is read again.
const CLOCK_EVERY: Duration = Duration::from_secs(5);
/// Pause before a broker that is away is asked again for what a service needs.
const PREPARE_AGAIN: Duration = Duration::from_millis(200);
/// Longest pause between two attempts to connect again.
const RECONNECT_MAX: Duration = Duration::from_millis(500);

/// Where the broker is and how the deployment is partitioned.
#[derive(Debug, Clone, clap::Args)]
pub struct NatsConfig {
    /// Where the broker listens, such as `nats://127.0.0.1:4222`.
    #[arg(long, env = "NATS_URL", default_value = "nats://127.0.0.1:4222")]
    pub nats_url: String,
    /// How many partitions the deployment has; fixed when its streams are made.
    #[arg(long, env = "PARTITIONS", default_value_t)]
    pub partitions: Partitions,
    /// How patient its consumers are.
    #[command(flatten)]
    pub consuming: ConsumerConfig,
}

/// The broker cannot be reached or asked.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// No connection.
    #[error("cannot connect to `{url}`")]
    Connect {
        /// Where.
        url: String,
        /// Why.
        source: async_nats::ConnectError,
    },
    /// The broker lacks what the system is built on, such as message schedules.
    #[error("the broker is nats-server {found}; {VERSION_MIN} or newer is needed")]
    TooOld {
        /// What it says it is.
        found: String,
    },
    /// Nobody answers yet.
    #[error("the broker is away")]
    Away,
    /// The broker did not say what time it is.
    #[error("cannot read the broker's time: {0}")]
    Clock(String),
}

/// A service's access to the broker; cheap to clone.
#[derive(Debug, Clone)]
pub struct Nats {
    /// Core NATS.
    pub client: async_nats::Client,
    /// For publishing and reading, with a short time-out.
    pub jetstream: jetstream::Context,
    /// For making streams and consumers, with a long one.
    pub admin: jetstream::Context,
    /// Broker time.
    pub clock: Clock,
    /// How the deployment is partitioned.
    pub partitions: Partitions,
    /// How patient consumers are.
    pub consuming: ConsumerConfig,
    is_prepared: Arc<AtomicBool>,
    connections: watch::Receiver<u64>,
}

impl Nats {
    /// Connects as `name`. What time the broker has is known once it was asked.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn connect(config: &NatsConfig, name: &str) -> Result<Self, NatsError> {
        Self::connect_with(config, options(name)).await
    }

    /// Connects in the background: for a service that has to work while the broker is away.
    ///
    /// # Errors
    /// When the address makes no sense.
    pub async fn connect_lazily(config: &NatsConfig, name: &str) -> Result<Self, NatsError> {
        Self::connect_with(config, options(name).retry_on_initial_connect()).await
    }

    async fn connect_with(config: &NatsConfig, options: ConnectOptions) -> Result<Self, NatsError> {
        let (connected, connections) = watch::channel(0);
        let client = options
            .event_callback(move |event| {
                note(&event, &connected);
                std::future::ready(())
            })
            .connect(config.nats_url.as_str())
            .await
            .map_err(|source| NatsError::Connect { url: config.nats_url.clone(), source })?;
        let consuming = config.consuming;
        Ok(Self { consuming, connections, ..Self::new(client, config.partitions) })
    }

    /// On a client that is connected already.
    #[must_use]
    pub fn new(client: async_nats::Client, partitions: Partitions) -> Self {
        let context = |timeout| ContextBuilder::new().timeout(timeout).build(client.clone());
        Self {
            jetstream: context(PUBLISH_TIMEOUT),
            admin: context(ADMIN_TIMEOUT),
            clock: Clock::new(),
            consuming: ConsumerConfig::default(),
            partitions,
            client,
            is_prepared: Arc::default(),
            connections: watch::channel(0).1,
        }
    }

    /// Makes the streams and consumers and sets the clock. Every service does this at its start;
    /// doing it twice changes nothing.
    ///
    /// # Errors
    /// When the broker refuses or cannot be asked.
    pub async fn prepare(&self) -> anyhow::Result<()> {
        if !self.is_connected() {
            return Err(NatsError::Away.into());
        }
        let found = self.client.server_info().version;
        if Version::of(&found).is_none_or(|found| found < VERSION_MIN) {
            return Err(NatsError::TooOld { found }.into());
        }
        stream::provision(&self.admin, self.partitions).await?;
        self.read_clock().await?;
        self.is_prepared.store(true, Ordering::Release);
        Ok(())
    }

    /// As [`Self::prepare`], for as long as the broker is away; `false` when told to stop meanwhile.
    ///
    /// # Errors
    /// When the broker is there and is not what the system needs.
    pub async fn prepare_once_there(&self, shutdown: &CancellationToken) -> anyhow::Result<bool> {
        while let Some(Err(err)) = shutdown.run_until_cancelled(self.prepare()).await {
            if is_final(&err) {
                return Err(err);
            }
            let error = format!("{err:#}");
            tracing::warn!(error, "the broker is not prepared yet");
            shutdown.run_until_cancelled(tokio::time::sleep(PREPARE_AGAIN)).await;
        }
        Ok(self.is_prepared())
    }

    /// How often this client was connected, for those who ask anew for what the broker forgot.
    pub(crate) fn connections(&self) -> watch::Receiver<u64> {
        let mut connections = self.connections.clone();
        connections.mark_unchanged();
        connections
    }

    /// Whether streams and consumers are there, and broker time is known.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.is_prepared.load(Ordering::Acquire)
    }

    /// Reads the broker's time once.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn read_clock(&self) -> Result<(), NatsError> {
        #[derive(Deserialize)]
        struct Answer {
            ts: String,
        }
        let failed = |err: &dyn std::fmt::Display| NatsError::Clock(err.to_string());
        let asked = Instant::now();
        // Any answer of the JetStream API that carries the server's time will do.
        let answer = self
            .client
            .request(format!("$JS.API.STREAM.INFO.{}", stream::TRIP), "".into())
            .await
            .map_err(|err| failed(&err))?;
        let round_trip = asked.elapsed();
        let answer: Answer = serde_json::from_slice(&answer.payload).map_err(|err| failed(&err))?;
        let at: Timestamp = answer.ts.parse().map_err(|err: NotATime| failed(&err))?;
        self.clock.observe(at, round_trip);
        Ok(())
    }

    /// Keeps broker time until shutdown. A broker that is away is no reason to stop: the offset
    /// stays what it was.
    ///
    /// # Errors
    /// Never; the signature lets it stand beside a service's other parts in a `try_join!`.
    pub async fn keep_clock(&self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut every = tokio::time::interval(CLOCK_EVERY);
        while shutdown.run_until_cancelled(every.tick()).await.is_some() {
            if let Err(err) = self.read_clock().await {
                tracing::debug!(error = %err, "broker time not read");
            }
            let drift_ms = self.clock.drift().as_secs_f64() * 1e3;
            metrics::HLC_DRIFT_MS.with(&metrics::NO_LABELS).set(drift_ms);
            let offset_ms = millis(self.clock.offset_us());
            metrics::CLOCK_OFFSET_MS.with(&metrics::NO_LABELS).set(offset_ms);
            metrics::CLOCK_SET_MS.with(&metrics::NO_LABELS).set(millis(wall_set_by_us()));
        }
        Ok(())
    }

    /// Whether the connection stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }
}

/// Whether waiting cannot help.
fn is_final(err: &anyhow::Error) -> bool {
    matches!(err.downcast_ref(), Some(ProvisionError::OtherPartitions { .. }))
        || matches!(err.downcast_ref(), Some(NatsError::TooOld { .. }))
}

fn millis(micros: i64) -> f64 {
    let millis = Duration::from_micros(micros.unsigned_abs()).as_secs_f64() * 1e3;
    if micros < 0 { -millis } else { millis }
}

/// Whether a publish was refused because the subject's last sequence is another one than expected.
/// A broker of several nodes has a second code for it, which the client does not know as one.
#[must_use]
pub fn is_wrong_sequence(err: &PublishError) -> bool {
    let code = || {
        let source = std::error::Error::source(err)?;
        Some(source.downcast_ref::<jetstream::Error>()?.error_code())
    };
    err.kind() == PublishErrorKind::WrongLastSequence
        || code() == Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT)
}

fn options(name: &str) -> ConnectOptions {
    ConnectOptions::new().name(name).ping_interval(Duration::from_secs(5)).reconnect_delay_callback(
        |attempts| {
            let exponent = u32::try_from(attempts.min(10)).unwrap_or(10);
            Duration::from_millis(10).saturating_mul(1 << exponent).min(RECONNECT_MAX)
        },
    )
}

fn note(event: &Event, connected: &watch::Sender<u64>) {
    match event {
        Event::Connected => {
            tracing::debug!(%event, "broker connection");
            connected.send_modify(|times| *times += 1);
        }
        Event::Draining | Event::Closed => tracing::debug!(%event, "broker connection"),
        // A forbidden publish looks like a time-out to its caller; only this tells why.
        Event::ServerError(err) => tracing::error!(error = %err, "the broker refused"),
        other => tracing::warn!(event = %other, "broker connection"),
    }
}
