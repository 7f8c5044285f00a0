//! The command line: which of loadgen's parts to run, and what its end means for the exit code.

mod args;

use std::{
    future::Future,
    io::{self, Write},
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use common::{auth::Issuer, clock::Clock, telemetry};
use location::roads::{RoadGraph, Speed};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::args::{AuditArgs, Command, DemoArgs, PingArgs, ServiceCommand};
use crate::{
    archive,
    audit::{Marks, Services, Sources, examine},
    city::streets::Streets,
    demo, dlq, payments, pings,
    report::write_json,
    ride::{self, RideConfig},
    sim,
};

/// One Ctrl-C may arrive more than once: from the terminal and from whoever started us.
const SAME_WISH: Duration = Duration::from_secs(1);

/// A ride-sharing dispatch on one machine: without a command, the whole system with a city of
/// phones that drives it, until Ctrl-C, and an audit at the end.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    demo: DemoArgs,
}

/// Runs what the command line asks for. `false`: it ran, and what it found is not good.
///
/// # Errors
/// When it could not run.
pub async fn run(cli: Cli) -> anyhow::Result<bool> {
    match cli.command {
        None => {
            cli.demo.log.start();
            stoppable(|stop| demo::run(cli.demo.demo, stop)).await
        }
        Some(Command::Ride(args)) => {
            args.log.start();
            stoppable(|stop| narrate(args.ride, stop)).await
        }
        Some(Command::City(args)) => {
            args.log.start();
            stoppable(|stop| demo::run_city(args.city, args.audit, stop)).await
        }
        Some(Command::Pings(args)) => {
            args.log.start();
            stoppable(|stop| send_pings(args, stop)).await
        }
        Some(Command::Audit(args)) => {
            args.log.start();
            audit(args).await
        }
        #[cfg(all(unix, feature = "chaos"))]
        Some(Command::Chaos(args)) => {
            args.log.start();
            stoppable(|stop| Box::pin(crate::chaos::run(args.chaos, stop))).await
        }
        Some(Command::Archive(args)) => {
            tokio::task::spawn_blocking(move || archive::run(&args, &mut io::stdout())).await?
        }
        Some(Command::Dlq(config)) => stoppable(|stop| dlq::run_here(config, stop)).await,
        Some(Command::Reconcile(config)) => {
            stoppable(|stop| dlq::reconcile_here(config, stop)).await
        }
        Some(Command::Service(service)) => {
            stoppable(|stop| serve(*service, stop)).await?;
            Ok(true)
        }
        Some(Command::Payments(args)) => {
            args.log.start();
            stoppable(|stop| payments::run(args.payments, stop)).await?;
            Ok(true)
        }
        Some(Command::Sim(args)) => {
            args.log().start();
            tokio::task::spawn_blocking(move || sim::print(&args.sim, &mut io::stdout())).await?
        }
        Some(Command::Keys) => keys(),
    }
}

/// Runs until its end. The first Ctrl-C (or SIGTERM) asks it to stop, the second one aborts.
async fn stoppable<T, F, Fut>(work: F) -> anyhow::Result<T>
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let stop = CancellationToken::new();
    let mut work = Box::pin(work(stop.clone()));
    tokio::select! {
        ended = &mut work => return ended,
        asked = common::shutdown::asked_to_stop() => asked?,
    }
    stop.cancel();
    let again = async {
        tokio::time::sleep(SAME_WISH).await;
        common::shutdown::asked_to_stop().await
    };
    tokio::select! {
        ended = &mut work => ended,
        again = again => {
            again?;
            anyhow::bail!("stopped at once: what was under way is not finished");
        }
    }
}

async fn serve(service: ServiceCommand, stop: CancellationToken) -> anyhow::Result<()> {
    match service {
        ServiceCommand::Driver(config) => {
            telemetry::start(&config.telemetry);
            Box::pin(driver::run(config, stop)).await
        }
        ServiceCommand::Rider(config) => {
            telemetry::start(&config.telemetry);
            Box::pin(rider::run(config, stop)).await
        }
        ServiceCommand::Location(config) => {
            telemetry::start(&config.telemetry);
            Box::pin(location::run(config, stop)).await
        }
        ServiceCommand::Trip(config) => {
            telemetry::start(&config.telemetry);
            Box::pin(trip::run(config, stop)).await
        }
    }
}

