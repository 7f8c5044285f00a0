//! `driver` owns a driver's duty and engagement, and is the gateway for drivers' phones.
//!
//! | | what | where |
//! |---|---|---|
//! | reads | `driver.command.>`: steps of the saga, and silences (lanes) | `consumers.rs` |
//! | reads | `driver.due.>`: its own timers (lanes) | `consumers.rs` |
//! | reads | `trip.event.>`: completed rides (a view) | `earnings.rs` |
//! | writes | `driver.event.>`, `driver.timer.>`: the only writer | `record/`, through the event store |
//! | removes | its own events that are old, but for each driver's last one | `trimmer.rs` |
//! | writes | `ping.<p>`: frames of pings | `gather.rs` |
//! | asks | `trip.command.<p>.<trip>`: a driver's steps on a trip | `http/trips.rs` |
//! | asks | `location.query.driver`: what is heard of a phone | `location.rs` |
//! | serves | HTTP for drivers' phones; `live.driver.event.>`, `live.trip.event.>` as SSE | `http/` |

mod config;
pub mod consumers;
pub mod domain;
mod earnings;
mod gather;
mod http;
mod location;
pub mod record;
mod trimmer;

use std::sync::Arc;

use common::{
    auth::{Issuer, Verifier},
    event_store::EventStore,
    nats::Nats,
    room::Room,
    trips::Trips,
    view::CaughtUp,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use crate::{
    config::{Config, GatherConfig},
    gather::{Gatherer, NotStored},
    trimmer::{TrimConfig, trim},
};
use crate::{earnings::Earnings, http::Gateway, record::DriverDecider};

/// The service, as it names itself to the broker.
const NAME: &str = "driver";

/// Runs the service until shutdown.
///
/// # Errors
/// When it cannot start, or a part of it fails for good.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = common::http::bind(config.listen).await?;
    Box::pin(serve(config, listener, shutdown)).await
}

/// As [`run`], on a listener that is bound already.
///
/// # Errors
/// As [`run`].
pub async fn serve(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let nats = Nats::connect_lazily(&config.nats, NAME).await?;
    let drivers = EventStore::<DriverDecider>::new(&nats);
    let gatherer = Arc::new(Gatherer::new(&nats, config.gathering));
    let (earnings, caught_up) = (Earnings::default(), CaughtUp::default());
    let room = Room::new(config.room);
    let gateway = Gateway::new(http::Parts {
        drivers: drivers.clone(),
        trips: Trips::new(&nats),
        gatherer: Arc::clone(&gatherer),
        room: room.clone(),
        earnings: earnings.clone(),
        verifier: Verifier::new(&config.auth, nats.clock.clone())?,
        shutdown: shutdown.clone(),
        nats: nats.clone(),
    });
    let issuer = Issuer::from_config(&config.auth, &nats.clock)?;
    let app = http::router(gateway, issuer, caught_up.clone());
    let app = common::http::once_prepared(app, nats.clone());
    tracing::info!(address = %listener.local_addr()?, "driver gateway listens");
    // Requests in hand wait for their pings to be stored, so the gatherer stops after them.
    let no_more_requests = CancellationToken::new();
    let gateway = async {
        let served = common::http::serve(listener, app, shutdown.clone()).await;
        no_more_requests.cancel();
        served
    };
    let behind_the_broker = async {
        if !nats.prepare_once_there(&shutdown).await? {
            return Ok(());
        }
        tokio::try_join!(
            consumers::run(&nats, &drivers, shutdown.clone()),
            earnings.follow(&nats, &caught_up, shutdown.clone()),
            nats.keep_clock(shutdown.clone()),
            room.watch(&nats, shutdown.clone()),
            trimmer::run(&nats, config.trimming, shutdown.clone()),
        )?;
        anyhow::Ok(())
    };
    tokio::try_join!(
        Box::pin(gateway),
        gatherer.run(no_more_requests.clone()),
        Box::pin(behind_the_broker),
    )?;
    Ok(())
}
