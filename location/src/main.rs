//! The `location` service as a process.

use clap::Parser as _;
use common::{shutdown, telemetry};
use location::Config;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    telemetry::start(&config.telemetry);
    shutdown::on_signal(|shutdown| location::run(config, shutdown)).await
}
