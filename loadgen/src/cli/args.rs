//! Every command and its flags.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use common::telemetry::{self, TelemetryConfig};

use crate::{
    archive::ArchiveArgs,
    audit::Poison,
    city::CityConfig,
    client::Service,
    demo::{CityAudit, DemoConfig},
    dlq::{DlqConfig, ReconcileConfig},
    payments::PaymentsConfig,
    pings::PingLoad,
    ride::RideConfig,
    sim::SimArgs,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Tell one ride from the request to the receipt, message by message.
    Ride(RideArgs),
    /// Drive a city of phones against services that already run.
    City(CityArgs),
    /// Put nothing but pings on the driver gateway, at a given rate.
    Pings(PingArgs),
    /// Compare what was promised, stored, charged and counted.
    Audit(AuditArgs),
    /// Make everything fail on purpose, and audit that nothing was lost and nothing doubled.
    #[cfg(all(unix, feature = "chaos"))]
    Chaos(ChaosArgs),
    /// Look into the archive of trips that have left the log.
    Archive(ArchiveArgs),
    /// Look at messages that could not be handled, send them back, or discard them.
    Dlq(DlqConfig),
    /// Compare what was charged with what the log says is owed.
    Reconcile(ReconcileConfig),
    /// Run one of the services.
    #[command(subcommand)]
    Service(Box<ServiceCommand>),
    /// Run the payment sandbox.
    Payments(PaymentsArgs),
    /// Run the system in virtual time, from seeds, with faults.
    Sim(SimCommand),
    /// Make a pair of keys for development and print them as settings.
    Keys,
}

#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// The gateway for drivers, and their duty.
    Driver(driver::Config),
    /// The gateway for riders, and payments.
    Rider(rider::Config),
    /// Where drivers are, and roads.
    Location(location::Config),
    /// The life of trips, and dispatch.
    Trip(trip::Config),
}

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// What to log, such as `info` or `warn,trip=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "warn")]
    pub(super) log: String,
}

impl LogArgs {
    /// Starts logging.
    pub(super) fn start(&self) {
        telemetry::start(&TelemetryConfig { log: self.log.clone(), log_json: false });
    }
}

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    #[command(flatten)]
    pub(super) demo: DemoConfig,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, Args)]
pub(super) struct RideArgs {
    #[command(flatten)]
    pub(super) ride: RideConfig,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, Args)]
pub(super) struct CityArgs {
    #[command(flatten)]
    pub(super) city: CityConfig,
    #[command(flatten)]
    pub(super) audit: CityAudit,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, Args)]
pub(super) struct PingArgs {
    #[command(flatten)]
    pub(super) load: PingLoad,
    /// Write the report as JSON into this file, too.
    #[arg(long)]
    pub(super) json: Option<PathBuf>,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// The broker that has the log.
    #[arg(long, env = "NATS_URL")]
    pub(super) nats_url: String,
    /// A journal of phones; once for each of those that sent pings to these services. What phones
    /// were promised is not compared if left out.
    #[arg(long = "journal")]
    pub(super) journals: Vec<PathBuf>,
    /// These journals are of all phones that there are: what none of them has tried must not be in
    /// the log.
    #[arg(long)]
    pub(super) whole_city: bool,
    /// The rider service's store, a file or an address of PostgreSQL; the ledger is not compared if left out.
    #[arg(long, env = "RIDER_STORE")]
    pub(super) rider_store: Option<rider::store::Place>,
    /// The payment sandbox; its list is not compared if left out.
    #[arg(long, env = "PAYMENTS_URL")]
    pub(super) payments_url: Option<Service>,
    /// Gateways of the `driver` service, all replicas; what it answers is not compared if left out.
    #[arg(long = "driver-url")]
    pub(super) driver_urls: Vec<Service>,
    /// Gateways of the `rider` service, all replicas; what it answers is not compared if left out.
    #[arg(long = "rider-url")]
    pub(super) rider_urls: Vec<Service>,
    /// Gateways of the `trip` service, all replicas; what it answers is not compared if left out.
    #[arg(long = "trip-url")]
    pub(super) trip_urls: Vec<Service>,
    /// Ask `location`, over the broker, what it takes drivers to be doing, and compare that.
    #[arg(long)]
    pub(super) ask_location: bool,
    /// A message that was made to fail, as `STREAM:SEQUENCE`; once for each.
    #[arg(long)]
    pub(super) poison: Vec<Poison>,
    /// Print how often every row of the rules' tables was gone through.
    #[arg(long)]
    pub(super) coverage: bool,
    /// Write the verdict as JSON into this file, too.
    #[arg(long)]
    pub(super) json: Option<PathBuf>,
    /// Fail if fewer rides than this were completed.
    #[arg(long, default_value_t = 0)]
    pub(super) expect_completed: u64,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[cfg(all(unix, feature = "chaos"))]
#[derive(Debug, Args)]
pub(super) struct ChaosArgs {
    #[command(flatten)]
    pub(super) chaos: crate::chaos::ChaosConfig,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, Args)]
pub(super) struct SimCommand {
    #[command(flatten)]
    pub(super) sim: SimArgs,
    /// What the services log, such as `warn`: by default nothing where many seeds run, and warnings
    /// where one runs with its history.
    #[arg(long, env = "RUST_LOG")]
    log: Option<String>,
}

impl SimCommand {
    /// Services that are killed a hundred times a minute have much to complain about.
    pub(super) fn log(&self) -> LogArgs {
        let quiet = if self.sim.seed.is_some() { "warn" } else { "off" };
        LogArgs { log: self.log.clone().unwrap_or_else(|| quiet.to_owned()) }
    }
}

#[derive(Debug, Args)]
pub(super) struct PaymentsArgs {
    #[command(flatten)]
    pub(super) payments: PaymentsConfig,
    #[command(flatten)]
    pub(super) log: LogArgs,
}
