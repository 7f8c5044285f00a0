//! Drivers of whom nothing is heard: their offers end, their duty ends. `location` only says so, by
//! a command; what follows is `driver`'s.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use common::{
    clock::Timestamp,
    contract::v1,
    driver_commands::{self, Outgoing},
    event_store::Cause,
    id::DriverId,
    log::LogPort,
    nats::Nats,
};
use tokio_util::sync::CancellationToken;

use crate::{
    city::City,
    domain::liveness::{DutyState, Loss, LossKind},
};

/// How often silences are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Commands of one look; what is over waits for the next, a second later.
const COMMANDS_MAX: usize = 500;

/// Looks for silent drivers until shutdown. `known_since` is when this process began to know: of
/// whom it has not heard, it cannot say for how long.
pub(crate) async fn run(
    nats: &Nats,
    city: &Arc<City>,
    known_since: Timestamp,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let port = LogPort::from(nats);
    let mut told: HashMap<DriverId, (LossKind, Timestamp)> = HashMap::new();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let lost = find(city, known_since);
        let drivers: HashSet<DriverId> = lost.iter().map(|(driver, _)| *driver).collect();
        told.retain(|driver, _| drivers.contains(driver));
        let is_new = |(driver, loss): &(DriverId, Loss)| {
            told.get(driver) != Some(&(loss.kind, loss.silent_since))
        };
        let new: Vec<_> = lost.into_iter().filter(is_new).take(COMMANDS_MAX).collect();
        for (driver, loss) in new {
            match tell(&port, driver, &loss).await {
                Ok(()) => {
                    told.insert(driver, (loss.kind, loss.silent_since));
                }
                Err(err) => {
                    tracing::warn!(driver.id = %driver, error = %err, "loss not told yet");
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Everyone whose silence is over a limit now.
fn find(city: &City, known_since: Timestamp) -> Vec<(DriverId, Loss)> {
    (0..city.index.driver_count())
        .filter_map(|number| city.index.by_number(number))
        .filter_map(|seen| {
            let silent_since = if seen.heard_at == Timestamp::default() {
                known_since.max(seen.since)
            } else {
                seen.heard_at
            };
            let state = DutyState { activity: seen.activity, since: seen.since };
            let loss = city.patience.lost(silent_since, state, city.watermark(seen.partition))?;
            Some((seen.driver, loss))
        })
        .collect()
}

/// Says that a driver is lost. The same silence is the same command, however often it is said.
///
/// # Errors
/// When the command may not be stored.
pub async fn tell(port: &LogPort, driver: DriverId, loss: &Loss) -> anyhow::Result<()> {
    let silent_s = u32::try_from(loss.silence.as_secs()).unwrap_or(u32::MAX);
    let mark_lost = v1::MarkLost {
        silent_s,
        last_heard_us: loss.silent_since.micros(),
        ends_duty: loss.kind == LossKind::Idle,
    };
    let outgoing = Outgoing {
        driver,
        id: loss.command_id(driver),
        kind: v1::driver_command::Kind::MarkLost(mark_lost),
        source: "location",
        correlation: None,
        cause: Cause::default(),
        ttl: None,
    };
    driver_commands::send(port, outgoing).await?;
    tracing::info!(driver.id = %driver, silent_s, "driver {driver} is lost");
    Ok(())
}
