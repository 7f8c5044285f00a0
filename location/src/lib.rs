//! `location` owns where drivers are, now: the index of their positions, the roads, travel times,
//! candidates for a pickup, and how scarce cars are. It keeps nothing that the log does not have:
//! a cold start reads it back in seconds.
//!
//! | | what | where |
//! |---|---|---|
//! | reads | `ping.<p>` (one owner, a window in flight) | `pings.rs` |
//! | reads | `driver.event.>`, `trip.event.>` (views) | `views.rs` |
//! | writes | `driver.command.<p>.<driver>`: mark lost | `losses.rs` |
//! | writes | `location.counted.<p>`: what was counted | `checkpoint.rs` |
//! | writes | `location.frame`: the moving map, not stored | `moving_map.rs` |
//! | serves | `location.query.{candidates,route,supply,driver,counts}` | `queries.rs` |
//! | serves | HTTP: the roads to draw a map with | `http.rs` |

mod checkpoint;
mod city;
mod config;
pub mod domain;
mod http;
pub mod index;
pub mod losses;
mod moving_map;
mod pings;
mod queries;
pub mod roads;
mod tally;
pub mod views;

use std::{sync::Arc, time::Duration};

use common::{nats::Nats, view::CaughtUp};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::{Config, PingConfig, SilenceConfig};

use city::City;
use roads::RoadGraph;

/// How long the last counts may take to be stored when the service stops.
const LAST_CHECKPOINT: Duration = Duration::from_secs(3);

/// Runs the service until shutdown.
///
/// # Errors
/// When it cannot start, or a part of it cannot go on.
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
    let nats = Nats::connect_lazily(&config.nats, "location").await?;
    let city = Arc::new(city(&config, &nats)?);
    tracing::info!("location serves on {}", listener.local_addr()?);
    let drivers = CaughtUp::default();
    let http =
        http::run(listener, nats.clone(), Arc::clone(&city), drivers.clone(), shutdown.clone());
    let behind_the_broker = async {
        if !nats.prepare_once_there(&shutdown).await? {
            return Ok(());
        }
        Box::pin(behind_the_broker(&config, &nats, &city, &drivers, &shutdown)).await
    };
    tokio::try_join!(http, Box::pin(behind_the_broker))?;
    Ok(())
}

/// All that needs the broker.
async fn behind_the_broker(
    config: &Config,
    nats: &Nats,
    city: &Arc<City>,
    drivers: &CaughtUp,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let stop = || shutdown.clone();
    // An interval of nothing would be a panic.
    let surge_every = Duration::from_millis(config.surge_every_ms.max(1));
    let known_since = nats.clock.now();
    let read = async {
        match shutdown.run_until_cancelled(checkpoint::restore(nats, city)).await {
            Some(restored) => restored?,
            None => return Ok(()),
        }
        tokio::try_join!(pings::run(nats, city, stop()), checkpoint::run(nats, city, stop()),)?;
        store_last_counts(nats, city).await;
        anyhow::Ok(())
    };
    // Questions are taken when they can be answered, and losses told when they can be known.
    let act = async {
        let ready = async { tokio::join!(city.replayed(), drivers.wait()) };
        if shutdown.run_until_cancelled(ready).await.is_none() {
            return Ok(());
        }
        tokio::try_join!(
            queries::run(nats, city, config.candidate_radius_m, stop()),
            losses::run(nats, city, known_since, stop()),
            moving_map::run(nats, city, stop()),
        )?;
        anyhow::Ok(())
    };
    tokio::try_join!(
        read,
        act,
        views::follow_drivers(nats, city, drivers, stop()),
        views::follow_demand(nats, city, surge_every, stop()),
        nats.keep_clock(stop()),
    )?;
    Ok(())
}

fn city(config: &Config, nats: &Nats) -> anyhow::Result<City> {
    let roads = match &config.roads {
        Some(file) => RoadGraph::open(file)?,
        None => RoadGraph::gothenburg()?,
    };
    let roads = roads.with_speed(config.speed_factor);
    let rules = config.pings.rules(&config.silence);
    Ok(City::new(nats.partitions, roads, rules, config.silence.patience()))
}

async fn store_last_counts(nats: &Nats, city: &City) {
    let mut stored = checkpoint::Stored::new();
    let storing = checkpoint::store(nats, city, &mut stored);
    if tokio::time::timeout(LAST_CHECKPOINT, storing).await.is_err() {
        tracing::warn!("the last counts were not stored; they are counted again at the next start");
    }
}
