//! A driver on shift. The phone shows what the gateway says is true; the driver looks at it, makes
//! up their mind, and does the next thing when its time has come. Nothing else is remembered, so
//! that a phone that died goes on from `GET /v1/driver/state`.

mod acts;
mod mind;

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rand_distr::{Distribution, Exp1};
use tokio::time::Instant;
use uuid::Uuid;

use self::mind::{Mind, Situation, Step};
use super::{
    crowd,
    motion::Car,
    town::Town,
    tracker::Tracker,
    views::{DriverTrip, DriverView, Duty, StateChange, Status, ms},
};
use crate::client::{Feed, GaveUp, Phone, Role, SseEvent};

/// How long an app repeats a command before it tells its driver.
const PATIENCE: Duration = Duration::from_secs(60);
/// A phone loses the network so often, in driver hours of the city's time.
const HOURS_BETWEEN_LOSSES: f64 = 10.0;
const LOSS_S: std::ops::Range<f64> = 30.0..300.0;
const DEAD_S: std::ops::Range<f64> = 5.0..40.0;
/// In the city's time.
const BREAK_MINUTES: std::ops::Range<f64> = 10.0..30.0;

pub(super) struct Driver {
    town: Arc<Town>,
    phone: Arc<Phone>,
    tracker: Arc<Tracker>,
    feed: Feed,
    rng: ChaCha8Rng,
    mind: Mind,
    situation: Situation,
    step: Step,
    due: Instant,
    next_loss: Instant,
    no_show_at: Option<Instant>,
    is_online: bool,
    /// Newest versions seen, of the driver and of the trip: what is older comes late.
    newest: (u64, Option<(Uuid, u64)>),
}

impl Driver {
    /// The driver of this number, somewhere in town.
    pub(super) fn new(town: &Arc<Town>, number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(town.seed ^ number.wrapping_mul(0x9E37_79B9));
        let id = crowd::driver_id(town.run, number);
        let context = town.context.clone();
        let phone = Arc::new(Phone::new(Role::Driver, id, town.driver_service.clone(), context));
        let car = Car::parked(town.streets.draw_place(&mut rng));
        let skew_us = crowd::draw_skew_us(&mut rng);
        let tracker = Tracker::new(Arc::clone(&phone), Arc::clone(town), car, skew_us);
        let mut driver = Self {
            town: Arc::clone(town),
            feed: Feed::new(Arc::clone(&phone), "/v1/driver/events"),
            phone,
            tracker: Arc::new(tracker),
            mind: Mind::new(&mut rng),
            rng,
            situation: Situation::Unknown,
            step: Step::Look,
            due: Instant::now(),
            next_loss: Instant::now(),
            no_show_at: None,
            is_online: false,
            newest: (0, None),
        };
        driver.next_loss = driver.draw_next_loss();
        driver
    }

    /// Drives until the future is dropped.
    pub(super) async fn run(mut self) -> Result<(), GaveUp> {
        let tracker = Arc::clone(&self.tracker);
        let dice = self.rng.random();
        tokio::select! {
            () = tracker.run(dice) => Ok(()),
            ended = self.drive() => ended,
        }
    }

    async fn drive(&mut self) -> Result<(), GaveUp> {
        loop {
            tokio::select! {
                event = self.feed.next() => match event {
                    Ok(event) => self.notice(&event),
                    Err(refused) => {
                        let request = "GET /v1/driver/events".to_owned();
                        self.phone.pulse().refused(false, request, refused.status, &refused.code);
                        self.plan(Step::Look, ms(5000));
                    }
                },
                () = tokio::time::sleep_until(self.due) => self.act().await?,
                () = tokio::time::sleep_until(self.next_loss) => self.lose_network(),
            }
        }
    }

    /// An event came: whatever its kind, what it says is now true.
    fn notice(&mut self, event: &SseEvent) {
        let view = match event.event.as_str() {
            "snapshot" => serde_json::from_str::<DriverView>(&event.data),
            "state" => serde_json::from_str::<StateChange>(&event.data).map(|change| change.state),
            _ => return,
        };
        match view {
            Ok(view) => self.look(&view),
            Err(err) => {
                tracing::warn!(%err, event = event.event, "driver's event not understood");
                self.phone.pulse().refused(false, "driver event".to_owned(), 0, "malformed");
            }
        }
    }

