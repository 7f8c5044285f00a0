//! What this service reads to act on: commands to drivers, and its own timers. It decodes and
//! names; `domain` decides.

use common::{
    consumer::{self, Delivery, Failure},
    contract::{self, v1},
    decider::Recorder as _,
    event_store::{Cause, EventStore, ExecuteError, Loaded},
    id::{CommandId, DriverId},
    nats::Nats,
    scan::{Scan, ScanSpec},
    stream::{self, DRIVER_COMMANDS, DRIVER_TIMERS},
    subject, timer,
    view::Start,
};
use tokio_util::sync::CancellationToken;

use crate::record::{Addressed, DriverDecider};

type Drivers = EventStore<DriverDecider>;

/// Runs every consumer until shutdown.
pub(crate) async fn run(
    nats: &Nats,
    drivers: &Drivers,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let commands = {
        let (nats, drivers) = (nats.clone(), drivers.clone());
        move |delivery: Delivery, _| {
            let (nats, drivers) = (nats.clone(), drivers.clone());
            async move {
                if delivery.is_returned {
                    returned_command(&nats, &drivers, &delivery).await
                } else {
                    command(&drivers, &delivery).await
                }
            }
        }
    };
    let timers = {
        let drivers = drivers.clone();
        move |delivery: Delivery, _| {
            let drivers = drivers.clone();
            async move { due(&drivers, &delivery).await }
        }
    };
    tokio::try_join!(
        consumer::run(nats, DRIVER_COMMANDS, shutdown.clone(), commands),
        consumer::run(nats, DRIVER_TIMERS, shutdown.clone(), timers),
        timer::sweep(nats, drivers.clone(), timer::SWEEP_EVERY, shutdown.clone()),
    )?;
    Ok(())
}

/// A step of the saga, or `location`'s word that a phone is silent.
///
/// # Errors
/// When the message is malformed or the store cannot be reached.
pub async fn command(drivers: &Drivers, delivery: &Delivery) -> Result<(), Failure> {
    let message: v1::DriverCommand = contract::decode("driver command", &delivery.payload)?;
    let Addressed { driver, id, command } = Addressed::try_from(&message)?;
    match drivers.execute(driver, id, &cause(delivery), &command).await {
        Ok(_) => Ok(()),
        // A refusal is an answer: whoever sent the command reads the driver's events.
        Err(ExecuteError::Rejected { rejection, .. }) => {
            tracing::debug!(driver.id = %driver, ?rejection, "command refused");
            Ok(())
        }
        Err(err) => Err(err.into()),
    }
}

/// A command that comes back from the dead letters. A driver remembers the last commands only, and
/// what was put aside may have been carried out long before that: the whole history tells.
///
/// # Errors
/// When the message is malformed or the log cannot be read.
pub async fn returned_command(
    nats: &Nats,
    drivers: &Drivers,
    delivery: &Delivery,
) -> Result<(), Failure> {
    let message: v1::DriverCommand = contract::decode("driver command", &delivery.payload)?;
    let Addressed { driver, id, .. } = Addressed::try_from(&message)?;
    if was_carried_out(nats, driver, id).await.map_err(Failure::Transient)? {
        tracing::info!(driver.id = %driver, command.id = %id, "was carried out before");
        return Ok(());
    }
    command(drivers, delivery).await
}

async fn was_carried_out(nats: &Nats, driver: DriverId, id: CommandId) -> anyhow::Result<bool> {
    let spec = ScanSpec {
        stream: stream::DRIVER,
        filters: vec![subject::DRIVER.history(nats.partitions, driver.into())],
        start: Start::After(0),
        headers_only: false,
    };
    let mut scan = Scan::open(nats, spec).await?;
    while let Some(stored) = scan.next().await? {
        let recorded = DriverDecider::decode(&stored.payload)?;
        let then = Loaded::<DriverDecider>::from_recorded(recorded, stored.sequence);
        if then.made_by(id).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A timer of a driver.
///
/// # Errors
/// When the message is malformed or the store cannot be reached.
pub async fn due(drivers: &Drivers, delivery: &Delivery) -> Result<(), Failure> {
    Ok(timer::on_due(drivers, &delivery.payload, &cause(delivery)).await?)
}

fn cause(delivery: &Delivery) -> Cause {
    delivery.envelope().as_ref().map(Cause::from).unwrap_or_default()
}