async fn narrate(config: RideConfig, stop: CancellationToken) -> anyhow::Result<bool> {
    let examined = ride::run(&config, Box::new(io::stdout()), stop).await?;
    let mut out = io::stdout().lock();
    writeln!(out)?;
    demo::print_verdict(&mut out, &examined)?;
    Ok(demo::is_good(&examined, 1))
}

async fn send_pings(args: PingArgs, stop: CancellationToken) -> anyhow::Result<bool> {
    let streets = streets(args.load.time_scale)?;
    let report = pings::run(&args.load, &streets, stop).await?;
    let mut out = io::stdout().lock();
    report.print(&mut out)?;
    if let Some(file) = &args.json {
        write_json(file, &report)?;
    }
    Ok(report.totals.rejected == 0 && report.lost == 0)
}

async fn audit(args: AuditArgs) -> anyhow::Result<bool> {
    let nats = demo::connect(&args.nats_url, "loadgen-audit").await?;
    let sources = Sources {
        since: Marks::default(),
        journals: args.journals,
        is_whole_city: args.whole_city,
        rider_store: args.rider_store,
        payments: args.payments_url,
        asks_location: args.ask_location,
        services: Services {
            driver: args.driver_urls,
            rider: args.rider_urls,
            trip: args.trip_urls,
        },
        poison: args.poison,
    };
    let examined = examine(&nats, &sources, Instant::now() + demo::SETTLE_WITHIN).await?;
    let mut out = io::stdout().lock();
    if args.coverage {
        demo::print_coverage(&mut out, &examined.verdict.coverage)?;
    }
    demo::print_verdict(&mut out, &examined)?;
    if let Some(file) = &args.json {
        write_json(file, &examined.verdict)?;
    }
    Ok(demo::is_good(&examined, args.expect_completed))
}

fn keys() -> anyhow::Result<bool> {
    let keys = Issuer::generate(Clock::new())?.config();
    let mut out = io::stdout().lock();
    writeln!(out, "AUTH_PUBLIC_KEY={}", keys.auth_public_key)?;
    writeln!(out, "DEV_ISSUER_KEY={}", keys.dev_issuer_key.unwrap_or_default())?;
    Ok(true)
}

/// The streets of the default city, with cars as fast as `location` expects them.
pub(crate) fn streets(time_scale: f64) -> anyhow::Result<Streets> {
    let speed = Speed::CONGESTED
        .times(time_scale)
        .with_context(|| format!("a time scale of {time_scale}"))?;
    Streets::new(RoadGraph::gothenburg()?.with_speed(speed))
}

/// A time as people write it: `90`, `120s`, `10m`, `1h`.
///
/// # Errors
/// When it is not one.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time such as `120s`, `10m` or `1h`");
    let (digits, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(digits) => (digits, text.chars().next_back()),
        None => (text, Some('s')),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        Some('m') => 60,
        Some('h') => 3600,
        _ => 1,
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::{Cli, duration};
    use clap::{CommandFactory as _, Parser as _};
    use std::time::Duration;

    #[test]
    fn the_command_line_is_consistent_and_every_flag_is_explained() {
        let mut cli = Cli::command();
        cli.build();
        cli.clone().debug_assert();
        for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
            for flag in command.get_arguments() {
                assert!(flag.get_help().is_some(), "{} --{}", command.get_name(), flag.get_id());
            }
        }
    }

    #[test]
    fn the_demo_needs_no_arguments() {
        assert!(Cli::try_parse_from(["loadgen"]).is_ok());
        let smoke = ["loadgen", "--duration", "120s", "--expect-completed", "10", "--json", "x"];
        assert!(Cli::try_parse_from(smoke).is_ok());
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let read = ["90", "120s", "10m", "1h"].map(|text| duration(text).unwrap().as_secs());
        assert_eq!(read, [90, 120, 600, 3600]);
        assert!(["", "s", "1d", "-5s", "1.5m"].iter().all(|text| duration(text).is_err()));
        assert_eq!(duration("0").unwrap(), Duration::ZERO);
    }
}
