//! The people of a city and when they come: drivers begin their shifts, riders follow the demand,
//! the crowd only drives about.

use std::{sync::Arc, time::Duration};

use rand::{SeedableRng, rngs::ChaCha8Rng};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{CityConfig, Demand, Profile, Rate, crowd, driver::Driver, rider, town::Town};
use crate::{
    client::GaveUp,
    pings::{Probe, Probed, fleet},
    report::Latencies,
};

/// Rides that may be open at once; who comes then goes on foot.
const RIDES_OPEN_MAX: usize = 20_000;
/// Between two drivers who begin their shift.
const SHIFT_STAGGER: Duration = Duration::from_millis(5);
/// Demand begins when so many of the drivers are online, or after a while.
const DRIVERS_FIRST: f64 = 0.5;
const DRIVERS_WITHIN: Duration = Duration::from_secs(30);

/// Drivers and riders, until nobody wants a ride any more.
pub(super) async fn live(
    config: &CityConfig,
    town: &Arc<Town>,
    profile: Profile,
    shutdown: &CancellationToken,
) -> Result<f64, GaveUp> {
    let started = Instant::now();
    let mut drivers = JoinSet::new();
    for number in 0..config.on_shift {
        let driver = Driver::new(town, number);
        let stagger = SHIFT_STAGGER * u32::try_from(number).unwrap_or(u32::MAX);
        drivers.spawn(async move {
            tokio::time::sleep(stagger).await;
            driver.run().await
        });
    }
    let mut riders = JoinSet::new();
    tokio::select! {
        broken = first_failure(&mut drivers) => return Err(broken),
        () = wait_for_drivers(config, town) => {}
        () = shutdown.cancelled() => {}
    }
    let profile = if config.steady { profile.steady() } else { profile };
    let rate = Rate {
        rides_per_minute: config.rides_per_minute,
        start_hour: config.start_hour,
        time_scale: config.time_scale,
    };
    let demand = Demand::new(config.seed, profile, town.streets.clone(), rate);
    let until = config.duration_s.map(Duration::from_secs);
    tokio::select! {
        broken = first_failure(&mut drivers) => return Err(broken),
        ended = send_riders(town, demand, until, &mut riders) => ended?,
        () = shutdown.cancelled() => {}
    }
    let drain = Duration::from_secs(config.drain_s);
    tokio::select! {
        broken = first_failure(&mut drivers) => return Err(broken),
        _ = tokio::time::timeout(drain, async { while riders.join_next().await.is_some() {} }) => {}
    }
    let seconds = started.elapsed().as_secs_f64();
    // Whoever is stopped in the middle of a request is counted before the city is.
    riders.shutdown().await;
    drivers.shutdown().await;
    Ok(seconds)
}

/// Drivers never go home by themselves: one who does could not write the journal.
async fn first_failure(drivers: &mut JoinSet<Result<(), GaveUp>>) -> GaveUp {
    loop {
        match drivers.join_next().await {
            Some(Ok(Err(broken))) => return broken,
            Some(Err(err)) => tracing::error!(%err, "a driver's task failed"),
            Some(Ok(Ok(()))) => {}
            None => std::future::pending().await,
        }
    }
}

async fn wait_for_drivers(config: &CityConfig, town: &Town) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let started = Instant::now();
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let wanted = config.on_shift as f64 * DRIVERS_FIRST;
    loop {
        ticks.tick().await;
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let online = town.context.pulse.drivers_online.get() as f64;
        if online >= wanted || started.elapsed() > DRIVERS_WITHIN {
            return;
        }
    }
}

/// Sends riders as they wish, until no wish is left or the time is over.
async fn send_riders(
    town: &Arc<Town>,
    demand: Demand,
    until: Option<Duration>,
    riders: &mut JoinSet<Result<(), GaveUp>>,
) -> Result<(), GaveUp> {
    let start = Instant::now();
    for wish in demand {
        if until.is_some_and(|until| wish.at > until) {
            break;
        }
        tokio::time::sleep_until(start + wish.at).await;
        while let Some(ended) = riders.try_join_next() {
            match ended {
                Ok(ended) => ended?,
                Err(err) => tracing::error!(%err, "a rider's task failed"),
            }
        }
        if riders.len() < RIDES_OPEN_MAX {
            riders.spawn(rider::ride(Arc::clone(town), wish));
        } else {
            town.context.pulse.given_up.add();
        }
    }
    if let Some(until) = until {
        tokio::time::sleep_until(start + until).await;
    } else {
        std::future::pending::<()>().await;
    }
    Ok(())
}

pub(super) async fn send_crowd(
    config: &CityConfig,
    town: &Town,
    shutdown: CancellationToken,
) -> anyhow::Result<Latencies> {
    let numbers = config.on_shift..config.drivers.max(config.on_shift);
    let count = u32::try_from(numbers.end - numbers.start)?;
    if count == 0 {
        return Ok(Latencies::new());
    }
    let walkers = crowd::draw(&town.streets, config.seed, town.run, numbers);
    let pace = fleet::Pace {
        service: town.driver_service.clone(),
        pings_per_s: f64::from(count) / town.ping_every.as_secs_f64(),
        batch: 1,
        lines: config.connections,
        seed: config.seed,
        epoch: town.epoch,
        when_late: fleet::WhenLate::Buffer,
    };
    let ears = fleet::Ears {
        journal: town.context.journal.clone(),
        pulse: Arc::clone(&town.context.pulse),
        shutdown,
    };
    fleet::send(pace, walkers, ears, || tracing::info!(cars = count, "the crowd is on the road"))
        .await
}

pub(super) async fn probe(
    town: &Town,
    nats: Option<async_nats::Client>,
    shutdown: CancellationToken,
) -> Option<Probed> {
    let start = town.streets.draw_place(&mut ChaCha8Rng::seed_from_u64(town.seed));
    let (service, context) = (town.driver_service.clone(), town.context.clone());
    Some(Probe::new(nats?, service, context, start).run(shutdown).await)
}