    /// Makes up one's mind, unless nothing has changed.
    fn look(&mut self, view: &DriverView) {
        if self.is_late(view) {
            return;
        }
        let was_online = std::mem::replace(&mut self.is_online, view.duty == Duty::Online);
        match (was_online, self.is_online) {
            (false, true) => self.phone.pulse().drivers_online.add(),
            (true, false) => self.phone.pulse().drivers_online.sub(),
            _ => {}
        }
        let situation = Situation::of(view);
        if situation == self.situation {
            return;
        }
        self.situation = situation;
        match situation {
            Situation::Unknown => self.plan(Step::Look, ms(1000)),
            Situation::OffDuty => self.plan(Step::GoOnline, ms(200)),
            Situation::Idle => {
                self.tracker.car(Car::park);
                let (step, after) = self.mind.idle(&mut self.rng);
                self.plan(step, after);
            }
            Situation::Offered { .. } => {
                if let Some(offer) = &view.offer {
                    self.phone.pulse().offers_seen.add();
                    if let Some(asked) = self.town.kerb.take_asked(offer.trip_id) {
                        self.phone.pulse().took("request to offer", asked.elapsed());
                    }
                    let (step, after) = self.mind.consider(offer, &mut self.rng);
                    self.plan(step, after);
                }
            }
            Situation::Confirming { .. } => self.plan(Step::Look, ms(1500)),
            Situation::OnTrip { status, .. } => {
                if let Some(trip) = &view.trip {
                    self.begin(status, trip);
                }
            }
            Situation::Over { .. } => self.plan(Step::Look, ms(3000)),
        }
    }

    /// An answer overtakes events that were under way; what they say is no longer true.
    fn is_late(&mut self, view: &DriverView) -> bool {
        let (driver, trip) = self.newest;
        let seen = view.trip.as_ref().map(|trip| (trip.trip_id, trip.version));
        let is_late = view.version < driver
            || matches!((trip, seen), (Some((a, newest)), Some((b, now))) if a == b && now < newest);
        if !is_late {
            self.newest = (view.version, seen.or(trip));
        }
        is_late
    }

    /// A trip has come to this point: what does the driver do now?
    fn begin(&mut self, status: Status, trip: &DriverTrip) {
        let trip_id = trip.trip_id;
        let goal = match status {
            Status::Assigned => trip.pickup,
            Status::InProgress => trip.dropoff,
            _ => None,
        };
        let streets = &self.town.streets;
        let drive = goal.map(|goal| {
            let arrival = self.tracker.car(|car, now| car.drive_to(goal, streets, now) - now);
            // Nobody stops at the very metre at which the map says so.
            arrival + ms(300)
        });
        match (status, drive) {
            (Status::Assigned, Some(drive)) => {
                let (step, after) = self.mind.on_the_way(trip_id, drive, &mut self.rng);
                self.plan(step, after);
            }
            (Status::InProgress, Some(drive)) => {
                let (step, after) = self.mind.with_rider(trip_id, drive, &mut self.rng);
                self.plan(step, after);
            }
            (Status::Arrived, _) => {
                let wait = trip.no_show_allowed_in_ms.map(Duration::from_millis);
                self.no_show_at = wait.map(|wait| Instant::now() + wait + ms(1000));
                let (step, after) = self.mind.at_the_kerb(trip_id, &mut self.rng);
                self.plan(step, after);
            }
            _ => self.plan(Step::Look, ms(2000)),
        }
    }

    fn plan(&mut self, step: Step, after: Duration) {
        self.step = step;
        self.due = Instant::now() + after;
    }

    fn lose_network(&mut self) {
        self.phone.pulse().network_losses.add();
        let back = Instant::now() + Duration::from_secs_f64(self.rng.random_range(LOSS_S));
        self.phone.signal().lose_until(back);
        self.feed.disconnect();
        self.next_loss = self.draw_next_loss().max(back);
    }

    /// The app dies, forgets everything, and comes back after a while.
    fn die(&mut self) {
        self.phone.pulse().deaths.add();
        let dead = Duration::from_secs_f64(self.rng.random_range(DEAD_S));
        self.phone.signal().lose_until(Instant::now() + dead);
        self.feed = Feed::new(Arc::clone(&self.phone), "/v1/driver/events");
        self.tracker.restart();
        self.situation = Situation::Unknown;
        self.newest = (0, None);
        self.plan(Step::Look, dead);
    }

    fn draw_break(&mut self) -> Duration {
        let minutes = self.rng.random_range(BREAK_MINUTES);
        self.town.scaled(Duration::from_secs_f64(minutes * 60.0))
    }

    fn draw_next_loss(&mut self) -> Instant {
        let hours: f64 = Exp1.sample(&mut self.rng);
        let life = Duration::from_secs_f64(hours * HOURS_BETWEEN_LOSSES * 3600.0);
        Instant::now() + self.town.scaled(life)
    }
}
