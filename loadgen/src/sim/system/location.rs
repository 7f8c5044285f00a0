//! `location`, as far as the others notice: who is idle, live or lost, and how far away. Positions
//! are not simulated; how long a way takes is drawn for each driver and pickup.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::location::{
    domain::liveness::{DutyState, Liveness, Patience},
    index::Activity,
    losses, views,
};
use common::{geo::Point, id::DriverId, log::LogPort, stream, subject, view::Start};
use futures_util::{FutureExt as _, future::BoxFuture};
use trip::dispatch::candidates::{Answer, Candidate, Nearby, NoAnswer, Question};

use super::{
    World,
    services::{Kind, Service, Site},
};

/// How often silences are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Shorter than the standard for drivers with an offer, so that an offer can meet a silence.
const PATIENCE: Patience = Patience {
    live: Duration::from_secs(5),
    stale: Duration::from_secs(8),
    idle: Duration::from_secs(301),
    idle_least: Duration::from_secs(65),
};

/// What every driver does, as the log tells it.
#[derive(Debug, Default)]
pub struct Roll(Mutex<BTreeMap<DriverId, DutyState>>);

impl Roll {
    fn idle(&self) -> Vec<(DriverId, DutyState)> {
        self.all().into_iter().filter(|(_, state)| state.activity == Activity::Idle).collect()
    }

    fn all(&self) -> Vec<(DriverId, DutyState)> {
        let drivers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drivers.iter().map(|(driver, state)| (*driver, *state)).collect()
    }
}

pub(super) fn start(site: &Site) {
    let roll = Arc::new(Roll::default());
    let known = Arc::clone(&roll);
    let follow = Arc::clone(&site.world).follow(
        site.host,
        stream::DRIVER,
        subject::DRIVER.events(),
        Start::LastPerSubject,
        move |stored| {
            if let Ok((driver, duty)) = views::duty_of(&stored) {
                known.0.lock().unwrap_or_else(PoisonError::into_inner).insert(driver, duty);
            }
        },
    );
    site.spawn(follow);
    site.spawn(find_lost(Arc::clone(&site.world), site.port.clone(), Arc::clone(&roll)));
    site.open(Service::Location(roll));
}

/// Tells of every silence that is over its limit.
async fn find_lost(world: Arc<World>, port: LogPort, roll: Arc<Roll>) {
    let known_since = world.sim.now();
    loop {
        world.sim.sleep(LOOK_EVERY).await;
        for (driver, state) in roll.all() {
            let now = world.sim.now();
            let heard = world.shared().heard.get(&driver).copied();
            let silent_since = heard.unwrap_or_else(|| known_since.max(state.since));
            if let Some(loss) = PATIENCE.lost(silent_since, state, now)
                && losses::tell(&port, driver, &loss).await.is_ok()
            {
                world.seen("location: mark lost");
            }
        }
    }
}

/// How `trip` asks who is near.
pub(super) struct Asked(pub(super) Arc<World>);

impl Nearby for Asked {
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        within: Duration,
    ) -> BoxFuture<'a, Result<Answer, NoAnswer>> {
        let question = question.clone();
        let asked = self.0.ask(Kind::Location, within, move |world, service| {
            let question = question.clone();
            async move { near(&world, &service, &question) }.boxed()
        });
        async move { asked.await.ok_or(NoAnswer::TooLate) }.boxed()
    }
}

fn near(world: &World, service: &Service, question: &Question) -> Answer {
    let Service::Location(roll) = service else { return Answer::default() };
    let now = world.sim.now();
    let is_live = |driver: &DriverId| {
        let heard = world.shared().heard.get(driver).copied().unwrap_or_default();
        PATIENCE.liveness(heard, now) == Liveness::Live
    };
    let free = roll.idle().into_iter().filter(|(driver, _)| is_live(driver));
    let near = free.filter(|(driver, _)| !question.excluded.contains(driver));
    let mut candidates: Vec<Candidate> = near
        .map(|(driver, state)| {
            let eta_s = eta_s(driver, question.pickup);
            let (position, idle_since) = (question.pickup, Some(state.since));
            Candidate { driver, position, eta_s, distance_m: eta_s * 10, idle_since }
        })
        .collect();
    candidates.sort_by_key(|candidate| (candidate.eta_s, candidate.driver));
    Answer { candidates, is_complete: true }
}

/// From 2 to 12 seconds, the same for the same driver and place.
fn eta_s(driver: DriverId, pickup: Point) -> u32 {
    let (lat, lng) = pickup.to_e7();
    let mixed = driver.0.as_u64_pair().1 ^ u64::from(lat.unsigned_abs() ^ lng.unsigned_abs());
    2 + u32::try_from(mixed % 11).unwrap_or(0)
}
