//! How fast the storm may hurt: one replica of a service at a time, few services at a time, and the
//! next death of a service only once it has worked off what the last one left lying, so that rides go
//! on meanwhile, as they do under an orchestrator that replaces what died.

use std::time::Duration;

use tokio::{
    sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit},
    time::Instant,
};

use super::{heal, system::System};
use crate::client::HttpClient;

/// Services of which a replica may be away at the same time.
const HURT_MAX: usize = 3;
/// A service whose replicas are not all ready by then may be hurt again. Long, because whoever kills a
/// replica while another one still reads what it has to know takes the whole service away.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// One that is ready and has not worked off its messages by then may be hurt again, too.
const WORKED_OFF_WITHIN: Duration = Duration::from_secs(4);
/// A look that takes longer finds nothing worked off.
const LOOK_WITHIN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Gives out turns.
#[derive(Debug)]
pub(super) struct Pace<'a> {
    system: &'a System,
    http: HttpClient,
    services: Vec<(&'static str, Mutex<()>)>,
    hurt: Semaphore,
}

/// The right to hurt a replica of one service.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pace: &'a Pace<'a>,
    service: &'static str,
    _alone: Option<MutexGuard<'a, ()>>,
    _place: Option<SemaphorePermit<'a>>,
}

impl<'a> Pace<'a> {
    pub(super) fn new(system: &'a System) -> Self {
        let mut services: Vec<(&'static str, Mutex<()>)> = Vec::new();
        for node in &system.nodes {
            let service = node.replica.plan.service;
            if !services.iter().any(|(known, _)| *known == service) {
                services.push((service, Mutex::default()));
            }
        }
        Self { system, http: HttpClient::new(1), services, hurt: Semaphore::new(HURT_MAX) }
    }

    /// Waits for the right to hurt this service.
    pub(super) async fn turn(&'a self, service: &'static str) -> Turn<'a> {
        let lock = self.services.iter().find(|(known, _)| *known == service);
        let alone = match lock {
            Some((_, lock)) => Some(lock.lock().await),
            None => None,
        };
        // It is never closed.
        let place = self.hurt.acquire().await.ok();
        Turn { pace: self, service, _alone: alone, _place: place }
    }

    async fn is_ready(&self, service: &str) -> bool {
        !self.system.not_ready(&self.http).await.iter().any(|name| name.starts_with(service))
    }

    async fn is_worked_off(&self, service: &str) -> bool {
        self.is_ready(service).await
            && matches!(heal::lagging(&self.system.nats, service).await, Ok(None))
    }
}

impl Turn<'_> {
    /// Ends when all replicas of the service are ready and its consumers have no old messages; or
    /// after a while, because under errors that never stop there may always be one.
    pub(super) async fn work_off(&self) {
        self.until_ready(|| false).await;
        look_until(WORKED_OFF_WITHIN, || self.pace.is_worked_off(self.service)).await;
    }

    /// Ends when all replicas of the service are ready, or when this is so before.
    pub(super) async fn until_ready(&self, or: impl Fn() -> bool) {
        look_until(READY_WITHIN, async || or() || self.pace.is_ready(self.service).await).await;
    }
}

async fn look_until(within: Duration, look: impl AsyncFn() -> bool) {
    let asked = Instant::now();
    while asked.elapsed() < within {
        if tokio::time::timeout(LOOK_WITHIN, look()).await.unwrap_or(false) {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
