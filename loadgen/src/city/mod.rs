//! The simulated city: drivers on shift who take rides, a crowd of cars that are only on the map,
//! and riders who come as people do. It knows the services by their HTTP alone.

mod config;
pub mod crowd;
mod demand;
mod driver;
mod live;
pub mod motion;
mod profile;
mod rider;
pub mod streets;
mod town;
mod tracker;
mod views;

use std::{sync::Arc, time::Duration};

use common::clock::machine_time;
use serde::Serialize;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use config::CityConfig;
pub use demand::{Demand, Rate, Wish};
pub use profile::Profile;

use self::{streets::Streets, town::Town};
use crate::{
    client::{HttpClient, PhoneContext},
    journal::{Entry, Journal, JournalWriter},
    pulse::{Pulse, Snapshot},
};

/// Tokens that phones ask for at once.
const ISSUING_MAX: usize = 16;
/// What a city has seen.
#[derive(Debug, Clone, Serialize)]
pub struct CityReport {
    /// The run; all identities of its phones are derived from it.
    pub run: Uuid,
    /// What demand was drawn from.
    pub seed: u64,
    /// How long the cars drove.
    pub seconds: f64,
    /// Everything that was counted.
    pub counts: Snapshot,
    /// Accepted points of the probe that no query found.
    pub lost: u64,
}

/// A city that is about to live.
#[derive(Debug)]
pub struct City {
    config: CityConfig,
    town: Arc<Town>,
    writer: JournalWriter,
}

impl City {
    /// A city along these streets, whose cars move at the streets' speed.
    ///
    /// # Errors
    /// When the journal cannot be made.
    pub fn new(config: CityConfig, streets: Streets) -> anyhow::Result<Self> {
        let (journal, writer) = Journal::create(&config.journal)?;
        let context = PhoneContext {
            http: HttpClient::new(config.connections),
            journal,
            pulse: Arc::new(Pulse::default()),
            issuing: Arc::new(Semaphore::new(ISSUING_MAX)),
        };
        let town = Town {
            streets,
            context,
            driver_service: config.driver_url.clone(),
            rider_service: config.rider_url.clone(),
            run: common::id::SessionId::fresh().0,
            seed: config.seed,
            epoch: Instant::now(),
            time_scale: config.time_scale,
            ping_every: Duration::from_millis(config.ping_every_ms.max(1)),
            kerb: town::Kerb::default(),
        };
        Ok(Self { config, town: Arc::new(town), writer })
    }

    /// To look at the city while it lives.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress(Arc::clone(&self.town))
    }

    /// Lives until `shutdown` or the end of its time, then lets rides under way end. With a
    /// connection to the broker it also measures how soon an accepted ping can be found.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn run(
        self,
        nats: Option<async_nats::Client>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<CityReport> {
        let Self { config, town, writer } = self;
        let entry = Entry::Run { at: machine_time(), run: town.run, seed: town.seed };
        town.context.journal.append(&entry).await?;
        let end = CancellationToken::new();
        let profile = Profile::measured()?;
        let people = async {
            let lived = live::live(&config, &town, profile, &shutdown).await;
            end.cancel();
            lived
        };
        let crowd = live::send_crowd(&config, &town, end.clone());
        let probe = live::probe(&town, nats, end.clone());
        let (seconds, crowd, probed) = tokio::join!(people, crowd, probe);
        let pulse = &town.context.pulse;
        pulse.add_latencies("ping POST", &crowd?);
        let lost = probed.map_or(0, |probed| {
            pulse.add_latencies("ping accepted to queryable", &probed.queryable);
            probed.lost
        });
        let counts = pulse.snapshot(town.context.journal.pings().totals());
        tokio::task::spawn_blocking(move || writer.finish()).await??;
        Ok(CityReport { run: town.run, seed: town.seed, seconds: seconds?, counts, lost })
    }
}

/// A look at a living city. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Town>);

impl Progress {
    /// What was counted so far.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.0.context.pulse.snapshot(self.0.context.journal.pings().totals())
    }

    /// The live counters themselves.
    #[must_use]
    pub fn pulse(&self) -> &Pulse {
        &self.0.context.pulse
    }

    /// How the pings were answered so far.
    #[must_use]
    pub fn pings(&self) -> crate::journal::PingTotals {
        self.0.context.journal.pings().totals()
    }
}
