//! Runs `driver` as a process of its own.

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = driver::Config::parse();
    common::telemetry::start(&config.telemetry);
    common::shutdown::on_signal(|shutdown| driver::run(config, shutdown)).await
}
