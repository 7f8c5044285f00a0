//! The city that drives the system: the demo, load, one narrated ride, and any of the services.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(loadgen::cli::run(loadgen::cli::Cli::parse())).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            // Where even standard error is gone there is nobody to tell.
            drop(writeln!(std::io::stderr(), "error: {err:#}"));
            ExitCode::FAILURE
        }
    }
}
