//! One ride from beginning to end, told as it happens: what phones ask for, and every message that
//! it leads to, in the order in which the broker had them. Nothing is simulated but the people.

mod cast;
mod script;
mod teller;

use std::{io, sync::Arc, time::Duration};

use anyhow::Context as _;
use common::broker::Fsync;
use rider::store::Place;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use self::teller::Teller;
use crate::{
    audit::{Examined, Marks, Sources, examine, settle},
    client::{HttpClient, PhoneContext},
    demo::{Deployment, Plan, RunDir},
    journal::Journal,
    pulse::Pulse,
};

/// A ride that takes longer is stuck.
const RIDE_WITHIN: Duration = Duration::from_secs(120);
const SETTLE_WITHIN: Duration = Duration::from_secs(30);
/// The cars of the story jump from corner to corner, so their pings are believed at such speeds.
const JUMP_SCALE: f64 = 100.0;

/// The journal of a ride's phones.
pub const JOURNAL: &str = "journal.jsonl";

/// `loadgen ride`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RideConfig {
    /// What the places of the story are drawn from.
    #[arg(long, default_value_t = 3)]
    pub seed: u64,
    /// Print the events alone, without what phones do and see.
    #[arg(long)]
    pub events_only: bool,
}

/// Tells a ride to `out` and audits it.
///
/// # Errors
/// When the system cannot be started, or the ride gets stuck.
pub async fn run(
    config: &RideConfig,
    out: Box<dyn io::Write + Send>,
    shutdown: CancellationToken,
) -> anyhow::Result<Examined> {
    let dir = RunDir::open(None)?;
    let plan =
        Plan { plausible_scale: JUMP_SCALE, fsync: Fsync::BeforeAck, ..Plan::new(dir.path()) };
    let mut deployment = Box::pin(Deployment::start(&plan, &mut |_| ())).await?;
    let told = async {
        tokio::select! {
            told = tokio::time::timeout(RIDE_WITHIN, tell(config, &deployment, dir.path(), out)) => {
                told.with_context(|| format!("the ride did not end within {RIDE_WITHIN:?}"))?
            }
            () = shutdown.cancelled() => Err(anyhow::anyhow!("stopped")),
        }
    };
    let told = Box::pin(told).await;
    let told = match told {
        Ok(told) => Ok(told),
        // Where a service died, that is the reason.
        Err(err) => match deployment.dead().await {
            Some(reason) => Err(reason.context(err)),
            None => Err(err),
        },
    };
    let stopped = deployment.stop().await;
    let told = told?;
    stopped?;
    Ok(told)
}

/// Tells a ride in a deployment that runs, with its journal in `dir`, and audits it.
///
/// # Errors
/// When the ride gets stuck.
pub async fn tell(
    config: &RideConfig,
    deployment: &Deployment,
    dir: &std::path::Path,
    out: Box<dyn io::Write + Send>,
) -> anyhow::Result<Examined> {
    let nats = deployment.connect("loadgen-ride").await?;
    let marks = Marks::now(&nats).await?;
    let journal_file = dir.join(JOURNAL);
    let (journal, writer) = Journal::create(&journal_file)?;
    let context = PhoneContext {
        http: HttpClient::new(4),
        journal,
        pulse: Arc::new(Pulse::default()),
        issuing: Arc::new(Semaphore::new(1)),
    };
    let teller = Teller::new(!config.events_only);
    let over = CancellationToken::new();
    let play = async {
        let played = script::play(config.seed, &deployment.addresses, &context, &teller).await;
        // What the story leads to is told as well.
        if played.is_ok() {
            let deadline = Instant::now() + SETTLE_WITHIN;
            settle(&nats, Some(&Place::File(deployment.rider_store.clone())), deadline).await?;
        }
        over.cancel();
        played
    };
    tokio::try_join!(play, teller.run(&nats, out, over.clone()))?;
    drop(context);
    tokio::task::spawn_blocking(move || writer.finish()).await??;
    let sources = Sources {
        is_whole_city: true,
        ..Sources::of_deployment(
            marks,
            &journal_file,
            &deployment.rider_store,
            &deployment.addresses,
        )
    };
    examine(&nats, &sources, Instant::now() + SETTLE_WITHIN).await
}
