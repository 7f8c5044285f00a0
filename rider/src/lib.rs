//! `rider` owns what riders ask for and what they pay: quotes, ride requests and the ledger.
//!
//! | | what | where |
//! |---|---|---|
//! | reads | `trip.event.>` into its view of trips | `view.rs` |
//! | reads | `trip.event.>` for what ended trips cost (a worker) | `payments/` |
//! | reads | `cron.due.reconciliation.>`: at night, missed fares and the ledger beside the log | `reconciliation/` |
//! | writes | `rider.event.<p>.<rider>`, through the outbox: the only writer | `relay.rs`, `publisher.rs`, `leases.rs` |
//! | writes | its own store: requests, outbox, ledger, view | `store/` |
//! | asks | `location.query.{supply,route,driver}` | `location.rs` |
//! | asks | `trip.command.<p>.<trip>`: cancel, rate | `http/endings.rs` |
//! | serves | HTTP for riders' phones; `live.trip.event.>` as SSE | `http/` |

pub mod backlog;
mod config;
pub mod domain;
pub mod fare;
mod http;
pub mod leases;
mod location;
pub mod orders;
pub mod payments;
pub mod publisher;
pub mod reconciliation;
pub mod relay;
pub mod store;
mod view;
pub mod wire;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use common::{
    auth::{Issuer, Verifier},
    breaker::Breaker,
    nats::Nats,
    room::Room,
    trips::Trips,
    view::CaughtUp,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::config::{Config, NightlyConfig};
use self::{
    backlog::Backlog,
    fare::FareSigner,
    http::Gateway,
    leases::Leases,
    location::Location,
    payments::{Payments, provider::HttpProvider},
    reconciliation::Nightly,
    relay::{Bell, Relay},
    store::{Alone, Place, Store},
};

/// Pause before a broker that is away is asked again for its time.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// Pause before a database that is away is asked again.
const OPEN_AGAIN: Duration = Duration::from_millis(500);

/// Runs the service until shutdown.
///
/// # Errors
/// When a part fails that the service cannot go on without.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = common::http::bind(config.listen).await?;
    Box::pin(serve(config, listener, shutdown)).await
}

/// As [`run`], on a listener that is bound already.
///
/// # Errors
/// When a part fails that the service cannot go on without.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Some(_alone) = alone(&config.store, &shutdown).await? else { return Ok(()) };
    // Rides are accepted while the broker is away, at the start as well.
    let nats = match Nats::connect(&config.nats, "rider").await {
        Ok(nats) => nats,
        Err(err) => {
            tracing::warn!(error = %err, "starting without the broker");
            Nats::connect_lazily(&config.nats, "rider").await?
        }
    };
    let Some(store) = open_store(&config.store, &shutdown).await? else { return Ok(()) };
    let (bell, caught_up) = (Bell::default(), CaughtUp::default());
    let backlog = Backlog::new(config.outbox_max);
    let room = Room::new(config.room);
    let gateway = Gateway {
        room: room.clone(),
        nats: nats.clone(),
        store: store.clone(),
        bell: bell.clone(),
        backlog: backlog.clone(),
        verifier: Verifier::new(&config.auth, nats.clock.clone())?,
        fares: Arc::new(FareSigner::new(config.fare_secret.as_bytes())?),
        tariff: Arc::new(config.tariff.clone()),
        trips: Trips::new(&nats),
        location: Location::new(nats.clone()),
        shutdown: shutdown.clone(),
    };
    let issuer = Issuer::from_config(&config.auth, &nats.clock)?;
    let app = http::router(gateway, issuer, caught_up.clone());
    let address = listener.local_addr()?;
    tracing::info!(%address, "rider is listening");
    let served = tokio::try_join!(
        common::http::serve(listener, app, shutdown.clone()),
        backlog.keep(&store, shutdown.clone()),
        store.keep_trying(shutdown.clone()),
        room.watch(&nats, shutdown.clone()),
        Box::pin(behind_the_broker(&config, nats.clone(), &store, bell, &caught_up, shutdown)),
    );
    // What was accepted is written before the process may end.
    store.close().await;
    served.map(|_| ())
}

/// A file is one process's alone; `None` when told to stop before it was free.
async fn alone(
    place: &Place,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Option<Alone>>> {
    match place {
        Place::File(path) => Ok(store::alone(path, shutdown).await?.map(Some)),
        Place::Postgres(_) => Ok(Some(None)),
    }
}

/// Waits for a database that is away, or a disk that is full; `None` when told to stop meanwhile.
async fn open_store(place: &Place, shutdown: &CancellationToken) -> anyhow::Result<Option<Store>> {
    loop {
        let opening = shutdown.run_until_cancelled(Store::open(place)).await;
        match opening {
            None => return Ok(None),
            Some(Ok(store)) => return Ok(Some(store)),
            Some(Err(err)) if err.is_outage() => {
                let error = format!("{:#}", anyhow::Error::from(err));
                tracing::warn!(error, "the store `{place}` is not there yet");
            }
            Some(Err(err)) => {
                return Err(err).with_context(|| format!("the store `{place}`"));
            }
        }
        shutdown.run_until_cancelled(tokio::time::sleep(OPEN_AGAIN)).await;
    }
}

/// All that needs the broker. Each part waits for what it needs by itself, so that none of them waits
/// for a stream that only another one uses.
async fn behind_the_broker(
    config: &Config,
    nats: Nats,
    store: &Store,
    bell: Bell,
    caught_up: &CaughtUp,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let timeout = Duration::from_millis(config.payments_timeout_ms);
    let provider = HttpProvider::new(&config.payments_url, timeout);
    let breaker = Breaker::new("payments", config.breaker);
    let payments = Payments::new(nats.clone(), store.clone(), bell.clone(), provider, breaker);
    let payments = Arc::new(payments);
    let nightly = Nightly {
        nats: nats.clone(),
        store: store.clone(),
        payments: Arc::clone(&payments),
        config: config.nightly.clone(),
    };
    let leases = Leases::new(store);
    let relay = Relay::new(&nats, store.clone(), bell.clone(), leases.clone());
    tokio::try_join!(
        async { nats.prepare_once_there(&shutdown).await.map(drop) },
        nats.keep_clock(shutdown.clone()),
        view::run(&nats, store, caught_up, shutdown.clone()),
        async {
            // What goes to others carries broker time, and this machine's clock may be wrong.
            if shutdown.run_until_cancelled(learn_the_time(&nats)).await.is_none() {
                return Ok(());
            }
            tokio::try_join!(
                leases.keep(store, &nats, &bell, shutdown.clone()),
                relay.run(shutdown.clone()),
                payments.run(shutdown.clone()),
                Box::pin(nightly.run(shutdown.clone())),
            )?;
            Ok(())
        },
    )?;
    Ok(())
}

/// Returns once the broker has said what time it is.
async fn learn_the_time(nats: &Nats) {
    while let Err(err) = nats.read_clock().await {
        tracing::debug!(error = %err, "broker time not known yet");
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
