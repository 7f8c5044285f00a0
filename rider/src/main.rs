//! Runs `rider` as a process of its own.

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = rider::Config::parse();
    common::telemetry::start(&config.telemetry);
    common::shutdown::on_signal(|shutdown| rider::run(config, shutdown)).await
}
