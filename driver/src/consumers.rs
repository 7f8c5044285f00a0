//! What this service reads to act on: commands to drivers, and its own timers. It decodes and
//! names; `domain` decides.

use common::{
    consumer::{self, Delivery, Failure},
    contract::{self, v1},
    event_store::{Cause, EventStore, ExecuteError},
    nats::Nats,
    stream::{DRIVER_COMMANDS, DRIVER_TIMERS},
    timer,
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
        let drivers = drivers.clone();
        move |delivery: Delivery, _| {
            let drivers = drivers.clone();
            async move { command(&drivers, &delivery).await }
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
