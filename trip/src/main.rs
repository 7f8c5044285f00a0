//! Runs `trip` as a process of its own.

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = trip::Config::parse();
    common::telemetry::start(&config.telemetry);
    common::shutdown::on_signal(|shutdown| trip::run(config, shutdown)).await
}
