//! `trip` owns the life of a trip: it alone decides and writes what happens to it, finds its driver
//! and fixes its fare. It also serves operations, whose console looks into the log.
//!
//! | | what | where |
//! |---|---|---|
//! | reads | `rider.event.>`: requested rides (lanes) | `consumers.rs` |
//! | reads | `driver.event.>`: accepted and ended offers (lanes) | `consumers.rs` |
//! | reads | `trip.event.>`, `trip.due.>`: its own, as process manager (lanes) | `consumers.rs` |
//! | reads | `trip.event.>`: who looks for a driver (a view) | `dispatch/` |
//! | reads | `trip.event.>`, `driver.event.>` from the first on (a view) | `invariants/` |
//! | writes | `trip.event.>`, `trip.timer.>`: the only writer | `record/`, through the event store |
//! | writes | `driver.command.<p>.<driver>`: offer, release | `driver_commands.rs` |
//! | writes | files: histories of trips that ended long ago, which it then removes from `TRIP` | `archive/` |
//! | asks | `location.query.candidates`: who is near | `dispatch/candidates.rs` |
//! | serves | `trip.command.>`: what phones want of a trip, with an answer | `commands/` |
//! | writes | `replay.<consumer>.<letter>`, `resolution.>`: dead letters sent back or discarded | `replays.rs`, `common::dead_letters` |
//! | serves | HTTP for operations; `live.trip.event.>`, `live.driver.event.>` as SSE | `http/` |

pub mod archive;
pub mod commands;
mod config;
pub mod consumers;
pub mod dispatch;
pub mod domain;
mod driver_commands;
mod http;
mod invariants;
pub mod record;
mod replays;

pub use config::{Config, TermsConfig};

use common::{consumer, event_store::EventStore, nats::Nats, timer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    consumers::Reactions, dispatch::Inspector, invariants::SharedInvariants, record::TripDecider,
};

/// Runs the service until shutdown.
///
/// # Errors
/// When it cannot start, or a part of it fails for good.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = common::http::bind(config.listen).await?;
    serve(config, listener, shutdown).await
}

/// As [`run`], on a listener that is bound already.
///
/// # Errors
/// When it cannot start, or a part of it fails for good.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let nats = Nats::connect_lazily(&config.nats, "trip").await?;
    let store = EventStore::<TripDecider>::new(&nats);
    let reactions = Reactions::new(store.clone(), config.terms.terms());
    let (invariants, inspector) = (SharedInvariants::default(), Inspector::default());
    let (replays, ordered) = replays::replays();
    let gateway = http::Parts {
        nats: nats.clone(),
        store: store.clone(),
        invariants: invariants.clone(),
        inspector: inspector.clone(),
        replays,
        archive: config.archive.archive_dir.clone(),
        shutdown: shutdown.clone(),
    };
    let app = common::http::once_prepared(http::router(&config.auth, gateway)?, nats.clone());
    let behind_the_broker = async {
        if !nats.prepare_once_there(&shutdown).await? {
            return Ok(());
        }
        tokio::try_join!(
            nats.keep_clock(shutdown.clone()),
            commands::run(&nats, store.clone(), shutdown.clone()),
            consumers::run(&nats, reactions, shutdown.clone()),
            consumer::watch_lag(&nats, shutdown.clone()),
            ordered.run(&nats, shutdown.clone()),
            timer::sweep(&nats, store, timer::SWEEP_EVERY, shutdown.clone()),
            dispatch::run(&nats, config.dispatch, inspector, shutdown.clone()),
            invariants::watch(&nats, invariants, shutdown.clone()),
            archive::run(&nats, config.archive, shutdown.clone()),
        )?;
        anyhow::Ok(())
    };
    tokio::try_join!(
        Box::pin(behind_the_broker),
        common::http::serve(listener, app, shutdown.clone()),
    )?;
    Ok(())
}
